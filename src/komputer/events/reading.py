"""Reads the log: live states, pages of events, messages and ends."""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import orjson
import structlog

from komputer.domain.errors import Invalid
from komputer.domain.event_ids import id_of, micros_of, parse_position, timestamp_of
from komputer.domain.ref import ObjectRef
from komputer.events.entries import (
    LIVE_FIELDS,
    READ_FIELDS,
    UNREADABLE,
    EventRow,
    Live,
    LogEntry,
    LogKey,
    LogPage,
    State,
    is_gone,
    live_of,
    to_json,
)
from komputer.events.follow.notifier import NotificationBatch, listen, names_an_agent, read_notifications
from komputer.events.ranges import NEWEST, NO_LOG, OLDEST, PAGE_BYTES, OnLive, Read, StreamRanges, above
from komputer.redis.connection import RedisConnection, is_damaged

ENDS_AT_ONCE: Final = 16
"""Maximum number of ends that one read returns. There are more only if the operator was away for long."""
MESSAGES_AT_ONCE: Final = 16
"""Maximum number of messages that one read returns. There are more only if one task gets very many."""

logger = structlog.get_logger(__name__)


class Selection(NamedTuple):
    """The events that a page may contain: those of one log, if it belongs to `uid` (None: any), of some types (None:
    all)."""

    ref: ObjectRef
    uid: str | None = None
    types: Collection[str] | None = None


