"""Access of the operator to an agent's event log."""

import asyncio
from typing import Final

import structlog

from komputer.domain.agent import Agent
from komputer.domain.errors import Unavailable
from komputer.events.log import Log, LogKey
from komputer.operator.agent.decide import Decision
from komputer.operator.agent.endings import Ending, cancelled
from komputer.operator.agent.observe import NO_ANSWER, LogState
from komputer.operator.agent.observed import Observed
from komputer.redis.presence import GatewayPresence

log = structlog.get_logger(__name__)

ALIVE_TTL_S: Final = 1.0
"""How long the log's answer about gateways is cached."""


class AgentLog:
    """Reads the state of agents' logs, and appends the ends that the operator decides on."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._alive: tuple[float, GatewayPresence] | None = None

    async def read(self, agent: Agent) -> LogState:
        """Return the state of the agent's log; `NO_ANSWER` while the log's server does not answer."""
        key = _key(agent)
        try:
            live, ends, alive = await asyncio.gather(
                self._log.live(key.namespace, key.name),
                self._log.ends_after(key, agent.status.last_event_id),
                self._gateways_alive(),
            )
        except Unavailable:
            return NO_ANSWER
        return LogState(live, tuple(ends), alive)

    async def append_endings(self, observed: Observed, decision: Decision) -> bool:
        """Append the ends that no runtime will write. Return whether there is an end to count in the status: the log
        has accepted one, or already had one."""
        has_new_end = False
        for ending in decision.endings:
            answer = await self._append(observed.agent, ending)
            if answer == "started":
                for other in cancelled(observed, decision.status, has_started=True).endings:
                    answer = await self._append(observed.agent, other)
            has_new_end = has_new_end or answer in ("ok", "ended")
        return has_new_end

    async def forget_ends(self, agent: Agent, last_event_id: str) -> None:
        """Remove ends up to `last_event_id` from the log; the stored status must count them."""
        await self._log.trim_ends(_key(agent), last_event_id)

    async def purge(self, namespace: str, name: str, uid: str) -> None:
        """Delete the log of a deleted agent. Afterwards pods of the agent with this uid cannot write to it."""
        await self._log.purge(LogKey(namespace, name, uid))
        log.info("log purged", agent=f"{namespace}/{name}", uid=uid)

    async def _gateways_alive(self) -> GatewayPresence:
        """Return the time since which a gateway has been alive. The answer is at most `ALIVE_TTL_S` old."""
        now = asyncio.get_running_loop().time()
        if self._alive is None or now > self._alive[0] + ALIVE_TTL_S:
            self._alive = (now, await self._log.gateways().read())
        read_at, alive = self._alive
        return alive._replace(now_us=alive.now_us + int((now - read_at) * 1e6))

    async def _append(self, agent: Agent, ending: Ending) -> str:
        answer = await self._log.end(
            _key(agent),
            ending.event,
            generation=agent.metadata.generation,
            floor=agent.status.last_event_id,
            unless_started=ending.unless_started,
        )
        if answer == "ok":
            log.info("task ended by the operator", agent=agent.key, task=ending.event.task_id, end=ending.event.type)
        return answer


def _key(agent: Agent) -> LogKey:
    return LogKey(agent.metadata.namespace or "", agent.metadata.name, agent.metadata.uid)
