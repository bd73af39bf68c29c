"""Finds an agent's open task. Only while there is one may its pod use the model and connectors."""

import asyncio
from typing import Final

from komputer.domain.errors import Unavailable
from komputer.events.log import Live, Log
from komputer.gateway.agents.assignment import open_task
from komputer.gateway.agents.identity import PodIdentity

LOG_TIMEOUT_S: Final = 1.0
"""How long to wait for the log if an earlier answer is cached."""


class OpenTasks:
    """Reads open tasks from the log. While the log does not answer, its last answer is used: no task can end without
    the log."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._last: dict[str, Live] = {}

    async def of(self, caller: PodIdentity) -> str:
        """Return the id of the caller's open task. Raises `Forbidden` (`no_open_task`) and `Unavailable`."""
        key = caller.key
        last = self._last.get(key.uid)
        try:
            async with asyncio.timeout(LOG_TIMEOUT_S if last else None):
                live = await self._log.live(key.namespace, key.name)
        except (Unavailable, TimeoutError):
            if last is None:
                raise
            return open_task(caller.agent, last)
        if live and live.uid == key.uid:
            self._last[key.uid] = live
        return open_task(caller.agent, live)

    def forget(self, uid: str) -> None:
        """Drop the cached answer about a deleted agent."""
        self._last.pop(uid, None)
