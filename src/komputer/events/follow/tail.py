"""The tail of a process: it reads each followed log once, and passes the events to all readers of the log.

A `Feed` reads one log, or all of them, and keeps the newest events in a ring buffer that its readers share. A
`LiveReader` is a position in that buffer. The fastest reader sets the pace: a feed reads on only when some reader has
taken all events. A reader that falls behind the buffer leaves the feed and reads the log itself until it has caught up,
so a slow reader does not delay the others. How long a reader may take no events is the decision of the code that serves
it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from komputer.backoff import Backoff
from komputer.domain.errors import KomputerError, Unavailable
from komputer.domain.ref import ObjectRef
from komputer.events.follow.cursors import Cursor
from komputer.events.follow.groups import Member
from komputer.events.follow.notifier import Notifier
from komputer.events.follow.ring_buffer import RingBuffer
from komputer.events.follow.sources import AllAgents, Delivery, Fresh, OneAgent, Source
from komputer.events.log import Log

log = structlog.get_logger(__name__)

TAKE_AT_ONCE: Final = 32
"""Maximum number of events that a reader takes at once, so that other readers run in between."""
BACKOFF: Final = Backoff(0.05, 2.0)
"""The delay between attempts to reach a server that does not answer."""


class StreamEnded(KomputerError):
    """No more events follow: the agent was deleted, or another agent has its name now."""

    code = "agent_deleted"


class Feed:
    """Reads one log, or all of them, once for all of its readers. It runs as long as it has readers."""

    def __init__(self, source: Source, fresh: Fresh) -> None:
        self.ring = RingBuffer(source.cursor)
        self.readers: set[LiveReader] = set()
        self.fresh = fresh
        self.is_broken = False
        """Whether the log was lost, or the feed failed. Each reader must then read the log itself to find what it has
        missed."""
        self._source = source
        self._has_changed = asyncio.Event()
        self._is_wanted = asyncio.Event()
        self._has_changed.set()

    def wake(self, *_: object) -> None:
        """Make the feed read again, because the log may have changed. The arguments of subscriptions are ignored."""
        self._has_changed.set()

    def want(self) -> None:
        """Let the feed read on, because a reader has taken all events."""
        self._is_wanted.set()

    async def run(self) -> None:
        """Read until the log is lost or the feed fails."""
        failures = 0
        while not self.is_broken:
            await self._has_changed.wait()
            await self._is_wanted.wait()
            # Cleared before the read, so that a notification during the read causes another one.
            self._has_changed.clear()
            before = self._source.cursor
            try:
                deliveries = await self._source.more()
            except Unavailable as away:
                if failures == 0:
                    log.info("tail waits for the event log", error=away.message)
                self._has_changed.set()
                failures += 1
                await asyncio.sleep(BACKOFF.delay_s(failures))
                continue
            except Exception:  # a defect here must end every reader, not leave them waiting for ever
                log.exception("tail failed")
                self.is_broken = True
                self._wake_all()
                return
            failures = 0
            if not self._source.is_current:
                self._has_changed.set()
            if isinstance(self._source, OneAgent) and self._source.is_over:
                for reader in self.readers:
                    reader.end_with(deleted(self._source.ref))
            # A cursor that went back belongs to a new log of the same agent: the old one was lost.
            if not self._source.cursor.includes(before):
                self.is_broken = True
            elif deliveries:
                self.ring.drop_before(min((reader.number for reader in self.readers), default=self.ring.next))
                self.ring.add(deliveries)
                self._is_wanted.clear()
            if deliveries or self.is_broken:
                self._wake_all()

    def _wake_all(self) -> None:
        for reader in self.readers:
            reader.wake()


class LiveReader:
    """One reader of a feed. `take` returns the next events."""

    def __init__(self, tail: "Tail", key: object, source: Source) -> None:
        self.number = 0
        self._tail = tail
        self._key = key
        self._source: Source | None = source
        self._feed: Feed | None = None
        self._cursor = source.cursor
        self._end: KomputerError | None = None
        self._woken = asyncio.Event()

    @property
    def cursor(self) -> Cursor:
        """The cursor after the events that `take` has returned. It covers them and everything before them."""
        return self._cursor

    def wake(self) -> None:
        """Wake a waiting `take`, so that it checks for events again."""
        self._woken.set()

    def end_with(self, reason: KomputerError) -> None:
        """Make `take` raise `reason` after it has returned the remaining events."""
        self._end = reason
        self._woken.set()

    async def begin(self) -> None:
        """Set the start position; no later event is missed. Raises `Unavailable` if the reader has no cursor and the
        log does not answer."""
        if self._source:
            await self._source.begin()
            self._cursor = self._source.cursor

    async def take(self) -> list[Delivery]:
        """Wait for events and return at least one. This also waits while the log does not answer. It may be cancelled
        and called again without a loss. Raises `StreamEnded`."""
        failures = 0
        while True:
            if self._source:
                try:
                    if deliveries := await self._replayed(self._source):
                        return deliveries
                except Unavailable:
                    pass
                if self._source:
                    failures += 1
                    await asyncio.sleep(BACKOFF.delay_s(failures))
            elif self._feed:
                if deliveries := self._shared(self._feed):
                    return deliveries
                if self._end:
                    raise self._end
                if self._feed and self.number == self._feed.ring.next:
                    self._feed.want()
                    await self._woken.wait()
                    self._woken.clear()

    async def confirm(self, deliveries: list[Delivery], ponged: Callable[[], Awaitable[None]] | None) -> None:
        """Do nothing: a client that missed an event requests it with its cursor."""

    async def close(self) -> None:
        """Leave the feed."""
        self._leave()
        self._tail.forget(self._key, self)

    async def _replayed(self, source: Source) -> list[Delivery]:
        """Read the log for this reader alone. Join the feed as soon as this reader has read up to the oldest event of
        the feed's buffer."""
        if self._end and source.is_current:
            raise self._end
        deliveries = await source.more()
        self._cursor = source.cursor
        if source.is_current:
            feed = self._tail.feed(self._key, source)
            if self._cursor.includes(feed.ring.start):
                self._feed, self._source, self.number = feed, None, feed.ring.first
                feed.readers.add(self)
        return deliveries

    def _shared(self, feed: Feed) -> list[Delivery]:
        """Return the next events of the feed's buffer. A reader that has fallen behind leaves the feed."""
        found = feed.ring.after(self.number, TAKE_AT_ONCE)
        if feed.is_broken and not found and self._end:
            raise self._end
        if found is None or (feed.is_broken and not found):
            self._leave()
            self._source = feed.fresh(self._cursor)
            return []
        self.number += len(found)
        deliveries = []
        for each in found:
            if self._cursor.covers(each.ref, each.micros):
                continue
            # A reader that joined may be ahead of the feed for some agents. Its cursor must not go back.
            if each.cursor.includes(self._cursor):
                self._cursor = each.cursor
            else:
                self._cursor = self._cursor.joined(each.cursor)
                each = each._replace(cursor=self._cursor, cursor_text=self._cursor.to_text())
            deliveries.append(each)
        return deliveries

    def _leave(self) -> None:
        if self._feed:
            feed, self._feed = self._feed, None
            feed.readers.discard(self)
            self._tail.left(self._key, feed)


