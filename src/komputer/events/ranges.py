"""Reads ranges of the log's streams, limited in number and size, each together with the live hash at the same moment
(`read.lua`)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import structlog

from komputer.domain.event_ids import id_of
from komputer.domain.ref import ObjectRef
from komputer.events.entries import (
    LIVE_FIELDS,
    READ_FIELDS,
    EventRow,
    Live,
    State,
    bytes_of,
    live_of,
    rows_of,
    state_of,
)
from komputer.events.scripts import READ
from komputer.redis.connection import RedisConnection, damaged, is_damaged

PAGE_BYTES: Final = 4 * 1024 * 1024
"""Maximum size of the payloads in one page and in one read, in bytes. A single event may exceed it."""
EVENT_LIMIT_BYTES: Final = 256 * 1024
"""Maximum size of one event's payload in bytes."""
SIZES_KEPT: Final = 20_000
"""Maximum number of logs whose size is kept in memory."""
UNKNOWN_SIZE: Final = 2**53
NO_LOG: Final = State(None, 0, 0)
NEWEST: Final = "+"
OLDEST: Final = "-"

logger = structlog.get_logger(__name__)

OnLive = Callable[[ObjectRef, Live | None], None]


class Read(NamedTuple):
    """Entries of one stream, in the order in which they were read, and the state of the log at that moment."""

    rows: list[EventRow]
    state: State
    has_more: bool = False
    reached: str = ""
    """Id of the last entry, in Redis' own form: where to continue."""


class StreamRanges:
    """Ranges of the streams of one server. All methods raise `Unavailable` while it does not answer."""

    def __init__(self, server: RedisConnection, prefix: str) -> None:
        self._server = server
        self._prefix = prefix
        self.on_live: list[OnLive] = []
        self._sizes: dict[ObjectRef, int] = {}
        """Size in bytes that each log had when it was read last."""

    def key(self, kind: str, ref: ObjectRef) -> str:
        """Return an agent's Redis key of this kind: `""` for its events, `-live`, `-ends` …"""
        return f"{self._prefix}{kind}:{ref.namespace}:{ref.name}"

    def observe(self, ref: ObjectRef, values: Sequence[bytes | None]) -> State:
        """Record the values of `READ_FIELDS`, call the subscribers of live states, and return the log's state."""
        if (size := bytes_of(values)) is not None:
            if len(self._sizes) >= SIZES_KEPT:
                self._sizes.clear()
            self._sizes[ref] = size
        if self.on_live:
            live = live_of(values[: len(LIVE_FIELDS)]) if values[0] is not None else None
            for callback in self.on_live:
                callback(ref, live)
        return state_of(values)

    async def since(self, wanted: Mapping[ObjectRef, int], count: int, room: int) -> dict[ObjectRef, Read]:
        """Return the first events of each log above its position in `wanted`: at most `count` events and `room` bytes
        of each log, but at least one event. This takes one round trip. If several logs are requested, one that cannot
        be read is treated as empty; a single one raises `Unavailable` (`log_damaged`)."""
        calls = [_RangeRequest("", ref, "XRANGE", above(low), NEWEST, count, room) for ref, low in wanted.items()]
        answers = await self._answers(calls) if calls else []
        return {call.ref: self._read(call, answer, is_only=len(calls) == 1) for call, answer in answers}

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
        """Return at most `count` entries between two ids. Raises `Unavailable` (`log_damaged`) if they cannot be
        read."""
        command, first, last = ("XREVRANGE", high, low) if newest_first else ("XRANGE", low, high)
        ((call, answer),) = await self._answers([_RangeRequest(kind, ref, command, first, last, count, room)])
        return self._read(call, answer, is_only=True)

    async def _answers(self, calls: Sequence["_RangeRequest"]) -> list[tuple["_RangeRequest", Any]]:
        """Return each request with its answer in the form of `read.lua`.

        The script costs the server four times as much as the plain commands. It is used only if these might return too
        much: for a stream that is large, or was not read before. A log that has grown since its last read is read once
        more by the plain commands; retention limits the size of this answer.
        """
        size = sum(
            min(
                call.limit * EVENT_LIMIT_BYTES,
                self._sizes.get(call.ref, UNKNOWN_SIZE) if call.kind == "" else UNKNOWN_SIZE,
            )
            for call in calls
        )
        if size <= PAGE_BYTES:
            answers = await self._plain(calls)
        else:
            answers = await self._server.run_each(
                READ,
                [
                    (
                        [self.key("-live", call.ref), self.key(call.kind, call.ref)],
                        [*(call.command, call.first, call.last, call.limit, call.room), *READ_FIELDS],
                    )
                    for call in calls
                ],
            )
        return list(zip(calls, answers, strict=True))

    async def _plain(self, calls: Sequence["_RangeRequest"]) -> list[Any]:
        async with self._server.redis.pipeline(transaction=True) as pipe:
            for call in calls:
                pipe.hmget(self.key("-live", call.ref), READ_FIELDS)
                # The command is given as bytes, because redis-py recognises the name of a command only as text, and
                # would then convert the fields of each entry into a dict.
                stream = self.key(call.kind, call.ref)
                pipe.execute_command(call.command.encode(), stream, call.first, call.last, b"COUNT", call.limit)
            found = await self._server.translated(lambda: pipe.execute(raise_on_error=False))
        answers: list[Any] = []
        for call, held, entries in zip(calls, found[::2], found[1::2], strict=True):
            if is_damaged(held) or is_damaged(entries):
                broken = "-live" if isinstance(held, Exception) else call.kind
                answers.append([[], [], 0, self.key(broken, call.ref).encode()])
            else:
                answers.append([held, entries, len(entries) == call.limit, b""])
        return answers

    def _read(self, call: "_RangeRequest", answer: Any, *, is_only: bool) -> Read:
        held, entries, has_more, broken = answer
        if broken:
            key = broken.decode(errors="replace")
            if is_only:
                raise damaged(key)
            logger.warning("a log could not be read", agent=str(call.ref), key=key)
            return Read([], NO_LOG)
        state, rows, room = self.observe(call.ref, held), rows_of(entries), call.room
        for n, row in enumerate(rows):
            room -= len(row.payload)
            if n and room < 0:
                return Read(rows[:n], state, True, rows[n - 1].id)
        return Read(rows, state, bool(has_more), entries[-1][0].decode() if entries else "")


class _RangeRequest(NamedTuple):
    """One range of a stream, at most `limit` entries and `room` bytes of it."""

    kind: str
    ref: ObjectRef
    command: str
    first: str
    last: str
    limit: int
    room: int


def above(micros: int) -> str:
    """Return the start of a range that excludes this position and earlier ones. A foreign id may have a sequence number
    over 999, which is read as 999: the range then excludes all of its millisecond."""
    return f"({id_of(micros)}" if micros % 1000 != 999 else f"({micros // 1000}-{2**64 - 1}"
