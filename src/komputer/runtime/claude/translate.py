"""Translates messages of the Claude SDK into events. Pure: state and time are arguments, the new state is returned.

The SDK does not check types: a model may call a tool with a list, and a tool may return anything. A value of the wrong
type is shown as JSON and does not affect the other blocks of its message.
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
from komputer.runtime.ledger.rules import fitting

if TYPE_CHECKING:
    from claude_agent_sdk import AssistantMessage, Message, SystemMessage, UserMessage

SYNTHETIC: Final = "<synthetic>"
"""The model name of messages that the Claude CLI itself has generated: errors, and answers that were not needed."""
INPUT_LIMIT_BYTES: Final = 128 * 1024
"""The largest input of a tool as JSON, after long strings were cut. A larger one is reduced to its simple fields. The
gateway would drop the whole input of an event over 256 KiB."""
ID_LIMIT: Final = 256
"""The longest id of a tool call and name of a tool, in characters."""


class OpenCall(NamedTuple):
    tool: str
    input: dict[str, Any]
    started_s: float


class BackgroundCommand(NamedTuple):
    """A command that Claude runs in the background: it was started there, or was moved there when it exceeded its time
    limit."""

    call_id: str
    call: OpenCall


@dataclass(frozen=True, kw_only=True)
class Translation:
    """The state that is kept between messages. All times are seconds of the same clock."""

    task_id: str
    calls: Mapping[str, OpenCall] = field(default_factory=dict)
    """Tool calls without a result."""
    api_error: str | None = None
    """Claude's name for the last API error; None once the model has answered again."""
    usage: Mapping[str, Any] = field(default_factory=dict)
    """The token usage of the last answer, from its first message: input counts are final, output counts are not."""
    steps: int = 0
    """The number of tool calls that have returned."""
    started: Mapping[str, BackgroundCommand] = field(default_factory=dict)
    """All background commands so far, by Claude's id."""
    background: tuple[str, ...] = ()
    """The ids of the background commands that are running."""
    owes_turn: bool = False
    """Whether a background command has ended since the last model request. If so, Claude will begin a turn to report
    it to the model."""


def translated(state: Translation, message: Message, now_s: float) -> tuple[Translation, list[Event]]:
    """Return the state after this message, and the message's events. The end of a task is decided in `ending`."""
    from claude_agent_sdk import AssistantMessage, SystemMessage, UserMessage

    match message:
        case AssistantMessage():
            return _assistant(state, message, now_s)
        case UserMessage():
            return _user(state, message, now_s)
        case SystemMessage():
            return _background(state, message, now_s), _system(state.task_id, message)
        case _:
            return state, []


def _assistant(state: Translation, message: AssistantMessage, now_s: float) -> tuple[Translation, list[Event]]:
    from claude_agent_sdk import TextBlock, ThinkingBlock, ToolUseBlock

    if message.model == SYNTHETIC:
        error: object = message.error
        return replace(state, api_error=error if isinstance(error, str) and error else state.api_error), []
    state = replace(state, api_error=None)
    if isinstance(message.usage, dict) and message.usage and message.parent_tool_use_id is None:
        state = replace(state, usage=message.usage)
    events: list[Event] = []
    for block in message.content:
        match block:
            case TextBlock(text=text) if _text(text).strip():
                events.append(AgentText(task_id=state.task_id, content=fitting(_text(text))))
            case ThinkingBlock(thinking=thought) if _text(thought).strip():
                events.append(Thinking(task_id=state.task_id, content=fitting(_text(thought))))
            case ToolUseBlock():
                call_id = _text(block.id)[:ID_LIMIT]
                call = OpenCall(_text(block.name)[:ID_LIMIT], _bounded(block.input), now_s)
                state = replace(state, calls={**state.calls, call_id: call})
                events.append(ToolCall(task_id=state.task_id, id=call_id, tool=call.tool, input=call.input))
    return state, events