class LogReader:
    """The logs of all agents on one server, for reading. All methods raise `Unavailable` (`log_unavailable`) while it
    does not answer."""

    def __init__(self, server: RedisConnection, prefix: str) -> None:
        self.server = server
        self._prefix = prefix
        self._ranges = StreamRanges(server, prefix)

    # ---- live states -----------------------------------------------------------------------------------------------
    def on_live(self, callback: OnLive) -> None:
        """Call `callback` with the live state whenever events were read, before they are returned: the subscriber's
        state is never older than the events. It must not block."""
        self._ranges.on_live.append(callback)

    def observe(self, ref: ObjectRef, values: Sequence[bytes | None]) -> State:
        """Record the values of `READ_FIELDS`, which were read together with events of `ref`, and return the state."""
        return self._ranges.observe(ref, values)

    async def live(self, namespace: str, name: str) -> Live | None:
        """Return the live state. Compare its `uid` with the agent's: until the first hello of a re-created agent, the
        log is that of the former agent. Raises `Unavailable` (`log_damaged`) if another program has written the key."""
        key = self._ranges.key("-live", ObjectRef(namespace, name))
        row = await self.server.translated(lambda: self.server.redis.hmget(key, LIVE_FIELDS))
        return live_of(row) if row[0] is not None else None

    async def live_many(self, refs: Iterable[ObjectRef]) -> dict[ObjectRef, Live]:
        """Return the live states of the agents that have a log, in one round trip. One that cannot be read is left
        out."""
        wanted = list(refs)
        async with self.server.redis.pipeline(transaction=False) as pipe:
            for ref in wanted:
                pipe.hmget(self._ranges.key("-live", ref), LIVE_FIELDS)
            rows = await self.server.translated(lambda: pipe.execute(raise_on_error=False))
        found: dict[ObjectRef, Live] = {}
        for ref, row in zip(wanted, rows, strict=True):
            if is_damaged(row):
                logger.warning("live state could not be read", agent=str(ref), error=str(row))
            elif row[0] is not None:
                found[ref] = live_of(row)
        return found

    async def state(self, ref: ObjectRef) -> State:
        """Return the state of the log: its owner, and the positions that it covers."""
        live = self._ranges.key("-live", ref)
        return self.observe(ref, await self.server.translated(lambda: self.server.redis.hmget(live, READ_FIELDS)))

    # ---- events ----------------------------------------------------------------------------------------------------
    async def since(self, wanted: Mapping[ObjectRef, int], count: int, room: int = PAGE_BYTES) -> dict[ObjectRef, Read]:
        """See `StreamRanges.since`."""
        return await self._ranges.since(wanted, count, room)

    async def page(
        self,
        namespace: str,
        name: str,
        *,
        limit: int,
        after: str | None = None,
        before: str | None = None,
        around: str | None = None,
        types: Collection[str] | None = None,
        uid: str | None = None,
    ) -> LogPage:
        """Return at most `limit` events, oldest first: the newest, the first after `after`, the last before `before`,
        or half of them before `around` and half from it on.

        Cursors are event ids or RFC 3339 times; raises `Invalid` (`invalid_cursor`) for others. `types` filters, and
        reading continues until the limit is reached. With `uid`, the log of another uid is treated as empty. Beyond
        `PAGE_BYTES` the events that are farthest from the cursor are left out (`is_cut`).
        """
        low, high, middle = (parse_position(text) if text is not None else None for text in (after, before, around))
        if middle and (low or high):
            raise Invalid("around cannot be combined with after or before", code="invalid_cursor", field="around")
        selection = Selection(ObjectRef(namespace, name), uid, types)
        if middle:
            half = limit // 2
            older = await self._before(selection, half, PAGE_BYTES // 2, middle.high) if half else Read([], NO_LOG)
            newer = await self._after(selection, limit - half, PAGE_BYTES // 2, middle.high - 1)
            read = newer._replace(rows=older.rows + newer.rows, has_more=older.has_more or newer.has_more)
        elif low:
            read = await self._after(selection, limit, PAGE_BYTES, low.low, high.high if high else None)
        else:
            read = await self._before(selection, limit, PAGE_BYTES, high.high if high else None)
        rows, state = read.rows, read.state
        gap = bool(low and is_gone(state, low.low + 1, low.is_id))
        gap = gap or any(is_gone(state, at.high, at.is_id) for at in (middle, high) if at and not low)
        entries = [to_json(namespace, name, *row) for row in rows]
        return LogPage(entries, gap, rows[-1].id if rows else None, read.has_more and len(rows) < limit)

    async def _before(self, selection: Selection, limit: int, room: int, high: int | None) -> Read:
        """Return the last `limit` events before `high`, oldest first."""
        read = await self._filtered(selection, limit, room, OLDEST, _below(high), newest_first=True)
        return read._replace(rows=read.rows[::-1])

    async def _after(self, selection: Selection, limit: int, room: int, low: int, high: int | None = None) -> Read:
        """Return the first `limit` events after `low` and before `high`."""
        first = above(low) if low >= 0 else OLDEST
        return await self._filtered(selection, limit, room, first, _below(high), newest_first=False)

    async def _filtered(
        self, selection: Selection, limit: int, room: int, low: str, high: str, *, newest_first: bool
    ) -> Read:
        """Read until `limit` rows or `room` bytes of the selected types have been found, or there are no more rows."""
        ref, uid, types = selection
        chunk = limit if types is None else min(1000, max(200, 4 * limit))
        found: list[EventRow] = []
        while True:
            read = await self._ranges.range("", ref, low, high, chunk, room, newest_first=newest_first)
            if uid is not None and read.state.uid != uid:
                return Read([], NO_LOG)
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

    async def ends_after(self, key: LogKey, last_event_id: str | None) -> list[LogEntry]:
        """Return ends that the status does not account for yet, oldest first, at most `ENDS_AT_ONCE`. Retention does
        not remove them; only `trim_ends` does. An end that cannot be read has the type `unreadable`, and its payload
        says why."""
        low = above(micros_of(last_event_id)) if last_event_id else OLDEST
        read = await self._ranges.range("-ends", key.ref, low, NEWEST, ENDS_AT_ONCE)
        if read.state.uid != key.uid:
            return []
        return [LogEntry(row.id, row.type, timestamp_of(row.id), orjson.loads(row.payload)) for row in read.rows]

    async def messages(self, key: LogKey, after: str | None) -> list[LogEntry]:
        """Return the messages to the open task, oldest first: all, or those after the message `after`. A message that
        cannot be read is replaced by a notice, because the task waits for an answer to the newest message."""
        found: list[LogEntry] = []
        low = f"({after}" if after else OLDEST
        while True:
            read = await self._ranges.range("-messages", key.ref, low, NEWEST, MESSAGES_AT_ONCE)
            if read.state.uid != key.uid or read.state.open is None:
                return []
            found += [
                message_of(row, read.state.open) for row in read.rows if row.type in (read.state.open, UNREADABLE)
            ]
            if not read.has_more:
                return found
            low = f"({read.reached}"

    # ---- changes ---------------------------------------------------------------------------------------------------
    async def notified_since(self, after: str | None) -> NotificationBatch:
        """Return the notifications after the one with the id `after`."""
        name = self._prefix + "-bell"
        return await self.server.translated(lambda: read_notifications(self.server.redis, name, after))

    def notifications(self) -> AsyncIterator[frozenset[ObjectRef]]:
        """Yield the agents whose logs have changed since the last item. `EVERYTHING` means that any may have changed;
        it comes first, and after each failure of the server. Never ends, never raises."""
        return listen(self.server.address, self._prefix + "-bell")

    # ---- all logs --------------------------------------------------------------------------------------------------
    async def refs(self) -> frozenset[ObjectRef]:
        """Return the agents that have a log."""
        found = await self.server.translated(self._all)
        return frozenset(ObjectRef(namespace, name) for namespace, name, _ in found)

    def stream_and_live(self, ref: ObjectRef) -> tuple[str, str]:
        """Return the keys of an agent's events and of its live hash."""
        return self._ranges.key("", ref), self._ranges.key("-live", ref)

    async def all_logs(self) -> list[tuple[str, str, str]]:
        """Return `(namespace, name, uid)` of every log."""
        return await self.server.translated(self._all)

    async def _all(self) -> list[tuple[str, str, str]]:
        start = f"{self._prefix}-live:"
        found: list[tuple[str, str, str]] = []
        seen, position = set[bytes](), 0
        while True:
            position, keys = await self.server.redis.scan(position, match=f"{start}*", count=500)
            fresh = [name for name in keys if name not in seen]
            seen.update(fresh)
            async with self.server.redis.pipeline(transaction=False) as pipe:
                for name in fresh:
                    pipe.hget(name, "uid")
                uids = await pipe.execute(raise_on_error=False)
            for name, uid in zip(fresh, uids, strict=True):
                namespace, _, agent = name.decode(errors="replace")[len(start) :].partition(":")
                if not names_an_agent(ObjectRef(namespace, agent)) or is_damaged(uid):
                    logger.warning("foreign key in the event log", key=repr(name))
                elif uid is not None:
                    found.append((namespace, agent, uid.decode(errors="replace")))
            if position == 0:
                return found


def _below(micros: int | None) -> str:
    """Return the end of a range that excludes this position and later ones. None: the range ends with the newest
    event."""
    return NEWEST if micros is None else f"({id_of(max(1, micros))}"


def message_of(row: EventRow, task_id: str | None) -> LogEntry:
    """Return a message as an event. A notice replaces the content of a message that cannot be read."""
    payload = orjson.loads(row.payload)
    content = payload.get("content")
    if not isinstance(content, str):
        content = "(A message to this task cannot be read any more.)"
    payload = {"task_id": task_id or "", "content": content, "steer": True}
    return LogEntry(row.id, "user_message", timestamp_of(row.id), payload)
