"""Reading the streams of the log: by number and bytes, each together with its live hash (`read.lua`)."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson
import structlog

from komputer.domain.event_ids import id_of, timestamp_of
from komputer.domain.ref import ObjectRef
from komputer.events.entries import (
    LIVE_FIELDS,
    READ_FIELDS,
    EventRow,
    Live,
    LogEntry,
    State,
    bytes_of,
    live_of,
    rows_of,
    state_of,
)
from komputer.events.scripts import READ
from komputer.redis.connection import RedisConnection, damaged, is_damaged

PAGE_BYTES: Final = 4 * 1024 * 1024
"""Bytes of payloads of one page, and of one read; one event in any case. An event has at most 256 KiB."""
EVENT_LIMIT_BYTES: Final = 256 * 1024
"""Of one event's payload."""
SIZES_KEPT: Final = 20_000
UNKNOWN: Final = 2**53
NOBODYS: Final = State(None, 0, 0)
_NEWEST: Final = "+"
_OLDEST: Final = "-"

logger = structlog.get_logger(__name__)

OnLive = Callable[[ObjectRef, Live | None], None]


class Read(NamedTuple):
    """What was read of one stream, in the order in which it was read, and whose log it was at that moment."""

    rows: list[EventRow]
    state: State
    has_more: bool = False
    reached: str = ""
    """The id of the last entry, in Redis' own form: where to read on."""


