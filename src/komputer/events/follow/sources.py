"""The sources of a stream: the log of one agent, or of all agents. A source reads on from its cursor, batch by
batch."""

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import orjson

from komputer.domain.event_ids import id_of, micros_of, timestamp_of
from komputer.domain.ref import ObjectRef
from komputer.events.entries import EventRow, State, is_gone, to_json
from komputer.events.follow.cursors import Cursor, merge, settled
from komputer.events.log import Log

READ_COUNT: Final = 500
"""Maximum number of events in one read, and in one delivery."""
READ_COUNT_MIN: Final = 20
"""Minimum number of events that one read of one log requests, if many logs are read at once."""
READ_BYTES: Final = 1024 * 1024
"""Maximum size of the payloads in one read of one log, in bytes, but at least one event (up to 256 KiB). A reader that
lags behind holds this much."""
HELD_BYTES: Final = 4 * 1024 * 1024
"""Approximate maximum size of the payloads that a reader of all logs holds, in bytes. It is divided among the logs that
the reader still has to read; of each of these it holds at least one event."""
GAP: Final = "gap"
"""The type of a notice that retention removed events before this reader got them. It is not an event of the log."""


class Delivery(NamedTuple):
    """One event as readers get it. `cursor` covers it and everything before it; `cursor_text` is the same as text."""

    ref: ObjectRef
    micros: int
    type: str
    text: str
    cursor: Cursor
    cursor_text: str


class Source(Protocol):
    """A source of a reader's events."""

    cursor: Cursor
    """The cursor after the events that were read."""
    is_current: bool
    """Whether the last `more` returned all events that existed."""

    async def begin(self) -> None:
        """Set the start position: without a cursor, after the newest existing event. Raises `Unavailable`."""

    async def more(self) -> list[Delivery]:
        """Return the next events, in order. Raises `Unavailable`. Neither an error nor a cancellation loses events."""


class OneAgent:
    """The log of one agent. A log of another uid is treated as empty. If `cursor` is None, the source starts now.

    `is_id`: the cursor is the id of an event, not a time. Then a cursor from before the log was created means that
    events were lost.
    """

    def __init__(self, log: Log, ref: ObjectRef, uid: str, cursor: Cursor | None, *, is_id: bool = True) -> None:
        self.ref, self.uid, self.is_id = ref, uid, is_id
        self.cursor = cursor or Cursor(0)
        self.is_current = False
        self.was_observed = False
        """Whether a read has found that the log belongs to this uid."""
        self.is_over = False
        """Whether the log belonged to this uid and belongs to another one now."""
        self._log = log
        self._is_from_now = cursor is None

    async def begin(self) -> None:
        if self._is_from_now:
            state = await self._log.state(self.ref)
            self.cursor = Cursor(state.last if state.uid == self.uid else 0)
            self._is_from_now, self.is_current = False, True

    async def more(self) -> list[Delivery]:
        await self.begin()
        rows, state, has_more, _ = (await self._log.since({self.ref: self.cursor.base}, READ_COUNT, READ_BYTES))[
            self.ref
        ]
        if state.uid != self.uid:
            self.is_over = self.was_observed and state.uid is not None
            rows, state, has_more = [], State(None, 0, 0), False
        self.was_observed = self.was_observed or state.uid == self.uid
        deliveries = self._gap(state) + [delivery(self.ref, row) for row in rows]
        self.is_current = not (has_more and rows)
        # No event lies between the newest one and `last`. This replaces a cursor from the future, or of a log that was
        # lost.
        self.cursor = Cursor(state.last) if self.is_current else deliveries[-1].cursor
        self.is_id = True
        return deliveries

    def _gap(self, state: State) -> list[Delivery]:
        is_id = self.is_id and self.cursor.base > 0
        if not is_gone(state, self.cursor.base + 1, is_id):
            return []
        return [gap(self.ref, self.cursor.base, max(self.cursor.base, state.lost, state.born if is_id else 0))]


def delivery(ref: ObjectRef, row: EventRow) -> Delivery:
    """Return the event of one agent's log as its readers get it."""
    micros = micros_of(row.id)
    return Delivery(ref, micros, row.type, _text(ref, row), Cursor(micros), row.id)


def _text(ref: ObjectRef, row: EventRow) -> str:
    return to_json(*ref, row.id, row.type, row.payload).decode()


