"""From what Claude's SDK says to our events. Pure: the state goes in and comes out, the time is given.

The SDK checks no types: a model may call a tool with a list, and a tool may answer with anything. Each value is read as
what it is; what has the wrong type is shown as JSON, and costs no other block of its message.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from komputer.domain.tasks import MILLISECONDS_LIMIT, TOKENS_LIMIT, TURNS_LIMIT, plausible
from komputer.events.schema import (
    AgentText,
    Compaction,
    Event,
    Retry,
    Thinking,
    ToolCall,
    ToolResult,
    clipped,
)
from komputer.runtime.ledger.ledger import fitting

if TYPE_CHECKING:
    from claude_agent_sdk import AssistantMessage, Message, SystemMessage, UserMessage

SYNTHETIC: Final = "<synthetic>"
"""The model's name of messages that Claude's own process made up: errors, and answers that were not needed."""
INPUT_LIMIT_BYTES: Final = 128 * 1024
"""Of a tool's input as JSON, after its long strings were cut. The gateway empties an input where the event is over
256 KiB; we keep its simple fields before it comes to that."""


ID_LIMIT: Final = 256
"""Characters of a tool call's id or of a tool's name."""


class OpenCall(NamedTuple):
    tool: str
    input: dict[str, Any]
    started_s: float


class BackgroundCommand(NamedTuple):
    """A command that Claude runs in the background: it was started so, or took longer than its time limit."""

    call_id: str
    call: OpenCall


@dataclass(frozen=True, kw_only=True)
class Telling:
    """What must be remembered from message to message. Times are of one clock, in seconds."""

    task_id: str
    calls: Mapping[str, OpenCall] = field(default_factory=dict)
    """Tool calls without a result."""
    api_error: str | None = None
    """Claude's word for the last error of the API, until the model answers again."""
    usage: Mapping[str, Any] = field(default_factory=dict)
    """Of the last answer, as its beginning gave it: the input is final, the output is not."""
    steps: int = 0
    """Tool results so far."""
    started: Mapping[str, BackgroundCommand] = field(default_factory=dict)
    """All background commands so far, by Claude's id of them."""
    background: tuple[str, ...] = ()
    """Ids of those that run."""
    owes_turn: bool = False
    """A background command has ended since the model was last asked: Claude will begin a turn to tell it."""


def tell(telling: Telling, message: Message, now_s: float) -> tuple[Telling, list[Event]]:
    """The state after this message, and the events that it is. How a task ends is `ending`'s."""
    from claude_agent_sdk import AssistantMessage, SystemMessage, UserMessage

    match message:
        case AssistantMessage():
            return _assistant(telling, message, now_s)
        case UserMessage():
            return _user(telling, message, now_s)
        case SystemMessage():
            return _background(telling, message, now_s), _system(telling.task_id, message)
        case _:
            return telling, []


def _assistant(telling: Telling, message: AssistantMessage, now_s: float) -> tuple[Telling, list[Event]]:
    from claude_agent_sdk import TextBlock, ThinkingBlock, ToolUseBlock

    if message.model == SYNTHETIC:
        error: object = message.error
        return replace(telling, api_error=error if isinstance(error, str) and error else telling.api_error), []
    telling = replace(telling, api_error=None)
    if isinstance(message.usage, dict) and message.usage and message.parent_tool_use_id is None:
        telling = replace(telling, usage=message.usage)
    events: list[Event] = []
    for block in message.content:
        match block:
            case TextBlock(text=text) if _text(text).strip():
                events.append(AgentText(task_id=telling.task_id, content=fitting(_text(text))))
            case ThinkingBlock(thinking=thought) if _text(thought).strip():
                events.append(Thinking(task_id=telling.task_id, content=fitting(_text(thought))))
            case ToolUseBlock():
                call_id = _text(block.id)[:ID_LIMIT]
                call = OpenCall(_text(block.name)[:ID_LIMIT], _bounded(block.input), now_s)
                telling = replace(telling, calls={**telling.calls, call_id: call})
                events.append(ToolCall(task_id=telling.task_id, id=call_id, tool=call.tool, input=call.input))
    return telling, events


