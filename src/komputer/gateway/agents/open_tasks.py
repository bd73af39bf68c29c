"""Which task of an agent is open: only while one is may its pod ask for anything outside."""

import asyncio
from typing import Final

from komputer.domain.errors import Unavailable
from komputer.events.log import Live, Log
from komputer.gateway.agents.assignment import open_task
from komputer.gateway.agents.identity import PodIdentity

LOOK_S: Final = 1.0
"""How long a log is waited for that does not answer, where it was seen before."""


class OpenTasks:
    """As the log shows them. While that is away, as it showed them last: no task ends without the log."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._seen: dict[str, Live] = {}

    async def of(self, caller: PodIdentity) -> str:
        """Raises `Forbidden` (`no_open_task`), `Unavailable`."""
        key = caller.key
        seen = self._seen.get(key.uid)
        try:
            async with asyncio.timeout(LOOK_S if seen else None):
                live = await self._log.live(key.namespace, key.name)
        except (Unavailable, TimeoutError):
            if seen is None:
                raise
            return open_task(caller.agent, seen)
        if live and live.uid == key.uid:
            self._seen[key.uid] = live
        return open_task(caller.agent, live)

    def forget(self, uid: str) -> None:
        """The agent is gone."""
        self._seen.pop(uid, None)
