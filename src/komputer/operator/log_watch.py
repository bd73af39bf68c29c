"""Wakes agents when their event logs have new events, and when their runtimes are silent."""

import asyncio
from datetime import timedelta
from typing import Final, Protocol

from komputer.domain import names
from komputer.domain.errors import Unavailable
from komputer.domain.ref import ObjectRef
from komputer.events.log import Log
from komputer.kube import AGENTS, PODS
from komputer.operator.agent.pod_status import pod_is_running
from komputer.operator.agent.status import PROGRESS_INTERVAL, is_progress_only
from komputer.operator.cluster_state import ClusterState
from komputer.operator.queue import NO_DELAY

BATCH: Final = 500
"""How many live hashes are read in one round trip."""
_MICROSECOND: Final = timedelta(microseconds=1)


class WakeAgent(Protocol):
    def __call__(self, key: ObjectRef, *, min_interval: timedelta = NO_DELAY) -> None: ...


class LogWatch:
    """Follows the event logs of all agents. `wake` is called with each agent that must have a turn."""

    def __init__(self, log: Log, state: ClusterState, wake: WakeAgent) -> None:
        self._log = log
        self._state = state
        self._wake = wake

    async def follow(self) -> None:
        """Wake each agent whose log has new events: at once if a task has started or ended, else at intervals."""
        async for changed in self._log.notifications():
            try:
                live = await self._log.live_many(changed)
            except Unavailable:
                changed = frozenset()  # as after a gap: any log may have changed
            for ref in changed or self._state.agents():
                agent = self._state.get(AGENTS, *ref)
                status = (agent or {}).get("status") or {}
                if agent and changed and is_progress_only(status, agent["metadata"]["uid"], live.get(ref)):
                    self._wake(ref, min_interval=PROGRESS_INTERVAL)
                else:
                    self._wake(ref)

    async def find_silent(self, report_after: timedelta) -> None:
        """Wake, at intervals, the agents whose pods run and whose runtimes have sent nothing for `report_after`. A
        silent runtime causes no event that would wake its agent. The agents' turns decide what to do."""
        while True:
            await asyncio.sleep(report_after.total_seconds() / 2)
            try:
                alive = await self._log.gateways().read()
                running = self._running_agents() if alive.since_us is not None else []
                for first in range(0, len(running), BATCH):
                    batch = running[first : first + BATCH]
                    live = await self._log.live_many(batch)
                    for ref in batch:
                        last_us = live[ref].seen_us if ref in live else 0
                        if alive.now_us - last_us >= report_after / _MICROSECOND:
                            self._wake(ref)
            except Unavailable:
                continue  # without the log nothing is known about runtimes

    def _running_agents(self) -> list[ObjectRef]:
        def has_running_pod(agent: ObjectRef) -> bool:
            return pod_is_running(self._state.get(PODS, agent.namespace, names.pod_name(agent.name)))

        return list(filter(has_running_pod, self._state.agents()))
