"""What Claude's own record of a conversation says: JSON lines under its configuration folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

TAIL_BYTES: Final = 512 * 1024


def path(claude: Path, session_id: str) -> Path | None:
    """The session's file, in whatever folder it began."""
    return next((claude / "projects").glob(f"*/{session_id}.jsonl"), None)


def has_conversation(claude: Path, session_id: str) -> bool:
    """Whether there is something to resume: a user's message at least."""
    file = path(claude, session_id)
    if file is None:
        return False
    with file.open("rb") as lines:
        return any(b'"user"' in line and _parsed(line).get("type") == "user" for line in lines)


def size_bytes(claude: Path, session_id: str) -> int:
    """Of the session's file; 0 where there is none."""
    file = path(claude, session_id)
    return file.stat().st_size if file else 0


def has_prompt(claude: Path, session_id: str, prompt_uuid: str, *, from_byte: int = 0) -> bool:
    """Whether the message of this uuid was taken in. A line that was cut off by a crash does not count."""
    file = path(claude, session_id)
    if file is None:
        return False
    needle = prompt_uuid.encode()
    with file.open("rb") as lines:
        lines.seek(from_byte)
        for line in lines:
            if needle in line:
                entry = _parsed(line)
                if entry.get("type") == "user" and entry.get("uuid") == prompt_uuid:
                    return True
    return False


def has_message(claude: Path, session_id: str, message_uuid: str) -> bool:
    """Whether what somebody said under this uuid was taken in: as a message of its own, or while a tool ran, when
    Claude attaches it to the tool's result."""
    file = path(claude, session_id)
    if file is None:
        return False
    needle = message_uuid.encode()
    with file.open("rb") as lines:
        return any(needle in line and _is_message(_parsed(line), message_uuid) for line in lines)


def _is_message(entry: dict[str, Any], message_uuid: str) -> bool:
    attached = entry.get("attachment")
    if entry.get("type") == "attachment" and isinstance(attached, dict):
        return bool(attached.get("source_uuid") == message_uuid)
    return bool(entry.get("type") == "user" and entry.get("uuid") == message_uuid)


def last_usage(claude: Path, session_id: str) -> dict[str, Any]:
    """The tokens of the newest answer of the model, final counts; empty where there is none near the end."""
    file = path(claude, session_id)
    if file is None:
        return {}
    with file.open("rb") as lines:
        lines.seek(max(0, file.stat().st_size - TAIL_BYTES))
        for line in reversed(lines.read().splitlines()):
            if b'"assistant"' in line and (entry := _parsed(line)).get("type") == "assistant":
                message = entry.get("message")
                if isinstance(message, dict) and message.get("model") != "<synthetic>":
                    usage = message.get("usage")
                    return usage if isinstance(usage, dict) else {}
    return {}


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}