def deleted(ref: ObjectRef) -> StreamEnded:
    """Return the error that ends the readers of a deleted agent."""
    return StreamEnded(f"agent {ref.name!r} in namespace {ref.namespace!r} was deleted")


ALL: Final = "all"
"""Key of the feed of all logs."""


class Tail:
    """The feeds of a process. They run as tasks until `close`."""

    def __init__(self, log: Log, notifier: Notifier) -> None:
        self._log = log
        self._notifier = notifier
        self._feeds: dict[object, Feed] = {}
        self._running: dict[Feed, tuple[asyncio.Task[None], Callable[[], None]]] = {}
        self._readers: dict[object, set[LiveReader | Member]] = {}

    def __len__(self) -> int:
        """The number of running feeds."""
        return len(self._running)

    def follow(self, ref: ObjectRef, uid: str, cursor: Cursor | None, *, is_id: bool = True) -> LiveReader:
        """Return a reader of one agent's log. It starts after `cursor`, or now if this is None. `is_id`: the cursor is
        the id of an event, not a time."""
        return self._reader((ref, uid), OneAgent(self._log, ref, uid, cursor, is_id=is_id))

    def follow_all(self, cursor: Cursor | None) -> LiveReader:
        """Return a reader of all logs. It starts after `cursor`, or now if this is None."""
        return self._reader(ALL, AllAgents(self._log, cursor))

    def join(self, ref: ObjectRef, uid: str, group: str, cursor: Cursor | None) -> Member:
        """Return a member of a consumer group of one agent. A new group begins at `cursor`; None: now."""
        key = (ref, uid)
        member = Member(self._log, self._notifier, ref, uid, group, cursor, on_close=lambda: self.forget(key, member))
        self._readers.setdefault(key, set()).add(member)
        return member

    def _reader(self, key: object, source: Source) -> LiveReader:
        reader = LiveReader(self, key, source)
        self._readers.setdefault(key, set()).add(reader)
        return reader

    def forget(self, key: object, reader: LiveReader | Member) -> None:
        """Remove a reader that was closed."""
        readers = self._readers.get(key, set())
        readers.discard(reader)
        if not readers:
            self._readers.pop(key, None)

    def end(self, ref: ObjectRef, *, but_uid: str | None = None) -> None:
        """End the readers of a deleted agent. With `but_uid`, another agent has the name now: its readers continue."""
        for key, readers in self._readers.items():
            if isinstance(key, tuple) and key[0] == ref and key[1] != but_uid:
                for reader in readers:
                    reader.end_with(deleted(ref))

    def feed(self, key: object, source: Source) -> Feed:
        """Return the feed with this key. A new one continues from `source`."""
        found = self._feeds.get(key)
        if found and not found.is_broken:
            return found
        if isinstance(source, OneAgent):
            ref, uid = source.ref, source.uid
            feed = Feed(source, lambda cursor: OneAgent(self._log, ref, uid, cursor))
            stop = self._notifier.on(ref, feed.wake)
        else:
            feed = Feed(source, lambda cursor: AllAgents(self._log, cursor))
            stop = self._notifier.on_any(feed.wake)
        self._feeds[key] = feed
        self._running[feed] = asyncio.create_task(feed.run(), name=f"tail of {key}"), stop
        return feed

    def left(self, key: object, feed: Feed) -> None:
        """Stop the feed if its last reader has left."""
        if feed.readers or feed not in self._running:
            return
        task, stop = self._running.pop(feed)
        task.cancel()
        stop()
        if self._feeds.get(key) is feed:
            del self._feeds[key]

    async def close(self) -> None:
        """Stop all feeds."""
        running, self._running = list(self._running.values()), {}
        for task, stop in running:
            task.cancel()
            stop()
        await asyncio.gather(*(task for task, _ in running), return_exceptions=True)
