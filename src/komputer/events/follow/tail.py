"""The tail of a process: each watched log is read once and fanned out to all who follow it.

A `Feed` reads on from one place and keeps the newest events in a ring that all its readers share; a `LiveReader` is a
place in that ring. The quickest reader sets the pace: a feed reads no further while nobody has taken what it has. A
reader that lies behind the ring reads for itself until it has caught up, so it slows nobody; how long one may take
nothing at all is decided where it is served.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Final

import structlog

from komputer.domain.errors import KomputerError, Unavailable
from komputer.domain.ref import ObjectRef
from komputer.events.follow.cursors import Cursor
from komputer.events.follow.groups import Member
from komputer.events.follow.notifier import Notifier
from komputer.events.follow.sources import AllAgents, Delivery, Fresh, OneAgent, Source
from komputer.events.log import Log

log = structlog.get_logger(__name__)

RING_LIMIT: Final = 2048
"""Events of one watched log that are kept for its readers."""
RING_LIMIT_BYTES: Final = 4 * 1024 * 1024
"""Of this process' memory: text that is not Latin takes two or four bytes a character."""
RING_REST: Final = 64
"""Of those that everybody has taken, so many stay for a reader that is about to join."""
TAKE_AT_ONCE: Final = 32
"""Events that a reader takes at once: between them others have their turn."""
TAKE_AT_ONCE_BYTES: Final = 256 * 1024
"""Of memory that they may have together; one event in any case."""
PAUSE_S: Final = (0.05, 2.0)
"""Between attempts to reach a server that is away: doubled from the first to the second."""


class StreamEnded(KomputerError):
    """Nothing follows: the agent was deleted, or its name belongs to another now."""

    code = "agent_deleted"


class RingBuffer:
    """The newest events of one feed, numbered. `start` is what was told before the oldest of them."""

    def __init__(self, start: Cursor) -> None:
        self.start = start
        self.first = 0
        self.next = 0
        self._kept: deque[Delivery] = deque()
        self._bytes = 0

    def add(self, deliveries: Sequence[Delivery]) -> None:
        self._kept.extend(deliveries)
        self.next += len(deliveries)
        self._bytes += sum(map(_size, deliveries))
        while self._kept and (len(self._kept) > RING_LIMIT or self._bytes > RING_LIMIT_BYTES):
            self._drop()

    def drop_before(self, number: int) -> None:
        while self._kept and self.first < number - RING_REST:
            self._drop()

    def _drop(self) -> None:
        oldest = self._kept.popleft()
        self.start, self.first = oldest.cursor, self.first + 1
        self._bytes -= _size(oldest)

    def after(self, number: int, count: int) -> list[Delivery] | None:
        """The first `count` from this number on, within `TAKE_AT_ONCE_BYTES`; None where they are no longer here."""
        if number < self.first:
            return None
        found: list[Delivery] = []
        room = TAKE_AT_ONCE_BYTES
        for each in islice(self._kept, number - self.first, number - self.first + count):
            room -= _size(each)
            if found and room < 0:
                break
            found.append(each)
        return found


def _size(deliveries: Delivery) -> int:
    return sys.getsizeof(deliveries.text) + sys.getsizeof(deliveries.cursor_text)