def _user(telling: Telling, message: UserMessage, now_s: float) -> tuple[Telling, list[Event]]:
    from claude_agent_sdk import ToolResultBlock

    if isinstance(message.content, str):
        return telling, []
    events: list[Event] = []
    for block in message.content:
        if not isinstance(block, ToolResultBlock):
            continue
        call_id = _text(block.tool_use_id)[:ID_LIMIT]
        call = telling.calls.get(call_id, OpenCall("unknown", {}, now_s))
        left = {key: value for key, value in telling.calls.items() if key != call_id}
        telling = replace(telling, calls=left, steps=telling.steps + 1, owes_turn=False)
        events.append(
            ToolResult(
                task_id=telling.task_id,
                id=call_id,
                tool=call.tool,
                input=call.input,
                output=fitting(_as_text(block.content)),
                is_error=bool(block.is_error),
                duration_ms=plausible(1000 * (now_s - call.started_s), MILLISECONDS_LIMIT),
            )
        )
    return telling, events


def _background(telling: Telling, message: SystemMessage, now_s: float) -> Telling:
    data = message.data
    match message.subtype:
        case "init":
            return replace(telling, owes_turn=False)
        case "task_started":
            call_id = _text(data.get("tool_use_id"))[:ID_LIMIT]
            call = telling.calls.get(call_id, OpenCall("Bash", {"description": _text(data.get("description"))}, now_s))
            command = BackgroundCommand(call_id, call)
            return replace(telling, started={**telling.started, _text(data.get("task_id")): command})
        case "task_notification":
            return replace(telling, owes_turn=True)
        case "background_tasks_changed":
            tasks = data.get("tasks")
            running = [each for each in tasks if isinstance(each, dict)] if isinstance(tasks, list) else []
            return replace(telling, background=tuple(_text(each.get("task_id")) for each in running))
        case _:
            return telling


def left_running(telling: Telling, waited_s: float, now_s: float) -> list[ToolResult]:
    """One result for each background command that still runs when the task ends, and is ended with it."""
    text = (
        f"The command still ran in the background {waited_s:.0f} s after the last answer. It was ended with the task, "
        "unfinished."
    )
    unknown = BackgroundCommand("unknown", OpenCall("Bash", {}, now_s))
    return [
        ToolResult(
            task_id=telling.task_id,
            id=command.call_id,
            tool=command.call.tool,
            input=command.call.input,
            output=text,
            is_error=True,
            duration_ms=plausible(1000 * (now_s - command.call.started_s), MILLISECONDS_LIMIT),
        )
        for command in (telling.started.get(each, unknown) for each in telling.background)
    ]


def _system(task_id: str, message: SystemMessage) -> list[Event]:
    data = message.data
    if message.subtype == "api_retry":
        status = data.get("error_status")
        return [
            Retry(
                task_id=task_id,
                attempt=plausible(data.get("attempt"), TURNS_LIMIT),
                max_retries=plausible(data.get("max_retries"), TURNS_LIMIT),
                delay_ms=plausible(data.get("retry_delay_ms"), MILLISECONDS_LIMIT),
                status=status if isinstance(status, int) and 0 <= status < 1000 else None,
            )
        ]
    if message.subtype == "compact_boundary":
        told = data.get("compact_metadata")
        told = told if isinstance(told, dict) else {}
        after = told.get("post_tokens")
        return [
            Compaction(
                task_id=task_id,
                trigger=_text(told.get("trigger") or "auto")[:ID_LIMIT],
                tokens_before=plausible(told.get("pre_tokens"), TOKENS_LIMIT),
                tokens_after=plausible(after, TOKENS_LIMIT) if after is not None else None,
            )
        ]
    return []


def _text(value: object) -> str:
    """The value where it is text, else its JSON."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, default=repr)
    except (ValueError, RecursionError):
        return f"[{type(value).__name__}]"


def _as_text(content: object) -> str:
    """A tool's answer as people read it; what is not text is named."""
    if content is None:
        return ""
    return "\n".join(map(_part, content)) if isinstance(content, list) else _text(content)


def _part(part: object) -> str:
    if not isinstance(part, dict):
        return _text(part)
    kind = part.get("type", "unknown")
    return _text(part.get("text", "")) if kind == "text" else f"[{_text(kind)[:ID_LIMIT]}]"


def _bounded(given: object) -> dict[str, Any]:
    """The input, or only its simple fields where even its cut form would be too large for an event. What is no object
    (no tool has such an input: Claude refuses the call) stands below `input`."""
    whole = given if isinstance(given, dict) else {"input": given}
    cut = clipped(ToolCall(task_id="-", id="-", tool="-", input=whole))
    if len(cut.model_dump_json()) <= INPUT_LIMIT_BYTES:
        return whole
    simple = {
        key: value for key, value in list(whole.items())[:20] if isinstance(value, str | int | float) and len(key) < 256
    }
    return {**simple, "omitted": f"{len(whole) - len(simple)} fields: this input is larger than an event may be"}
