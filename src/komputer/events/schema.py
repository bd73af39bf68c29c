"""The events of a task: a closed union of immutable types, and their wire form.

The union is closed in code (`assert_never` at the end of each match) and open on the wire: an event of an unknown type
is passed on unchanged as JSON; a known type with an invalid payload is rejected.
"""

import math
from typing import Annotated, Any, Final, Literal, assert_never

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from komputer.domain import money
from komputer.domain.errors import Invalid
from komputer.domain.tasks import END_TYPES, MILLISECONDS_LIMIT, TOKENS_LIMIT, TURNS_LIMIT
from komputer.http.validation import explain

TEXT_LIMIT: Final = 16_384
"""Maximum length of a text in an event, in characters. A longer text is cut, and the payload says `truncated: true`.
The transcript on the workspace keeps the whole text. A guess, unmeasured: a page of 200 events stays below 4 MB."""
LINE_LIMIT: Final = 200
"""Maximum length of `lastTaskMessage` in characters."""

DEPTH_LIMIT: Final = 64
"""Maximum depth of a JSON structure in an event. Deeper levels are cut: parsers of clients fail from about 100 on."""


def _whole(value: Any) -> Any:
    """Return text that UTF-8 can encode: lone surrogates, as JavaScript leaves them, become U+FFFD."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def _plain(value: Any, depth: int = 0) -> Any:
    """Return JSON that every parser reads: NaN becomes null, an integer beyond 64 bits becomes a string of its digits,
    and the depth is limited."""
    if depth > DEPTH_LIMIT:
        return "…"
    match value:
        case str():
            return _whole(value)
        case dict():
            return {_whole(key): _plain(part, depth + 1) for key, part in value.items()}
        case list():
            return [_plain(part, depth + 1) for part in value]
        case float() if not math.isfinite(value):
            return None
        case int() if not -(2**63) <= value < 2**63:
            return str(value)
        case _:
            return value


def _exact(value: float) -> float:
    return money.number(money.amount(value))


Cost = Annotated[float, Field(strict=True, ge=0, le=money.COST_LIMIT_USD, allow_inf_nan=False), AfterValidator(_exact)]
"""Cost of a task in US dollars. Exact: see `money`."""
Word = Annotated[str, BeforeValidator(_whole)]
Text = Annotated[str, BeforeValidator(_whole), Field(max_length=4 * TEXT_LIMIT)]
Json = Annotated[dict[str, Any], BeforeValidator(_plain)]
Tokens = Annotated[int, Field(strict=True, ge=0, le=TOKENS_LIMIT)]
Turns = Annotated[int, Field(strict=True, ge=0, le=TURNS_LIMIT)]
Milliseconds = Annotated[int, Field(strict=True, ge=0, le=MILLISECONDS_LIMIT)]


class EventBase(BaseModel):
    """The base of all events: the task that they belong to."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    task_id: Annotated[str, Field(min_length=1, max_length=64)]
    truncated: bool | None = None


class TaskStarted(EventBase):
    type: Literal["task_started"] = "task_started"
    instructions: Text
    resuming_session: bool
    model: Word
    kind: Word | None = None
    """`compact` for a task that summarises the conversation; None for all others."""
    session_id: Word | None = None


class TaskResumed(EventBase):
    """The task was resumed after its runtime, Claude or the machine crashed."""

    type: Literal["task_resumed"] = "task_resumed"
    attempt: Turns
    cause: Word


class UserMessage(EventBase):
    type: Literal["user_message"] = "user_message"
    content: Text
    steer: bool


class Thinking(EventBase):
    type: Literal["thinking"] = "thinking"
    content: Text


class AgentText(EventBase):
    type: Literal["text"] = "text"
    content: Text


class ToolCall(EventBase):
    type: Literal["tool_call"] = "tool_call"
    id: Word
    tool: Word
    input: Json


class ToolResult(EventBase):
    type: Literal["tool_result"] = "tool_result"
    id: Word
    tool: Word
    input: Json
    output: Text
    is_error: bool
    duration_ms: Milliseconds


class Compaction(EventBase):
    type: Literal["compaction"] = "compaction"
    trigger: Word
    tokens_before: Tokens
    tokens_after: Tokens | None = None


class Retry(EventBase):
    """The model did not answer, and Claude tries again after `delay_ms`. `status` is the HTTP status, None without an
    answer."""

    type: Literal["retry"] = "retry"
    attempt: Turns
    max_retries: Turns
    delay_ms: Milliseconds
    status: Annotated[int, Field(ge=0, le=999)] | None = None


class TaskCompleted(EventBase):
    type: Literal["task_completed"] = "task_completed"
    result: Text
    cost_usd: Cost
    duration_ms: Milliseconds
    turns: Turns
    stop_reason: Word | None = None
    session_id: Word | None = None
    usage: Json = Field(default_factory=dict)
    last_usage: Json = Field(default_factory=dict)
    context_window: Tokens | None = None
    model: Word | None = None


