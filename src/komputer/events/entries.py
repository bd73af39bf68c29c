"""Converts events, live states and pages to and from the values that the log stores. Pure: nothing here accesses Redis.

The order of the script's arguments and of the live hash's fields is defined here and in `append.lua`, nowhere else.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, get_args

import orjson

from komputer.domain.agent import Outcome, TaskStatus
from komputer.domain.event_ids import id_of, micros_of, timestamp_of
from komputer.domain.ref import ObjectRef
from komputer.domain.tasks import ENDS, NO_LOGGED_TASK, LoggedTask, status_of_running
from komputer.events import schema
from komputer.protocol.wire import AppendResult

LIVE_FIELDS: Final = ("uid", "task", "ended", "status", "outcome", "message", "last", "seen", "term", "session")
READ_FIELDS: Final = (*LIVE_FIELDS, "born", "lost", "bytes")
"""Fields of the live hash that are read together with events."""
UNREADABLE: Final = "unreadable"
"""The type that is given to an entry which is not a valid event. The payload says what is wrong with the entry."""

_ID: Final = re.compile(rb"[0-9]{1,14}-[0-9]{1,3}")
_FOREIGN_ID: Final = re.compile(rb"([0-9]{1,14})-([0-9]{1,20})")
_BYTES: Final = re.compile(rb"([0-9]{1,16})@[0-9]{1,17}")
_TYPES: Final = {kind.encode(): kind for kind in schema.TYPES}
_STATUSES: Final[Mapping[bytes, TaskStatus]] = {known.encode(): known for known in get_args(TaskStatus)}
_OUTCOMES: Final[Mapping[bytes, Outcome]] = {known.encode(): known for known in get_args(Outcome)}
_TYPE: Final = re.compile(rb"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class LogKey:
    """The key of one agent's log. A re-created agent has another uid, and so another log."""

    namespace: str
    name: str
    uid: str

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef(self.namespace, self.name)


class Numbered(NamedTuple):
    """An event as its producer numbered it: from 1 in each term. A start carries its assignment's generation."""

    seq: int
    event: schema.Event
    generation: int | None = None
    acked_message_id: str | None = None
    """For an end: the last message that the model has answered. None: the end is accepted in any case."""


class LogEntry(NamedTuple):
    """An event as the log stores it. `id` is also its cursor."""

    id: str
    type: str
    timestamp: str
    payload: dict[str, Any]

    def to_json(self, namespace: str, name: str) -> bytes:
        return to_json(namespace, name, self.id, self.type, orjson.dumps(self.payload))


class Live(NamedTuple):
    """The live state of an agent in the log. `last_id` is the id of its newest event, `seen_us` the time of the last
    sign of life of its runtime."""

    uid: str
    task_id: str | None
    has_ended: bool
    task_status: TaskStatus | None
    outcome: Outcome | None
    message: str | None
    last_id: str | None
    last_at: str | None
    seen_us: int
    term: int
    session_id: str | None
    last_us: int = 0
    """Position of the newest event in microseconds. It increases with each event, also when an agent is deleted and
    created again under the same name."""

    @property
    def task(self) -> LoggedTask:
        """The newest task, for the decisions of `domain.tasks`."""
        return LoggedTask(self.task_id, self.has_ended)


def task_of(live: Live | None, uid: str) -> LoggedTask:
    """Return the newest task of the agent with this uid. The log of an earlier agent of that name is ignored."""
    return NO_LOGGED_TASK if live is None or live.uid != uid else live.task


class LogPage(NamedTuple):
    """Events, oldest first, each a JSON object. `gap`: events at the cursor have been removed."""

    entries: list[bytes]
    gap: bool
    last_id: str | None = None
    """Id of the newest of `entries`: the cursor for the next page."""
    is_cut: bool = False
    """More events exist, but do not fit into `PAGE_BYTES`."""


class MessageId(NamedTuple):
    """A message to a running task: the id of its event, and the task."""

    id: str
    task_id: str


class EventRow(NamedTuple):
    """An event with its payload as JSON."""

    id: str
    type: str
    payload: bytes


class State(NamedTuple):
    """The state of a log: the uid of its agent, and positions in microseconds. `born` is where the log begins, `lost`
    the highest position that was removed; 0 if there is none."""

    uid: str | None
    born: int
    lost: int
    last: int = 0
    """Position of the newest event that the log ever had."""
    open: str | None = None
    """ID of the running task."""


def state_of(held: Sequence[bytes | None]) -> State:
    """Return the state from the values of `READ_FIELDS`. A value that is not a number is read as 0."""
    uid, task, ended, _, _, _, last, _, _, _, born, lost, _ = _complete(held, READ_FIELDS)
    return State(
        _text(uid) if uid else None,
        _number(born),
        _number(lost),
        _number(last),
        _text(task) if task and ended == b"0" else None,
    )


def bytes_of(held: Sequence[bytes | None]) -> int | None:
    """Return the size of the log's events in bytes, from the values of `READ_FIELDS`; None if they were not counted."""
    found = _BYTES.fullmatch(_complete(held, READ_FIELDS)[-1] or b"")
    return int(found[1]) if found else None