class LogReader:
    """Reads the streams of one server. Raises `Unavailable`."""

    def __init__(self, server: RedisConnection, prefix: str) -> None:
        self._server = server
        self._prefix = prefix
        self.on_live: list[OnLive] = []
        self._sizes: dict[ObjectRef, int] = {}
        """Bytes that a log held when it was read last."""

    def name(self, kind: str, ref: ObjectRef) -> str:
        """A key of the agent at `ref`."""
        return f"{self._prefix}{kind}:{ref.namespace}:{ref.name}"

    def saw(self, ref: ObjectRef, held: Sequence[bytes | None]) -> State:
        """The values of `READ_FIELDS` were read."""
        if (size := bytes_of(held)) is not None:
            if len(self._sizes) >= SIZES_KEPT:
                self._sizes.clear()
            self._sizes[ref] = size
        if self.on_live:
            live = live_of(held[: len(LIVE_FIELDS)]) if held[0] is not None else None
            for callback in self.on_live:
                callback(ref, live)
        return state_of(held)

    async def since(self, wanted: Mapping[ObjectRef, int], count: int, room: int) -> dict[ObjectRef, Read]:
        """See `Log.since`."""
        calls = [_StreamRead("", ref, "XRANGE", above(low), _NEWEST, count, room) for ref, low in wanted.items()]
        answers = await self._answers(calls) if calls else []
        return {call.ref: self._read(call, answer, is_only=len(calls) == 1) for call, answer in answers}

    async def before(
        self, ref: ObjectRef, uid: str | None, types: Collection[str] | None, limit: int, room: int, *, high: int | None
    ) -> Read:
        below = _NEWEST if high is None else f"({id_of(max(1, high))}"
        read = await self._filtered(ref, uid, types, limit, room, _OLDEST, below, newest_first=True)
        return read._replace(rows=read.rows[::-1])

    async def after(
        self,
        ref: ObjectRef,
        uid: str | None,
        types: Collection[str] | None,
        limit: int,
        room: int,
        *,
        low: int,
        high: int | None = None,
    ) -> Read:
        first = above(low) if low >= 0 else _OLDEST
        below = _NEWEST if high is None else f"({id_of(max(1, high))}"
        return await self._filtered(ref, uid, types, limit, room, first, below, newest_first=False)

    async def _filtered(
        self,
        ref: ObjectRef,
        uid: str | None,
        types: Collection[str] | None,
        limit: int,
        room: int,
        low: str,
        high: str,
        *,
        newest_first: bool,
    ) -> Read:
        """Reads on until `limit` rows, or `room` bytes, are of the types that are asked for, or there are no more."""
        chunk = limit if types is None else min(1000, max(200, 4 * limit))
        found: list[EventRow] = []
        while True:
            read = await self.range("", ref, low, high, chunk, room, newest_first=newest_first)
            if uid is not None and read.state.uid != uid:
                return Read([], NOBODYS)
            if types is None:
                return read
            for row in read.rows:
                if row.type not in types:
                    continue
                room -= len(row.payload)
                if len(found) == limit or (found and room < 0):
                    return read._replace(rows=found, has_more=True)
                found.append(row)
            if not read.has_more or len(found) == limit:
                return read._replace(rows=found)
            low, high = (low, f"({read.reached}") if newest_first else (f"({read.reached}", high)

    async def range(
        self,
        kind: str,
        ref: ObjectRef,
        low: str,
        high: str,
        count: int,
        room: int = PAGE_BYTES,
        *,
        newest_first: bool = False,
    ) -> Read:
        """Entries and whose they are, of one moment. Raises `Unavailable` (`log_damaged`) where they cannot be read."""
        command, first, last = ("XREVRANGE", high, low) if newest_first else ("XRANGE", low, high)
        ((call, answer),) = await self._answers([_StreamRead(kind, ref, command, first, last, count, room)])
        return self._read(call, answer, is_only=True)

    async def _answers(self, calls: Sequence["_StreamRead"]) -> list[tuple["_StreamRead", Any]]:
        """Each in the form of `read.lua`. The script costs the server four times as much as the plain commands, so it
        is asked only where they might answer too much: of a stream that is large, or that was not read before. A log
        that grew since then is read by the plain commands once more: all that retention leaves of it, at most."""
        size = sum(
            min(call.limit * EVENT_LIMIT_BYTES, self._sizes.get(call.ref, UNKNOWN) if call.kind == "" else UNKNOWN)
            for call in calls
        )
        if size <= PAGE_BYTES:
            answers = await self._plain(calls)
        else:
            answers = await self._server.run_each(
                READ,
                [
                    (
                        [self.name("-live", call.ref), self.name(call.kind, call.ref)],
                        [*(call.command, call.first, call.last, call.limit, call.room), *READ_FIELDS],
                    )
                    for call in calls
                ],
            )
        return list(zip(calls, answers, strict=True))

    async def _plain(self, calls: Sequence["_StreamRead"]) -> list[Any]:
        async with self._server.redis.pipeline(transaction=True) as pipe:
            for call in calls:
                pipe.hmget(self.name("-live", call.ref), READ_FIELDS)
                # As bytes: of a command that it knows by name redis-py makes a dict of each entry's fields.
                stream = self.name(call.kind, call.ref)
                pipe.execute_command(call.command.encode(), stream, call.first, call.last, b"COUNT", call.limit)
            found = await self._server.translated(lambda: pipe.execute(raise_on_error=False))
        answers: list[Any] = []
        for call, held, entries in zip(calls, found[::2], found[1::2], strict=True):
            if is_damaged(held) or is_damaged(entries):
                broken = "-live" if isinstance(held, Exception) else call.kind
                answers.append([[], [], 0, self.name(broken, call.ref).encode()])
            else:
                answers.append([held, entries, len(entries) == call.limit, b""])
        return answers

    def _read(self, call: "_StreamRead", answer: Any, *, is_only: bool) -> Read:
        held, entries, has_more, broken = answer
        if broken:
            key = broken.decode(errors="replace")
            if is_only:
                raise damaged(key)
            logger.warning("a log could not be read", agent=str(call.ref), key=key)
            return Read([], NOBODYS)
        state, rows, room = self.saw(call.ref, held), rows_of(entries), call.room
        for n, row in enumerate(rows):
            room -= len(row.payload)
            if n and room < 0:
                return Read(rows[:n], state, True, rows[n - 1].id)
        return Read(rows, state, bool(has_more), entries[-1][0].decode() if entries else "")


class _StreamRead(NamedTuple):
    """One range of a stream, at most `limit` entries and `room` bytes of it."""

    kind: str
    ref: ObjectRef
    command: str
    first: str
    last: str
    limit: int
    room: int


def above(micros: int) -> str:
    """Where reading begins behind an event. Ids that are not ours may have more than three digits for the rest of a
    millisecond; they count as its last microsecond."""
    return f"({id_of(micros)}" if micros % 1000 != 999 else f"({micros // 1000}-{2**64 - 1}"


def message_of(row: EventRow, task_id: str | None) -> LogEntry:
    payload = orjson.loads(row.payload)
    content = payload.get("content")
    if not isinstance(content, str):
        content = "(A message to this task cannot be read any more.)"
    payload = {"task_id": task_id or "", "content": content, "steer": True}
    return LogEntry(row.id, "user_message", timestamp_of(row.id), payload)