class TaskCancelled(EventBase):
    type: Literal["task_cancelled"] = "task_cancelled"
    reason: Word
    cost_usd: Cost = 0.0
    session_id: Word | None = None


class TaskFailed(EventBase):
    """The task failed. `docs/reference/events.md` lists the values of `code` and what to do."""

    type: Literal["error"] = "error"
    error: Text
    code: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
    cost_usd: Cost = 0.0
    session_id: Word | None = None


End = TaskCompleted | TaskCancelled | TaskFailed
Event = (
    TaskStarted
    | TaskResumed
    | UserMessage
    | Thinking
    | AgentText
    | ToolCall
    | ToolResult
    | Compaction
    | Retry
    | TaskCompleted
    | TaskCancelled
    | TaskFailed
)

_ADAPTER: Final[TypeAdapter[Event]] = TypeAdapter(Annotated[Event, Field(discriminator="type")])
TYPES: Final = frozenset(
    {
        "task_started",
        "task_resumed",
        "user_message",
        "thinking",
        "text",
        "tool_call",
        "tool_result",
        "compaction",
        "retry",
        *END_TYPES,
    }
)


def to_wire(event: Event) -> tuple[str, dict[str, Any]]:
    """Return the type and the payload of an event, as the log stores them and clients get them. `truncated` and `kind`
    are left out if empty."""
    payload = event.model_dump(mode="json", exclude={"type"})
    for rare in ("truncated", "kind"):
        if not payload.get(rare):
            payload.pop(rare, None)
    return event.type, payload


def from_wire(kind: str, payload: dict[str, Any]) -> Event:
    """Return the event. Raises `Invalid` for an unknown type, a missing or invalid field, and an impossible cost or
    count."""
    try:
        return _ADAPTER.validate_python({**payload, "type": kind})
    except ValidationError as wrong:
        first = wrong.errors(include_url=False)[0]
        sentence, field = explain([{**first, "loc": first["loc"][1:] or ("type",)}])
        raise Invalid(f"event {kind[:64]!r}: {sentence}", code="invalid_event", field=field) from wrong


def clipped(event: Event) -> Event:
    """Return the event with every text cut to `TEXT_LIMIT` characters, and `truncated` set if one was cut."""
    changed = {
        name: value[: TEXT_LIMIT - 1] + "…"
        for name in type(event).model_fields
        if isinstance(value := getattr(event, name), str) and len(value) > TEXT_LIMIT
    }
    if isinstance(event, ToolCall | ToolResult):
        tool_input, was_cut = _clipped_json(event.input)
        if was_cut:
            changed["input"] = tool_input
    return event.model_copy(update={**changed, "truncated": True}) if changed else event


def _clipped_json(value: Any) -> tuple[Any, bool]:
    """Return JSON with its long strings cut, and whether one was cut. Deep or wide structures are kept, because the
    size of a request limits them."""
    if isinstance(value, str):
        return (value[: TEXT_LIMIT - 1] + "…", True) if len(value) > TEXT_LIMIT else (value, False)
    if isinstance(value, dict):
        parts = {key: _clipped_json(part) for key, part in value.items()}
        return {key: part for key, (part, _) in parts.items()}, any(cut for _, cut in parts.values())
    if isinstance(value, list):
        items = [_clipped_json(part) for part in value]
        return [part for part, _ in items], any(cut for _, cut in items)
    return value, False


SUMMARY_INPUTS: Final = ("command", "file_path", "path", "pattern", "url", "query", "description", "prompt")
"""Inputs of tools, in order of preference. The first one that a call has summarises the call for people."""


def line(event: Event) -> str | None:
    """Return the event as one line for people: `Calling Bash: python analyze.py`; for a text its first line. None if
    there is nothing to show."""
    match event:
        case TaskStarted():
            text: str | None = "Compacting the conversation" if event.kind == "compact" else event.instructions
        case TaskResumed():
            text = f"Resumed after {event.cause}"
        case UserMessage() | AgentText():
            text = event.content
        case Thinking():
            text = "Thinking"
        case ToolCall():
            summary = next((event.input[key] for key in SUMMARY_INPUTS if isinstance(event.input.get(key), str)), "")
            text = f"Calling {event.tool}: {summary}" if summary else f"Calling {event.tool}"
        case ToolResult():
            text = f"{event.tool} failed: {event.output}" if event.is_error else None
        case Compaction():
            text = "Compacted the conversation"
        case Retry():
            text = f"Model did not answer, retry {event.attempt} of {event.max_retries}"
        case TaskCompleted():
            text = event.result
        case TaskCancelled():
            # Runtimes give "cancelled by request" as the reason.
            is_said = event.reason.lower().startswith("cancelled")
            text = event.reason[:1].upper() + event.reason[1:] if is_said else f"Cancelled: {event.reason}"
        case TaskFailed():
            text = event.error
        case _:
            assert_never(event)
    first = next((part.strip() for part in (text or "").splitlines() if part.strip()), "")
    return (first if len(first) <= LINE_LIMIT else first[: LINE_LIMIT - 1] + "…") or None
