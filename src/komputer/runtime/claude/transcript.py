"""Reads Claude's own record of a conversation: JSON lines below its configuration folder."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

TAIL_BYTES: Final = 512 * 1024
LIMIT_BYTES: Final = 2**30
"""The largest transcript that is read. The conversation of a larger one is considered lost."""


def path(claude: Path, session_id: str) -> Path | None:
    """Return the path of the session's file, in any project folder. None if there is no regular file within
    `LIMIT_BYTES`, or if the agent has made the folders unreadable."""
    with contextlib.suppress(OSError):
        for folder in (claude / "projects").iterdir():
            file = folder / f"{session_id}.jsonl"
            with contextlib.suppress(OSError, ValueError):  # ValueError: a null character in the id
                found = file.lstat()
                if stat.S_ISREG(found.st_mode) and found.st_size <= LIMIT_BYTES:
                    return file
    return None


def has_conversation(claude: Path, session_id: str) -> bool:
    """Whether the session can be resumed: it has at least one user message."""
    return any(b'"user"' in line and _parsed(line).get("type") == "user" for line in _lines(claude, session_id))


def size_bytes(claude: Path, session_id: str) -> int:
    """Return the size of the session's file; 0 if there is none."""
    file = path(claude, session_id)
    with contextlib.suppress(OSError):
        return file.stat().st_size if file else 0
    return 0


def has_prompt(claude: Path, session_id: str, prompt_uuid: str, *, from_byte: int = 0) -> bool:
    """Whether Claude has recorded the message with this uuid completely: an incomplete last line is ignored."""
    needle = prompt_uuid.encode()
    for line in _lines(claude, session_id, from_byte):
        if needle in line:
            entry = _parsed(line)
            if entry.get("type") == "user" and entry.get("uuid") == prompt_uuid:
                return True
    return False


def has_message(claude: Path, session_id: str, message_uuid: str) -> bool:
    """Whether Claude has recorded a message to the running task: as a user message, or attached to the result of a tool
    that was running."""
    needle = message_uuid.encode()
    return any(needle in line and _is_message(_parsed(line), message_uuid) for line in _lines(claude, session_id))


def _lines(claude: Path, session_id: str, from_byte: int = 0) -> Iterator[bytes]:
    """Yield the lines of the session's file, as far as it can be read. It is opened without blocking, since the agent
    may replace it by a pipe."""
    file = path(claude, session_id)
    if file is None:
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as lines:
            lines.seek(from_byte)
            yield from lines


def _is_message(entry: dict[str, Any], message_uuid: str) -> bool:
    attached = entry.get("attachment")
    if entry.get("type") == "attachment" and isinstance(attached, dict):
        return bool(attached.get("source_uuid") == message_uuid)
    return bool(entry.get("type") == "user" and entry.get("uuid") == message_uuid)


def last_usage(claude: Path, session_id: str) -> dict[str, Any]:
    """Return the final token counts of the model's last answer; empty if no answer is near the end of the file."""
    newest: dict[str, Any] = {}
    for line in _lines(claude, session_id, max(0, size_bytes(claude, session_id) - TAIL_BYTES)):
        if b'"assistant"' in line and (entry := _parsed(line)).get("type") == "assistant":
            message = entry.get("message")
            if isinstance(message, dict) and message.get("model") != "<synthetic>":
                usage = message.get("usage")
                newest = usage if isinstance(usage, dict) else {}
    return newest


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return entry if isinstance(entry, dict) else {}