class Feed:
    """One log, or all, read once for its readers. It lives while it has any."""

    def __init__(self, source: Source, fresh: Fresh) -> None:
        self.ring = RingBuffer(source.cursor)
        self.readers: set[LiveReader] = set()
        self.fresh = fresh
        self.is_broken = False
        """The log was lost: each reader is to look for itself what it misses."""
        self._source = source
        self._has_changed = asyncio.Event()
        self._is_wanted = asyncio.Event()
        self._has_changed.set()

    def wake(self, *_: object) -> None:
        """Something may have changed."""
        self._has_changed.set()

    def want(self) -> None:
        """A reader has taken all."""
        self._is_wanted.set()

    async def run(self) -> None:
        pause = PAUSE_S[0]
        while not self.is_broken:
            await self._has_changed.wait()
            await self._is_wanted.wait()
            self._has_changed.clear()
            before = self._source.cursor
            try:
                deliveries = await self._source.more()
            except Unavailable as away:
                if pause == PAUSE_S[0]:
                    log.info("tail waited for the log", error=away.message)
                self._has_changed.set()
                await asyncio.sleep(pause)
                pause = min(2 * pause, PAUSE_S[1])
                continue
            except Exception:  # border: a defect here ends each reader by itself, it does not let them wait for ever
                log.exception("tail failed")
                self.is_broken = True
                self._wake_all()
                return
            pause = PAUSE_S[0]
            if not self._source.is_current:
                self._has_changed.set()
            if isinstance(self._source, OneAgent) and self._source.is_over:
                for reader in self.readers:
                    reader.end_with(deleted(self._source.ref))
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
    """One who follows. `take` gives what is new."""

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
        """Of all that `take` has given, and of what was there before."""
        return self._cursor

    def wake(self) -> None:
        self._woken.set()

    def end_with(self, reason: KomputerError) -> None:
        """Nothing is to follow what there is."""
        self._end = reason
        self._woken.set()

    async def begin(self) -> None:
        """From here on nothing is missed. Raises `Unavailable` where it is to begin now and the log is away."""
        if self._source:
            await self._source.begin()
            self._cursor = self._source.cursor

    async def take(self) -> list[Delivery]:
        """At least one event, at most some; waits for it, also while the log is away. May be cancelled and repeated.
        Raises `StreamEnded`."""
        pause = PAUSE_S[0]
        while True:
            if self._source:
                try:
                    if deliveries := await self._replayed(self._source):
                        return deliveries
                except Unavailable:
                    pass
                if self._source:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, PAUSE_S[1])
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
        """Nothing is kept for it: what it missed it asks for."""

    async def close(self) -> None:
        """It takes no more."""
        self._leave()
        self._tail.forget(self._key, self)

    async def _replayed(self, source: Source) -> list[Delivery]:
        """Reads for itself, and joins the others where they are as soon as nothing lies between."""
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
    return StreamEnded(f"agent {ref.name!r} in namespace {ref.namespace!r} was deleted")


ALL: Final = "all"


class Tail:
    """All feeds of a process. Close it: the feeds are tasks of its own."""

    def __init__(self, log: Log, notifier: Notifier) -> None:
        self._log = log
        self._notifier = notifier
        self._feeds: dict[object, Feed] = {}
        self._running: dict[Feed, tuple[asyncio.Task[None], Callable[[], None]]] = {}
        self._readers: dict[object, set[LiveReader | Member]] = {}

    def __len__(self) -> int:
        """How many logs are read."""
        return len(self._running)

    def follow(self, ref: ObjectRef, uid: str, cursor: Cursor | None, *, is_id: bool = True) -> LiveReader:
        """Of one agent; `cursor` None: from now on. `is_id`: the mark is an event's, not a time."""
        return self._reader((ref, uid), OneAgent(self._log, ref, uid, cursor, is_id=is_id))

    def follow_all(self, cursor: Cursor | None) -> LiveReader:
        return self._reader(ALL, AllAgents(self._log, cursor))

    def join(self, ref: ObjectRef, uid: str, group: str, cursor: Cursor | None) -> Member:
        """Of a group of one agent; `cursor` is where a new group begins, None: now."""
        key = (ref, uid)
        member = Member(self._log, self._notifier, ref, uid, group, cursor, left=lambda: self.forget(key, member))
        self._readers.setdefault(key, set()).add(member)
        return member

    def _reader(self, key: object, source: Source) -> LiveReader:
        reader = LiveReader(self, key, source)
        self._readers.setdefault(key, set()).add(reader)
        return reader

    def forget(self, key: object, reader: LiveReader | Member) -> None:
        readers = self._readers.get(key, set())
        readers.discard(reader)
        if not readers:
            self._readers.pop(key, None)

    def end(self, ref: ObjectRef, *, but_uid: str | None = None) -> None:
        """The agent at `ref` is gone, or another of that name (`but_uid`) is there."""
        for key, readers in self._readers.items():
            if isinstance(key, tuple) and key[0] == ref and key[1] != but_uid:
                for reader in readers:
                    reader.end_with(deleted(ref))

    def feed(self, key: object, source: Source) -> Feed:
        """The one of `key`; a new one goes on where `source` is."""
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
        """A reader of `feed` has left it."""
        if feed.readers or feed not in self._running:
            return
        task, stop = self._running.pop(feed)
        task.cancel()
        stop()
        if self._feeds.get(key) is feed:
            del self._feeds[key]

    async def close(self) -> None:
        running, self._running = list(self._running.values()), {}
        for task, stop in running:
            task.cancel()
            stop()
        await asyncio.gather(*(task for task, _ in running), return_exceptions=True)
