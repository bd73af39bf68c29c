"""Deletes event logs whose agent was deleted while the operator did not run."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import structlog

from komputer.domain.errors import KomputerError, NotFound
from komputer.events.log import Log, LogKey
from komputer.kube import AGENTS, Cluster
from komputer.operator.cluster_state import ClusterState

log = structlog.get_logger(__name__)


class LogSweep:
    """Compares event logs with agents, and deletes the logs of deleted agents."""

    def __init__(self, cluster: Cluster, log: Log, state: ClusterState) -> None:
        self._cluster = cluster
        self._log = log
        self._state = state

    async def run(self, every: timedelta, after_each: Callable[[], None]) -> None:
        """Sweep at once and then every `every`, and call `after_each` after each sweep."""
        while True:
            try:
                await self.sweep()
            except KomputerError as error:
                log.warning("log sweep interrupted", error=error.message)
            after_each()
            await asyncio.sleep(every.total_seconds())

    async def sweep(self) -> None:
        """Delete the logs of agents that were created again under another uid.

        The log of an agent that is merely unknown stays until it expires: the Kubernetes API may have been restored
        from a backup, and may know the agent again."""
        for namespace, name, uid in await self._log.all_logs():
            known = self._state.get(AGENTS, namespace, name)
            if known is None or known["metadata"]["uid"] == uid or await self._exists(namespace, name, uid):
                continue
            await self._log.purge(LogKey(namespace, name, uid))
            log.info("log purged", agent=f"{namespace}/{name}", uid=uid)

    async def _exists(self, namespace: str, name: str, uid: str) -> bool:
        """Ask the API server whether the agent exists: the cache may not have an agent that was just created."""
        try:
            found = await self._cluster.get(AGENTS, name, namespace)
        except NotFound:
            return False
        return bool(found["metadata"]["uid"] == uid)