def _complete(values: Sequence[bytes | None], fields: Sequence[str]) -> Sequence[bytes | None]:
    """Return one value for each of `fields`; None for those that are missing."""
    return values if len(values) == len(fields) else [*values, *[None] * len(fields)][: len(fields)]


def rows_of(entries: Iterable[tuple[bytes, Mapping[bytes, bytes] | Sequence[bytes]]]) -> list[EventRow]:
    """Return the rows of a stream's entries. An entry that is not a valid event becomes one of the type `unreadable`;
    an entry whose id cannot be the id of an event is left out."""
    return [row for entry, fields in entries if (row := _row(entry, fields)) is not None]


def _row(entry: bytes, fields: Mapping[bytes, bytes] | Sequence[bytes]) -> EventRow | None:
    if _ID.fullmatch(entry):
        event_id = entry.decode()
    elif found := _FOREIGN_ID.fullmatch(entry):
        event_id = f"{int(found[1])}-{min(int(found[2]), 999)}"
    else:
        return None
    if isinstance(fields, list) and len(fields) == 4 and fields[0] == b"t" and fields[2] == b"p":
        kind, payload = fields[1], fields[3]
    else:
        held = fields if isinstance(fields, Mapping) else dict(zip(fields[::2], fields[1::2], strict=False))
        kind, payload = held.get(b"t"), held.get(b"p")
    if kind is None or payload is None:
        return _unreadable(event_id, "a field is missing")
    name = _TYPES.get(kind)
    if name is None:
        if not _TYPE.fullmatch(kind):
            return _unreadable(event_id, "its type is no name")
        name = kind.decode()
    try:
        parsed = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return _unreadable(event_id, "its payload is no JSON")
    if not isinstance(parsed, dict):
        return _unreadable(event_id, "its payload is no object")
    if 10 in payload or 13 in payload:  # a line break between its values would break a frame of Server-Sent Events
        payload = orjson.dumps(parsed)
    return EventRow(event_id, name, payload)


def _unreadable(event_id: str, why: str) -> EventRow:
    return EventRow(event_id, UNREADABLE, orjson.dumps({"error": f"the log's entry is no event: {why}"}))


def _text(value: bytes) -> str:
    return value.decode(errors="replace")


def _number(value: bytes | None) -> int:
    """Return the number; 0 for a value that is not a number, or is too large for a time in microseconds."""
    return int(value) if value and value.isdigit() and len(value) <= 17 else 0


def is_gone(state: State, micros: int, is_id: bool) -> bool:
    """Return whether events at the position `micros` may have been removed.

    An id from before the log was created belongs to a log that was lost, so its event is gone. At a time from before
    then, there need not have been an event.
    """
    if state.uid is None:
        return is_id
    return micros <= max(state.lost, state.born if is_id else 0)


def to_json(namespace: str, name: str, event_id: str, kind: str, payload: bytes) -> bytes:
    """Return an event as JSON, in the form that clients get."""
    head = (
        f'{{"id":"{event_id}","agentName":"{name}","namespace":"{namespace}","type":"{kind}",'
        f'"timestamp":"{timestamp_of(event_id)}","payload":'
    )
    return b"%b%b}" % (head.encode(), payload)


def fields_of(
    seq: int, event: schema.Event, generation: int | None, acked_message_id: str | None = None
) -> list[str | bytes | int]:
    """Return the eleven arguments of `append.lua` for one event, in order."""
    kind, payload = schema.to_wire(event)
    role = "start" if isinstance(event, schema.TaskStarted) else "end" if isinstance(event, schema.End) else ""
    if meaning := ENDS.get(kind):
        status, outcome = meaning.task_status, str(meaning.outcome)
    else:
        status, outcome = status_of_running(event.kind if isinstance(event, schema.TaskStarted) else None), ""
    return [
        *(seq, role, event.task_id, kind, "" if generation is None else generation),
        *(orjson.dumps(payload), schema.line(event) or "", status, outcome),
        getattr(event, "session_id", None) or "",
        "" if acked_message_id is None else micros_of(acked_message_id),
    ]


def live_of(row: Sequence[bytes | None]) -> Live:
    """Return the live state from the values of `LIVE_FIELDS`."""
    uid, task, ended, status, outcome, message, last, seen, term, session = _complete(row, LIVE_FIELDS)
    last_us = _number(last)
    last_id = id_of(last_us) if last_us and status else None
    return Live(
        uid=_text(uid) if uid else "",
        task_id=_text(task) if task else None,
        has_ended=ended == b"1",
        task_status=_STATUSES.get(status) if status else None,
        outcome=_OUTCOMES.get(outcome) if outcome else None,
        message=_text(message) if message else None,
        last_id=last_id,
        last_at=timestamp_of(last_id) if last_id else None,
        seen_us=_number(seen),
        term=_number(term),
        session_id=_text(session) if session else None,
        last_us=last_us,
    )


def texts_of(values: Iterable[bytes]) -> list[str]:
    """Return the values as text."""
    return [_text(value) for value in values]


def answers_of(values: Iterable[bytes]) -> list[AppendResult]:
    """Return the answers of `append.lua`."""
    known: dict[str, AppendResult] = {answer: answer for answer in get_args(AppendResult)}
    return [known[value.decode()] for value in values]
