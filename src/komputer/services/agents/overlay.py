"""What every agent is doing now, kept in memory: filled in one pipeline, then kept current by the log's bell.

Lists need the newest `taskStatus` of each agent without a call to Redis for each. Where Redis is away the overlay
stays as it was, and reads go on. Whatever this process reads of a log, for a page or for those who follow, brings the
overlay up to there first: no list is older than an event that was handed out.
"""

import asyncio
from collections.abc import Callable, Iterable

import structlog

from komputer.domain.errors import Unavailable
from komputer.domain.ref import ObjectRef
from komputer.events.follow.notifier import EVERYTHING, Notifier
from komputer.events.log import Live, Log, LogKey

logger = structlog.get_logger(__name__)


class Overlay:
    """Live hashes by (namespace, name)."""

    def __init__(self, log: Log, notifier: Notifier, every_agent: Callable[[], Iterable[ObjectRef]]) -> None:
        self._log = log
        self._notifier = notifier
        self._changed: set[ObjectRef] = set()
        self._is_all = False
        self._has_rung = asyncio.Event()
        self._every_agent = every_agent
        self._live: dict[ObjectRef, Live] = {}
        self._reads = 0
        self._taken: dict[ObjectRef, int] = {}
        """At which of the reads the live state of a place was taken."""
        log.on_live(self._saw)
        self.is_filled = False
        """Whether every agent was read once."""
        self.version = 0
        """Grows with each change."""

    def get(self, key: ObjectRef) -> Live | None:
        return self._live.get(key)

    async def current(self, key: ObjectRef) -> Live | None:
        """Straight from Redis, for decisions; raises `Unavailable`."""
        began = self._reads
        live = await self._log.live(*key)
        self._take(key, live, began)
        return live

    async def has_ended(self, key: LogKey, task_id: str) -> bool:
        """Whether the log knows that the task has ended; raises `Unavailable`."""
        return task_id in (await self._log.pulse(key, 0, [task_id])).ended

    async def run(self) -> None:
        """Reads every agent, then follows the bell for ever; called when the cache of agents is there. It listens
        before it reads, so that nothing is missed in between."""
        stop = self._notifier.on_any(self._rung)
        self._rung(EVERYTHING)
        try:
            while True:
                await self._has_rung.wait()
                self._has_rung.clear()
                changed, self._changed = self._changed, set()
                everything, self._is_all = self._is_all, False
                await self._refresh(frozenset(self._every_agent() if everything else changed))
                self.is_filled = True
        finally:
            stop()

    def _rung(self, refs: frozenset[ObjectRef]) -> None:
        self._changed |= refs
        self._is_all = self._is_all or refs == EVERYTHING
        self._has_rung.set()

    async def _refresh(self, keys: frozenset[ObjectRef]) -> None:
        while True:
            began = self._reads
            try:
                found = await self._log.live_many(sorted(keys))
            except Unavailable as away:
                logger.warning("live overlay waited for the log", error=away.message)
                await asyncio.sleep(away.retry_after_s)
                continue
            for key in keys:
                self._take(key, found.get(key), began)
            return

    def _saw(self, key: ObjectRef, live: Live | None) -> None:
        """What was read together with events; another read may have overtaken it."""
        if live and _is_newer(live, self._live.get(key)):
            self._take(key, live, self._reads)

    def _take(self, key: ObjectRef, live: Live | None, began: int) -> None:
        """Of two reads at once the one that began first may answer last: `began` says how many had answered when this
        one began. A log that was lost or restored is older than what is known, and is believed all the same."""
        if self._taken.get(key, 0) > began and not _is_newer(live, self._live.get(key)):
            return
        self._reads += 1
        if live is None:
            self._taken.pop(key, None)
        else:
            self._taken[key] = self._reads
        if self._live.get(key) != live:
            self.version += 1
            if live is None:
                del self._live[key]
            else:
                self._live[key] = live

    def forget(self, key: ObjectRef) -> None:
        self._take(key, None, self._reads)


def _is_newer(live: Live | None, known: Live | None) -> bool:
    return live is not None and (known is None or live.last_us > known.last_us)