def _user(state: Translation, message: UserMessage, now_s: float) -> tuple[Translation, list[Event]]:
    from claude_agent_sdk import ToolResultBlock

    if isinstance(message.content, str):
        return state, []
    events: list[Event] = []
    for block in message.content:
        if not isinstance(block, ToolResultBlock):
            continue
        call_id = _text(block.tool_use_id)[:ID_LIMIT]
        call = state.calls.get(call_id, OpenCall("unknown", {}, now_s))
        left = {key: value for key, value in state.calls.items() if key != call_id}
        state = replace(state, calls=left, steps=state.steps + 1, owes_turn=False)
        events.append(
            ToolResult(
                task_id=state.task_id,
                id=call_id,
                tool=call.tool,
                input=call.input,
                output=fitting(_as_text(block.content)),
                is_error=bool(block.is_error),
                duration_ms=plausible(1000 * (now_s - call.started_s), MILLISECONDS_LIMIT),
            )
        )
    return state, events


def _background(state: Translation, message: SystemMessage, now_s: float) -> Translation:
    data = message.data
    match message.subtype:
        case "init":
            return replace(state, owes_turn=False)
        case "task_started":
            call_id = _text(data.get("tool_use_id"))[:ID_LIMIT]
            call = state.calls.get(call_id, OpenCall("Bash", {"description": _text(data.get("description"))}, now_s))
            command = BackgroundCommand(call_id, call)
            return replace(state, started={**state.started, _text(data.get("task_id")): command})
        case "task_notification":
            return replace(state, owes_turn=True)
        case "background_tasks_changed":
            tasks = data.get("tasks")
            running = [each for each in tasks if isinstance(each, dict)] if isinstance(tasks, list) else []
            return replace(state, background=tuple(_text(each.get("task_id")) for each in running))
        case _:
            return state


def left_running(state: Translation, waited_s: float, now_s: float) -> list[ToolResult]:
    """Return one tool result for each background command that still runs when the task ends and is killed with it."""
    text = (
        f"The command still ran in the background {waited_s:.0f} s after the last answer. It was ended with the task, "
        "unfinished."
    )
    unknown = BackgroundCommand("unknown", OpenCall("Bash", {}, now_s))
    return [
        ToolResult(
            task_id=state.task_id,
            id=command.call_id,
            tool=command.call.tool,
            input=command.call.input,
            output=text,
            is_error=True,
            duration_ms=plausible(1000 * (now_s - command.call.started_s), MILLISECONDS_LIMIT),
        )
        for command in (state.started.get(each, unknown) for each in state.background)
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
        metadata = data.get("compact_metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        after = metadata.get("post_tokens")
        return [
            Compaction(
                task_id=task_id,
                trigger=_text(metadata.get("trigger") or "auto")[:ID_LIMIT],
                tokens_before=plausible(metadata.get("pre_tokens"), TOKENS_LIMIT),
                tokens_after=plausible(after, TOKENS_LIMIT) if after is not None else None,
            )
        ]
    return []


def _text(value: object) -> str:
    """Return text unchanged and anything else as JSON."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, default=repr)
    except (ValueError, RecursionError):
        return f"[{type(value).__name__}]"


def _as_text(content: object) -> str:
    """Return a tool's result as text. A part that is not text is replaced by the name of its type."""
    if content is None:
        return ""
    return "\n".join(map(_part, content)) if isinstance(content, list) else _text(content)


def _part(part: object) -> str:
    if not isinstance(part, dict):
        return _text(part)
    kind = part.get("type", "unknown")
    return _text(part.get("text", "")) if kind == "text" else f"[{_text(kind)[:ID_LIMIT]}]"


def _bounded(given: object) -> dict[str, Any]:
    """Return the input of a tool call, or only its simple fields if it would be too large for an event even after its
    strings are cut. A value that is not an object is put under the key `input`; Claude refuses such a call."""
    whole = given if isinstance(given, dict) else {"input": given}
    cut = clipped(ToolCall(task_id="-", id="-", tool="-", input=whole))
    if len(cut.model_dump_json()) <= INPUT_LIMIT_BYTES:
        return whole
    simple = {
        key: value for key, value in list(whole.items())[:20] if isinstance(value, str | int | float) and len(key) < 256
    }
    return {**simple, "omitted": f"{len(whole) - len(simple)} fields: this input is larger than an event may be"}
