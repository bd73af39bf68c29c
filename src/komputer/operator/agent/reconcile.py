"""Reconciles one agent: observe, decide, apply. Every step may be interrupted and repeated."""

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import ValidationError
from ulid import ULID

from komputer.domain.agent import Agent
from komputer.domain.base import Manifest
from komputer.domain.errors import Forbidden, Invalid, NotFound, Unavailable
from komputer.domain.ref import ObjectRef
from komputer.events.log import Log
from komputer.events.reading import ENDS_AT_ONCE
from komputer.kube import AGENTS, Cluster
from komputer.kube.store import is_terminating
from komputer.operator.agent.agent_log import AgentLog
from komputer.operator.agent.child_writer import ChildWriter
from komputer.operator.agent.decide import Decision, decide
from komputer.operator.agent.namespaces import NamespaceSetup
from komputer.operator.agent.observe import LogState, first_error, observe
from komputer.operator.agent.observed import Observed
from komputer.operator.agent.status import throttled
from komputer.operator.agent.status_writer import StatusWriter
from komputer.operator.agent.steps import Steps
from komputer.operator.cluster_state import ClusterState
from komputer.operator.settings import OperatorSettings

MIN_REQUEUE: Final = timedelta(milliseconds=20)
"""The shortest delay of a turn after the operator's own writes: the watch delivers these at about the same time."""


@dataclasses.dataclass
class _Memory:
    """The state that is kept about one agent between turns. If it is lost, the worst case is one redundant write or
    attempt."""

    uid: str
    written_at: datetime | None = None
    """The time of the last write of the status."""
    refused: str | None = None
    """The API server's message if it refused the last steps; else None."""
    annotations: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    """The annotations of the successors of deleted children, by `Child.key`."""


class Reconciler:
    """Reconciles agents. Call `reconcile` once per turn of an agent, and never concurrently for the same agent."""

    def __init__(self, settings: OperatorSettings, cluster: Cluster, log: Log, state: ClusterState) -> None:
        self._settings = settings
        self._state = state
        self._log = AgentLog(log)
        self._children = ChildWriter(cluster, state)
        self._namespaces = NamespaceSetup(cluster)
        self._status = StatusWriter(cluster, state)
        self._memory: dict[ObjectRef, _Memory] = {}

    def check_namespaces(self) -> None:
        """Make the next turn of each agent check the shared objects of its namespace again."""
        self._namespaces.forget()

    async def reconcile(self, key: ObjectRef) -> timedelta | None:
        """Make the cluster match the agent's spec, and the agent's status match the cluster. Return after how long to
        repeat this even if nothing changes; None: never. Raises `Unavailable` while the event log does not answer."""
        manifest = self._state.get(AGENTS, *key)
        requeue_after = None
        if manifest is None:
            self._memory.pop(key, None)
        elif not is_terminating(manifest):
            requeue_after = await self._reconcile(manifest)
        for uid in self._state.deleted_uids(key):
            await self._log.purge(key.namespace, key.name, uid)
            self._state.forget_deleted(key, uid)
        return requeue_after

    async def _reconcile(self, manifest: Manifest) -> timedelta | None:
        try:
            agent = Agent.model_validate(manifest)
        except ValidationError as error:
            await self._status.write_invalid(manifest, first_error(error))
            return None
        log_state = await self._log.read(agent)
        requeue_after = await self._advance(agent, manifest, log_state)
        if not log_state.answers:
            raise Unavailable(
                "the event log does not answer; children and conditions are up to date", code="log_unavailable"
            )
        return requeue_after

    async def _advance(self, agent: Agent, manifest: Manifest, log_state: LogState) -> timedelta | None:
        memory = self._memory_of(agent)
        observed = self._observe(agent, log_state, memory)
        fresh_id = str(ULID())
        decision = decide(observed, fresh_id, memory.annotations)
        obstacles: dict[str, Manifest] = {}
        if decision.steps.stages or not self._namespaces.is_prepared(agent.metadata.namespace or "", observed.config):
            obstacles = await self._apply(observed, decision.steps, memory)
            observed = self._observe(agent, log_state, memory)
            observed = dataclasses.replace(observed, children={**observed.children, **obstacles})
            decision = decide(observed, fresh_id, memory.annotations)
        has_new_end = await self._log.append_endings(observed, decision)
        write_at = await self._write(manifest, observed, decision, memory)
        delays = [at - observed.now for at in (decision.requeue_at, write_at) if at is not None]
        delays += [MIN_REQUEUE] if has_new_end or len(log_state.ends) >= ENDS_AT_ONCE else []
        delays += [self._settings.retry_every] if obstacles or memory.refused else []
        return max(MIN_REQUEUE, min(delays)) if delays else None

    def _memory_of(self, agent: Agent) -> _Memory:
        key = ObjectRef(agent.metadata.namespace or "", agent.metadata.name)
        memory = self._memory.get(key)
        if memory is None or memory.uid != agent.metadata.uid:
            memory = self._memory[key] = _Memory(agent.metadata.uid)
        return memory

    def _observe(self, agent: Agent, log_state: LogState, memory: _Memory) -> Observed:
        silence, now = self._settings.silence, datetime.now(UTC)
        return observe(self._state, agent, log_state, refused=memory.refused, silence=silence, now=now)

    async def _apply(self, observed: Observed, plan: Steps, memory: _Memory) -> dict[str, Manifest]:
        """Perform the steps. Return the objects that have a child's name and are not watched."""
        memory.refused = None
        namespace = observed.agent.metadata.namespace or ""
        try:
            await self._namespaces.prepare(namespace, observed.config)
            return await self._children.apply(observed.agent, plan, memory.annotations)
        except (Invalid, Forbidden, NotFound) as refusal:
            memory.refused = refusal.message
            self._namespaces.forget(namespace)
            return {}

    async def _write(
        self, manifest: Manifest, observed: Observed, decision: Decision, memory: _Memory
    ) -> datetime | None:
        """Write the status. Return when to write the changes that were held back; None if none were. Ends are removed
        from the log only after the status that counts them is stored."""
        old = observed.agent.status
        status, write_at = throttled(old, decision.status, memory.written_at, observed.now)
        is_written = await self._status.write(manifest, old, status)
        if is_written is False:
            return None
        if is_written:
            memory.written_at = observed.now
        if status.last_event_id and status.last_event_id != old.last_event_id:
            await self._log.forget_ends(observed.agent, status.last_event_id)
        return write_at
