"""Reads a request's `messages`: the texts and tool calls of user and model, without the Claude CLI's additions.

Pure. Request bodies are arbitrary JSON, so malformed ones raise `BadRequest`.
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
"""The form of a user message that the CLI delivers while a tool runs: it appends the message to the tool's result."""

_REMINDER = re.compile(r"<system-reminder>.*?(?:</system-reminder>|\Z)", re.DOTALL)


MAX_DEPTH = 100
"""How many levels of objects and arrays a tool's input may have; far below the limit of Python's JSON encoder."""


class BadRequest(ValueError):
    """The request cannot be answered; the message explains why. The response is a 400 `invalid_request_error`."""


@dataclass(frozen=True, kw_only=True)
class Text:
    """A text block."""

    text: str


@dataclass(frozen=True, kw_only=True)
class ToolUse:
    """A tool call."""

    id: str
    name: str
    input: Any


@dataclass(frozen=True, kw_only=True)
class HistoryEntry:
    """One user or assistant message: its texts without `<system-reminder>` passages, and its tool calls, in order.
    Thinking, images and tool results are left out: clients drop or change them, so the position in a script must not
    depend on them."""

    role: Literal["user", "assistant"]
    blocks: tuple[Text | ToolUse, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(block.text for block in self.blocks if isinstance(block, Text))


def read(messages: object) -> tuple[HistoryEntry, ...]:
    """Return the user and assistant messages of a request. `system` messages, which newer models accept in the list,
    are skipped."""
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
    """Replace lone surrogates, which JSON can encode but which are not text."""
    return text.encode(errors="replace").decode()


def is_deeper(value: object, levels: int) -> bool:
    """Return whether `value` nests more than `levels` objects and arrays."""
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
    """Return an invented but reproducible number of input tokens: a quarter of the number of characters in the texts of
    user and model. Tool results and the client's additions are not counted, so that paths and dates do not change the
    cost of a task."""
    blocks = [block for entry in conversation for block in entry.blocks]
    return tokens(*(block.text if isinstance(block, Text) else json.dumps(block.input) for block in blocks))


def tokens(*texts: str) -> int:
    """Return an invented but reproducible number of tokens: a quarter of the number of characters, rounded up, at least
    1."""
    return max(1, -(-sum(map(len, texts)) // 4))
