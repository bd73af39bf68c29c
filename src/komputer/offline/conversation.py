"""What of a request's `messages` counts: who said what, without what the Claude CLI adds around it.

Pure. A request body is anybody's JSON, so everything here refuses wrong shapes with `BadRequest`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

_STEERED = re.compile(
    r"<system-reminder>\s*The user sent a new message while you were working:\n(.*?)\n\nThis is how Claude Code",
    re.DOTALL,
)
"""How the CLI hands over what the user says while a tool runs: at the end of the tool's result."""

_REMINDER = re.compile(r"<system-reminder>.*?(?:</system-reminder>|\Z)", re.DOTALL)


MAX_DEPTH = 100
"""How deeply a tool's input may nest objects and arrays: far below what breaks Python's JSON encoder."""


class BadRequest(ValueError):
    """The request cannot be answered; the text tells its sender why. Becomes a 400 `invalid_request_error`."""


@dataclass(frozen=True, kw_only=True)
class Text:
    text: str


@dataclass(frozen=True, kw_only=True)
class ToolUse:
    id: str
    name: str
    input: Any


@dataclass(frozen=True, kw_only=True)
class HistoryEntry:
    """One user or assistant message: its texts without `<system-reminder>` passages, and its tool calls, in order.
    Thinking, images and tool results are left out: clients drop or change them, so nothing may depend on them."""

    role: Literal["user", "assistant"]
    blocks: tuple[Text | ToolUse, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(block.text for block in self.blocks if isinstance(block, Text))


def read(messages: object) -> tuple[HistoryEntry, ...]:
    """The user and assistant messages of a request; `system` messages, which newer models get among them, are
    skipped."""
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages: a list with at least one message is required")
    return tuple(
        HistoryEntry(
            role=message["role"], blocks=_blocks(message.get("content"), message["role"], f"messages.{at}.content")
        )
        for at, message in enumerate(messages)
        if _role(message, at) != "system"
    )


def _role(message: object, at: int) -> str:
    role = message.get("role") if isinstance(message, dict) else None
    if role not in ("user", "assistant", "system"):
        raise BadRequest(f"messages.{at}.role: one of user, assistant, system is required")
    return str(role)


def _blocks(content: object, role: str, where: str) -> tuple[Text | ToolUse, ...]:
    return tuple(found for block in _contents(content, where) for found in _block(block, role))


def _block(block: dict[str, Any], role: str) -> list[Text | ToolUse]:
    match block:
        case {"type": "text", "text": str(text)}:
            spoken = _readable(text if role == "assistant" else _REMINDER.sub("", text))
            return [Text(text=spoken.strip())] if spoken.strip() else []
        case {"type": "tool_use"}:
            return [ToolUse(id=str(block.get("id")), name=str(block.get("name")), input=block.get("input"))]
        case {"type": "tool_result", "content": str(result)}:
            return [Text(text=_readable(steered.strip())) for steered in _STEERED.findall(result)]
        case _:
            return []


def _readable(text: str) -> str:
    """JSON can hold half a surrogate pair, which is no text."""
    return text.encode(errors="replace").decode()


def is_deeper(value: object, levels: int) -> bool:
    """Whether `value` nests more than so many objects and arrays."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return inner is not None and (levels == 0 or any(is_deeper(each, levels - 1) for each in inner))


def _contents(content: object, where: str) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise BadRequest(f"{where}: a string or a list of content blocks is required")
    if any(is_deeper(block.get("input"), MAX_DEPTH) for block in content):
        raise BadRequest(f"{where}: an input nests more than {MAX_DEPTH} objects and arrays")
    return content


def size_tokens(conversation: tuple[HistoryEntry, ...]) -> int:
    """A made-up, repeatable number of input tokens: a quarter of the characters people and model have said. What
    tools answered is not counted, nor what the client adds, so that paths and dates do not change a task's cost."""
    blocks = [block for entry in conversation for block in entry.blocks]
    return tokens(*(block.text if isinstance(block, Text) else json.dumps(block.input) for block in blocks))


def tokens(*texts: str) -> int:
    """A made-up, repeatable number of tokens, at least 1: a quarter of the characters, rounded up."""
    return max(1, -(-sum(map(len, texts)) // 4))
