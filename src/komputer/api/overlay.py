"""What every agent is doing now, kept in memory: filled in one pipeline, then kept current by the log's bell.

Lists need the newest `taskStatus` of each agent without a call to Redis for each. Where Redis is away the overlay
stays as it was, and reads go on.
"""

import asyncio
from collections.abc import Callable, Iterable

import structlog

from komputer.events.log import Live, Log
from komputer.resources.errors import Unavailable

logger = structlog.get_logger(__name__)
Key = tuple[str, str]


class Overlay:
    """Live hashes by (namespace, name)."""

    def __init__(self, log: Log, every_agent: Callable[[], Iterable[Key]]) -> None:
        self._log = log
        self._every_agent = every_agent
        self._live: dict[Key, Live] = {}
        self.version = 0
        """Grows with each change."""

    def get(self, key: Key) -> Live | None:
        return self._live.get(key)

    async def current(self, key: Key) -> Live | None:
        """Straight from Redis, for decisions; raises `Unavailable`."""
        live = await self._log.live(*key)
        self._take(key, live)
        return live

    async def run(self) -> None:
        """Follows the bell for ever."""
        async for changed in self._log.bell():
            await self._refresh(changed or frozenset(self._every_agent()))

    async def fill(self) -> None:
        """All agents at once; called when the cache of agents is there."""
        await self._refresh(frozenset(self._every_agent()))

    async def _refresh(self, keys: frozenset[Key]) -> None:
        while True:
            try:
                found = await self._log.live_many(sorted(keys))
            except Unavailable as away:
                logger.warning("live overlay waited for the log", error=away.message)
                await asyncio.sleep(away.retry_after_s)
                continue
            for key in keys:
                self._take(key, found.get(key))
            return

    def _take(self, key: Key, live: Live | None) -> None:
        if self._live.get(key) != live:
            self.version += 1
            if live is None:
                self._live.pop(key, None)
            else:
                self._live[key] = live

    def forget(self, key: Key) -> None:
        self._take(key, None)
