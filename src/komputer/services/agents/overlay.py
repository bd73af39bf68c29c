"""The live state of every agent, in memory: read in one pipeline, then updated after each notification of the log.

Lists need the newest `taskStatus` of each agent without a call to Redis for each. While Redis does not answer, the
overlay keeps its state, and reads continue. Whenever this process reads a log, for a page or a stream, it updates the
overlay first: no list is older than an event that was returned to a client.
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
    """The live state of each agent. `every_agent` returns the agents that exist."""

    def __init__(self, log: Log, notifier: Notifier, every_agent: Callable[[], Iterable[ObjectRef]]) -> None:
        self._log = log
        self._notifier = notifier
        self._changed: set[ObjectRef] = set()
        self._is_all_changed = False
        self._wake_up = asyncio.Event()
        self._every_agent = every_agent
        self._live: dict[ObjectRef, Live] = {}
        self._reads = 0
        self._read_numbers: dict[ObjectRef, int] = {}
        """The number of the read that the live state of an agent came from."""
        log.on_live(self._observed)
        self.is_filled = False
        """Whether every agent has been read once."""
        self.version = 0
        """Increases with each change."""

    def get(self, key: ObjectRef) -> Live | None:
        """Return the last known live state of an agent."""
        return self._live.get(key)

    async def current(self, key: ObjectRef) -> Live | None:
        """Return the live state from Redis, for decisions. Raises `Unavailable`."""
        began = self._reads
        live = await self._log.live(*key)
        self._update(key, live, began)
        return live

    async def has_ended(self, key: LogKey, task_id: str) -> bool:
        """Return whether the task has ended according to the log. Raises `Unavailable`."""
        return task_id in (await self._log.pulse(key, 0, [task_id])).ended

    async def run(self) -> None:
        """Read every agent, then follow the notifications forever. Call it when the cache of agents is filled.

        It subscribes before it reads, so that no notification in between is missed.
        """
        stop = self._notifier.on_any(self._notified)
        self._notified(EVERYTHING)
        try:
            while True:
                await self._wake_up.wait()
                self._wake_up.clear()
                changed, self._changed = self._changed, set()
                is_all, self._is_all_changed = self._is_all_changed, False
                await self._refresh(frozenset(self._every_agent() if is_all else changed))
                self.is_filled = True
        finally:
            stop()

    def _notified(self, refs: frozenset[ObjectRef]) -> None:
        self._changed |= refs
        self._is_all_changed = self._is_all_changed or refs == EVERYTHING
        self._wake_up.set()

    async def _refresh(self, keys: frozenset[ObjectRef]) -> None:
        while True:
            began = self._reads
            try:
                found = await self._log.live_many(sorted(keys))
            except Unavailable as away:
                logger.warning("live states not read; will retry", error=away.message)
                await asyncio.sleep(away.retry_after_s)
                continue
            for key in keys:
                self._update(key, found.get(key), began)
            return

    def _observed(self, key: ObjectRef, live: Live | None) -> None:
        """Store the live state that was read together with events, unless a newer one is known."""
        if live and _is_newer(live, self._live.get(key)):
            self._update(key, live, self._reads)

    def _update(self, key: ObjectRef, live: Live | None, began: int) -> None:
        """Replace the live state of an agent by the result of a read.

        Of two concurrent reads, the one that began first may return last. `began` is the number of reads that had
        returned when this one began; it is outdated if the agent was updated since. The state of a log that was lost or
        restored is older than the known one, and replaces it nevertheless.
        """
        if self._read_numbers.get(key, 0) > began and not _is_newer(live, self._live.get(key)):
            return
        self._reads += 1
        if live is None:
            self._read_numbers.pop(key, None)
        else:
            self._read_numbers[key] = self._reads
        if self._live.get(key) != live:
            self.version += 1
            if live is None:
                del self._live[key]
            else:
                self._live[key] = live

    def forget(self, key: ObjectRef) -> None:
        """Drop the live state of an agent that was deleted."""
        self._update(key, None, self._reads)


def _is_newer(live: Live | None, known: Live | None) -> bool:
    return live is not None and (known is None or live.last_us > known.last_us)
