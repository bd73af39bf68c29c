"""What Claude's own record of a conversation says: JSON lines under its configuration folder."""

from __future__ import annotations

import json
from collections.abc import Collection
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
    return bool(taken_in(claude, session_id, [prompt_uuid], from_byte=from_byte))


def taken_in(claude: Path, session_id: str, uuids: Collection[str], *, from_byte: int = 0) -> frozenset[str]:
    """Which of these messages the conversation has: as a turn of its own, as one of several that Claude made one turn
    of, or handed over beside a tool's result."""
    file = path(claude, session_id)
    if file is None or not uuids:
        return frozenset()
    needles, found = [uuid.encode() for uuid in uuids], set[str]()
    with file.open("rb") as lines:
        lines.seek(from_byte)
        for line in lines:
            if any(needle in line for needle in needles):
                found |= _takes_in(_parsed(line))
    return frozenset(uuid for uuid in uuids if uuid in found)


def _takes_in(entry: dict[str, Any]) -> set[str]:
    match entry:
        case {"type": "user", "uuid": str(uuid)}:
            merged = entry.get("mergedSendUuids")
            return {uuid, *(each for each in (merged if isinstance(merged, list) else []) if isinstance(each, str))}
        case {"type": "attachment", "attachment": {"type": "queued_command", "source_uuid": str(uuid)}}:
            return {uuid}
        case _:
            return set()


def compaction(claude: Path, session_id: str, from_byte: int) -> tuple[int, int | None] | None:
    """Tokens before and after the last compaction behind that place of the record, or None."""
    file, found = path(claude, session_id), None
    if file is not None:
        with file.open("rb") as lines:
            lines.seek(from_byte)
            for line in lines:
                if b'"compact_boundary"' in line and (entry := _parsed(line)).get("subtype") == "compact_boundary":
                    told = entry.get("compactMetadata")
                    told = told if isinstance(told, dict) else {}
                    before, after = told.get("preTokens"), told.get("postTokens")
                    found = (before if isinstance(before, int) else 0, after if isinstance(after, int) else None)
    return found


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