def gap(ref: ObjectRef, after: int, upto: int, cursor: Cursor | None = None) -> Delivery:
    """Return the notice that some or all events above `after` and up to `upto` have been removed."""
    namespace, name = ref
    payload = {"after": id_of(after), "upto": id_of(upto)}
    notice = {"agentName": name, "namespace": namespace, "type": GAP, "timestamp": timestamp_of(id_of(upto))}
    now = cursor or Cursor(upto)
    return Delivery(ref, upto, GAP, orjson.dumps({**notice, "payload": payload}).decode(), now, now.to_text())


class AllAgents:
    """The logs of all agents, merged: the events of each agent in their order. If `cursor` is None, the source starts
    now.

    It works in rounds. A round reads the logs that have changed since `last_notification`, and merges their events by
    id (`cursors.merge`).
    """

    def __init__(self, log: Log, cursor: Cursor | None) -> None:
        self.cursor = cursor or Cursor(0)
        self.is_current = False
        self.last_notification: str | None = None
        """Every log with a notification up to this one has been read. None: every log has to be read."""
        self._log = log
        self._is_foreign = cursor is not None
        """Whether the cursor is a client's, and not yet limited to the positions that exist."""
        self._is_from_now = cursor is None
        self._pages: dict[ObjectRef, list[EventRow]] = {}
        self._unfinished: set[ObjectRef] = set()
        self._next_notification: str | None = None

    async def begin(self) -> None:
        if self._is_from_now:
            self.cursor = Cursor(settled((await self._log.notified_since(None)).last))
            while not self.is_current:  # skip events of this millisecond, and ids ahead of the clock
                await self._more()
            self._is_from_now = False

    async def more(self) -> list[Delivery]:
        await self.begin()
        return await self._more()

    async def _more(self) -> list[Delivery]:
        if not self._unfinished and not self._pages:
            batch = await self._log.notified_since(self.last_notification)
            self._unfinished = set(await self._log.refs() if batch.refs is None else batch.refs)
            self._next_notification = batch.last
        safe = settled(self._next_notification)
        deliveries = await self._read_on(safe)
        merged = merge(self.cursor, self._pages, self._unfinished, safe, READ_COUNT)
        self._pages, self.cursor = merged.remaining, merged.cursor
        self.is_current = not self._unfinished and not self._pages
        if self.is_current:
            self.last_notification = self._next_notification
        deliveries += [
            Delivery(ref, micros_of(row.id), row.type, _text(ref, row), cursor, cursor.to_text())
            for ref, row, cursor in merged.rows
        ]
        return deliveries

    async def _read_on(self, safe: int) -> list[Delivery]:
        """Read more of the unfinished logs into `_pages`, and return the gaps that were found.

        Nothing is read while every unfinished log has a page, because the merge can continue. Otherwise only the logs
        with short pages are read. So about `READ_COUNT` events are held, or `READ_COUNT_MIN` of each log.
        """
        held = {ref: self._pages.get(ref, []) for ref in self._unfinished}
        low: dict[ObjectRef, int] = {}
        if any(not rows for rows in held.values()):
            share = HELD_BYTES // len(held)
            little = {
                p: rows for p, rows in held.items() if 2 * len(rows) < READ_COUNT_MIN and 2 * _size(rows) <= share
            }
            low = {p: micros_of(rows[-1].id) if rows else self.cursor.reached(p) for p, rows in little.items()}
        room = max(READ_COUNT, READ_COUNT_MIN * len(held)) + READ_COUNT - sum(map(len, self._pages.values()))
        count = min(READ_COUNT, max(READ_COUNT_MIN, room // max(1, len(low))))
        found = await self._log.since(low, count, HELD_BYTES // max(1, len(low)))
        if self._is_foreign:
            self._is_foreign = False
            self.cursor = self.cursor.within(safe, {ref: read.state.last for ref, read in found.items()})
        gaps = []
        for ref, (rows, state, has_more, _) in found.items():
            if 0 < low[ref] < state.lost:
                if held[ref]:
                    continue  # the events that are held come before the gap
                gaps.append(gap(ref, low[ref], state.lost, self.cursor))
            if rows:
                self._pages[ref] = held[ref] + rows
            if not (has_more and rows):
                self._unfinished.discard(ref)
        return gaps


def _size(rows: list[EventRow]) -> int:
    return sum(len(row.payload) for row in rows)


Fresh = Callable[[Cursor], Source]
"""Creates a source of the same events that begins at a cursor."""
