"""From what Claude's SDK says to our events. Pure: the state goes in and comes out, the time is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from komputer.events.types import Compaction, Event, Retry, Said, Thinking, ToolCall, ToolResult, clipped
from komputer.runtime.ledger import fitting

if TYPE_CHECKING:
    from claude_agent_sdk import AssistantMessage, Message, SystemMessage, UserMessage

SYNTHETIC: Final = "<synthetic>"
"""The model's name of messages that Claude's own process made up: errors, and answers that were not needed."""
INPUT_LIMIT_BYTES: Final = 128 * 1024
"""Of a tool's input as JSON, after its long strings were cut. The gateway empties an input where the event is over
256 KiB; we keep its simple fields before it comes to that."""


class OpenCall(NamedTuple):
    tool: str
    input: dict[str, Any]
    started_s: float


@dataclass(frozen=True, kw_only=True)
class Telling:
    """What must be remembered from message to message. Times are of one clock, in seconds."""

    task_id: str
    calls: Mapping[str, OpenCall] = field(default_factory=dict)
    """Tool calls without a result."""
    api_error: str | None = None
    """Claude's word for the last error of the API, until the model answers again."""
    compact_error: str | None = None
    """Why Claude could not compact the conversation."""
    usage: Mapping[str, Any] = field(default_factory=dict)
    """Of the last answer, as its beginning gave it: the input is final, the output is not."""
    steps: int = 0
    """Tool results so far."""


def tell(telling: Telling, message: Message, now_s: float) -> tuple[Telling, list[Event]]:
    """The state after this message, and the events that it is. How a task ends is `ending`'s."""
    from claude_agent_sdk import AssistantMessage, SystemMessage, UserMessage

    match message:
        case AssistantMessage():
            return _assistant(telling, message, now_s)
        case UserMessage():
            return _user(telling, message, now_s)
        case SystemMessage():
            failed = message.data.get("compact_error") if message.subtype == "status" else None
            telling = replace(telling, compact_error=failed) if isinstance(failed, str) else telling
            return telling, _system(telling.task_id, message)
        case _:
            return telling, []


def _assistant(telling: Telling, message: AssistantMessage, now_s: float) -> tuple[Telling, list[Event]]:
    from claude_agent_sdk import TextBlock, ThinkingBlock, ToolUseBlock

    if message.model == SYNTHETIC:
        return replace(telling, api_error=message.error or telling.api_error), []
    telling = replace(telling, api_error=None)
    if message.usage and message.parent_tool_use_id is None:
        telling = replace(telling, usage=message.usage)
    events: list[Event] = []
    for block in message.content:
        match block:
            case TextBlock(text=text) if text.strip():
                events.append(Said(task_id=telling.task_id, content=fitting(text)))
            case ThinkingBlock(thinking=thought) if thought.strip():
                events.append(Thinking(task_id=telling.task_id, content=fitting(thought)))
            case ToolUseBlock():
                call = OpenCall(block.name, _bounded(block.input), now_s)
                telling = replace(telling, calls={**telling.calls, block.id: call})
                events.append(ToolCall(task_id=telling.task_id, id=block.id, tool=call.tool, input=call.input))
    return telling, events


def _user(telling: Telling, message: UserMessage, now_s: float) -> tuple[Telling, list[Event]]:
    from claude_agent_sdk import ToolResultBlock

    if isinstance(message.content, str):
        return telling, []
    events: list[Event] = []
    for block in message.content:
        if not isinstance(block, ToolResultBlock):
            continue
        call = telling.calls.get(block.tool_use_id, OpenCall("unknown", {}, now_s))
        left = {key: value for key, value in telling.calls.items() if key != block.tool_use_id}
        telling = replace(telling, calls=left, steps=telling.steps + 1)
        events.append(
            ToolResult(
                task_id=telling.task_id,
                id=block.tool_use_id,
                tool=call.tool,
                input=call.input,
                output=fitting(_as_text(block.content)),
                is_error=bool(block.is_error),
                duration_ms=max(0, round(1000 * (now_s - call.started_s))),
            )
        )
    return telling, events


def _system(task_id: str, message: SystemMessage) -> list[Event]:
    data = message.data
    if message.subtype == "api_retry":
        status = data.get("error_status")
        return [
            Retry(
                task_id=task_id,
                attempt=_count(data.get("attempt")),
                max_retries=_count(data.get("max_retries")),
                delay_ms=_count(data.get("retry_delay_ms")),
                status=status if isinstance(status, int) else None,
            )
        ]
    if message.subtype == "compact_boundary":
        told = data.get("compact_metadata")
        told = told if isinstance(told, dict) else {}
        after = told.get("post_tokens")
        return [
            Compaction(
                task_id=task_id,
                trigger=str(told.get("trigger") or "auto"),
                tokens_before=_count(told.get("pre_tokens")),
                tokens_after=_count(after) if after is not None else None,
            )
        ]
    return []


def _as_text(content: str | list[dict[str, Any]] | None) -> str:
    """A tool's answer as people read it; what is not text is named."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(
        str(part.get("text", "")) if part.get("type") == "text" else f"[{part.get('type', 'unknown')}]"
        for part in content
    )


def _bounded(given: dict[str, Any]) -> dict[str, Any]:
    """The input, or only its simple fields where even its cut form would be too large for an event."""
    cut = clipped(ToolCall(task_id="-", id="-", tool="-", input=given))
    if len(cut.model_dump_json()) <= INPUT_LIMIT_BYTES:
        return given
    simple = {key: value for key, value in list(given.items())[:20] if isinstance(value, str | int | float | bool)}
    return {**simple, "omitted": f"{len(given) - len(simple)} fields: this input is larger than an event may be"}


def _count(value: object) -> int:
    return max(0, round(value)) if isinstance(value, int | float) else 0
