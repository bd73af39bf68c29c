"""Looks at one agent and does what the decisions say. All of it may be interrupted anywhere, and repeated."""

import asyncio
import contextlib
import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import structlog
from pydantic import ValidationError
from ulid import ULID

from komputer.domain import names
from komputer.domain.agent import Agent, AgentStatus
from komputer.domain.base import Condition, Manifest, with_condition
from komputer.domain.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable
from komputer.domain.ref import ObjectRef
from komputer.events.log import Log, LogKey
from komputer.events.reading import ENDS_AT_ONCE
from komputer.kube import AGENTS, CONFIG_MAPS, NETWORK_POLICIES, PODS, PVCS, SERVICE_ACCOUNTS, Cluster, Kind
from komputer.operator.agent import desired
from komputer.operator.agent.decide import NONE_EARLIER, Decision, decide
from komputer.operator.agent.endings import Ending, cancelled
from komputer.operator.agent.observe import NOTHING_HEARD, LogState, first_error, observe
from komputer.operator.agent.observed import Observed, is_ours
from komputer.operator.agent.status import merge_patch, paced
from komputer.operator.agent.steps import Earlier, Step, Steps
from komputer.operator.cluster_state import ClusterState
from komputer.operator.settings import OperatorSettings
from komputer.redis.presence import Alive

log = structlog.get_logger(__name__)

KIND_OF: Final = {"Pod": PODS, "PersistentVolumeClaim": PVCS, "ConfigMap": CONFIG_MAPS}
COMPONENT: Final = "komputer-operator"
PASSING: Final = frozenset({"PodMissing", "PodStarting", "WaitingForOldPod", "WaitingForOldChildren"})
"""Reasons that every agent has for a moment."""
SOON: Final = timedelta(milliseconds=20)
"""Before looking again at what our own step has just changed, where a watch will tell of it at about the same time."""

ALIVE_S: Final = 1.0
"""How long it counts whether a gateway is alive."""


@dataclasses.dataclass
class _Remembered:
    """Of one agent. All of it may be lost: then something is written or tried once more than needed."""

    uid: str
    written_at: datetime | None = None
    refused: str | None = None
    earlier: Earlier = NONE_EARLIER


class Reconciler:
    """One `reconcile` for each turn of an agent."""

    def __init__(self, settings: OperatorSettings, cluster: Cluster, log: Log, store: ClusterState) -> None:
        self._settings = settings
        self._cluster = cluster
        self._log = log
        self._store = store
        self._remembered: dict[ObjectRef, _Remembered] = {}
        self._furnished: dict[str, Manifest | None] = {}
        self._alive: tuple[float, Alive] | None = None

    def forget_namespaces(self) -> None:
        """What a namespace has may have been deleted: make sure again, at the next turn."""
        self._furnished.clear()

    async def reconcile(self, key: ObjectRef) -> timedelta | None:
        """Bring the cluster to what the agent asks for, and its status to what is. Answers when to look again."""
        manifest = self._store.get(AGENTS, *key)
        again = None
        if manifest is None:
            self._remembered.pop(key, None)
        elif manifest["metadata"].get("deletionTimestamp") is None:
            again = await self._turn(manifest)
        await self._bury(key)
        return again

    async def _turn(self, manifest: Manifest) -> timedelta | None:
        try:
            agent = Agent.model_validate(manifest)
        except ValidationError as wrong:
            await self._refuse(manifest, first_error(wrong))
            return None
        heard = await self._hear(agent)
        again = await self._advance(agent, manifest, heard)
        if not heard.answers:
            raise Unavailable("the log does not answer; children and conditions were seen to", code="log_unavailable")
        return again

    async def _advance(self, agent: Agent, manifest: Manifest, heard: LogState) -> timedelta | None:
        memory = self._memory(agent)
        seen = observe(self._store, agent, heard, memory.refused, datetime.now(UTC))
        fresh_id = str(ULID())
        decision = decide(seen, fresh_id, memory.earlier)
        in_the_way: dict[str, Manifest] = {}
        if decision.steps.first or decision.steps.then or not self._is_furnished(seen):
            in_the_way = await self._do(seen, decision.steps, memory)
            around = observe(self._store, agent, heard, memory.refused, datetime.now(UTC))
            seen = dataclasses.replace(
                around,
                pvc=in_the_way.get("PersistentVolumeClaim", around.pvc),
                settings=in_the_way.get("ConfigMap", around.settings),
                pod=in_the_way.get("Pod", around.pod),
            )
            decision = decide(seen, fresh_id, memory.earlier)
        has_ended = await self._end(seen, decision)
        look_again = await self._write(manifest, agent, decision, memory, seen.now)
        times = [at - seen.now for at in (decision.look_again, look_again) if at is not None]
        times += [SOON] if has_ended or len(heard.ends) >= ENDS_AT_ONCE else []
        times += [self._settings.retry_every] if in_the_way or memory.refused else []
        return max(SOON, min(times)) if times else None

    def _memory(self, agent: Agent) -> _Remembered:
        key = agent.ref
        memory = self._remembered.get(key)
        if memory is None or memory.uid != agent.metadata.uid:
            memory = self._remembered[key] = _Remembered(agent.metadata.uid)
        return memory

    # ---- the log ---------------------------------------------------------------------------------------------------
    async def _hear(self, agent: Agent) -> LogState:
        key = _log_key(agent)
        try:
            live, ends, alive = await asyncio.gather(
                self._log.live(key.namespace, key.name),
                self._log.ends_after(key, agent.status.last_event_id),
                self._gateways(),
            )
        except Unavailable:
            return NOTHING_HEARD
        return LogState(live, tuple(ends), alive)

    async def _gateways(self) -> Alive:
        """Whether a gateway is alive, as of a second ago or later."""
        now = asyncio.get_running_loop().time()
        if self._alive is None or now > self._alive[0] + ALIVE_S:
            self._alive = (now, await self._log.gateways().read())
        read_at, alive = self._alive
        return alive._replace(now_us=alive.now_us + int((now - read_at) * 1e6))

    async def _end(self, seen: Observed, decision: Decision) -> bool:
        """Tell the log of the ends that no runtime will write. True if it took one, or may take it next time."""
        taken = False
        for ending in decision.endings:
            answer = await self._append(seen, ending)
            if answer == "started":
                for more in cancelled(seen, decision.status, has_started=True).endings:
                    answer = await self._append(seen, more)
            taken = taken or answer in ("ok", "ended")
        return taken

    async def _append(self, seen: Observed, ending: Ending) -> str:
        agent = seen.agent
        answer = await self._log.end(
            _log_key(agent),
            ending.event,
            generation=agent.metadata.generation,
            floor=agent.status.last_event_id,
            unless_started=ending.unless_started,
        )
        if answer == "ok":
            log.info("task ended by the operator", agent=agent.key, task=ending.event.task_id, end=ending.event.type)
        return answer

    async def _bury(self, key: ObjectRef) -> None:
        """Agents of this name that are no more: their logs go, and their uids cannot speak again."""
        for uid in self._store.gone(key):
            await self._log.purge(LogKey(key.namespace, key.name, uid))
            self._store.forget_gone(key, uid)
            log.info("log buried", agent=f"{key.namespace}/{key.name}", uid=uid)

    # ---- children --------------------------------------------------------------------------------------------------
    async def _do(self, seen: Observed, plan: Steps, memory: _Remembered) -> dict[str, Manifest]:
        """Take the steps. Answers, by kind, the objects that stand there already and are not watched."""
        memory.refused = None
        namespace = seen.agent.metadata.namespace or ""
        in_the_way: dict[str, Manifest] = {}
        try:
            await self.ensure_namespace(seen)
            for found in await asyncio.gather(*(self._step(seen.agent, step) for step in plan.first)):
                in_the_way |= found
            if in_the_way:
                return in_the_way
            for step in plan.then:
                in_the_way |= await self._step(seen.agent, step)
                memory.earlier = plan.earlier
        except (Invalid, Forbidden, NotFound) as refusal:
            memory.refused = refusal.message
            self._furnished.pop(namespace, None)
        return in_the_way

    async def _step(self, agent: Agent, step: Step) -> dict[str, Manifest]:
        namespace, manifest = agent.metadata.namespace, step.manifest
        if step.verb == "create":
            return await self._create(agent, KIND_OF[manifest["kind"]], manifest)
        if step.verb == "delete":
            await self._delete(agent, manifest)
            return {}
        kind = CONFIG_MAPS if "data" in manifest else PVCS
        patched = await self._cluster.merge_patch(kind, step.name, namespace, manifest)
        self._store.wrote(kind, patched)
        return {}

    async def _create(self, agent: Agent, kind: Kind, manifest: Manifest) -> dict[str, Manifest]:
        """Create the object. What stands there already is taken as it is; answered if the watch does not tell of it."""
        try:
            made = await self._cluster.create(kind, manifest)
            log.info("child created", agent=agent.key, kind=kind.kind, name=manifest["metadata"]["name"])
        except Conflict:
            made = await self._found(agent, kind, manifest)
        return {} if self._store.wrote(kind, made) else {kind.kind: made}

    async def _found(self, agent: Agent, kind: Kind, manifest: Manifest) -> Manifest:
        """What stands there already. If it is ours and has lost its label, and is thus out of our sight, it gets it
        back; a pod, which was out of reach of the NetworkPolicy too, makes room for another."""
        name, namespace = manifest["metadata"]["name"], agent.metadata.namespace
        found = await self._cluster.get(kind, name, namespace)
        if not is_ours(found, agent) or names.AGENT_LABEL in (found["metadata"].get("labels") or {}):
            return found
        if kind is PODS:
            await self._delete(agent, found)
            return found
        return await self._cluster.merge_patch(
            kind, name, namespace, {"metadata": {"labels": manifest["metadata"]["labels"]}}
        )

    async def _delete(self, agent: Agent, found: Manifest) -> None:
        kind, name, uid = KIND_OF[found["kind"]], found["metadata"]["name"], found["metadata"]["uid"]
        try:
            rest = await self._cluster.delete(kind, name, agent.metadata.namespace, uid=uid)
        except (NotFound, Conflict):
            rest = None
        status = found.get("status")
        reason = status.get("reason") if isinstance(status, dict) else None
        log.info("child deleted", agent=agent.key, kind=kind.kind, name=name, reason=reason)
        if rest is None:
            self._store.deleted(kind, found)
        else:
            self._store.wrote(kind, rest)

    def _is_furnished(self, seen: Observed) -> bool:
        """Whether the agent's namespace is known to have what all agents share."""
        namespace = seen.agent.metadata.namespace or ""
        if seen.config is None:
            return True
        return self._furnished.get(namespace, ...) == desired.network_policy(namespace, seen.config)

    async def ensure_namespace(self, seen: Observed) -> None:
        if seen.config is None or self._is_furnished(seen):
            return
        namespace = seen.agent.metadata.namespace or ""
        with contextlib.suppress(Conflict):
            await self._cluster.create(SERVICE_ACCOUNTS, desired.service_account(namespace))
        policy = desired.network_policy(namespace, seen.config)
        if policy is not None:
            try:
                await self._cluster.create(NETWORK_POLICIES, policy)
            except Conflict:
                name = policy["metadata"]["name"]
                await self._cluster.json_patch(
                    NETWORK_POLICIES, name, namespace, [{"op": "replace", "path": "/spec", "value": policy["spec"]}]
                )
        self._furnished[namespace] = policy

    # ---- status ----------------------------------------------------------------------------------------------------
    async def _write(
        self, manifest: Manifest, agent: Agent, decision: Decision, memory: _Remembered, now: datetime
    ) -> datetime | None:
        """One patch, guarded by the version that it was computed from. Then, and only then, ends may be forgotten."""
        status, look_again = paced(agent.status, decision.status, memory.written_at, now)
        patch = merge_patch(manifest.get("status") or {}, status)
        if patch:
            if not await self._patch(manifest, patch):
                return None
            memory.written_at = now
            await self._tell(manifest, agent.status, status)
        if status.last_event_id and status.last_event_id != agent.status.last_event_id:
            await self._log.trim_ends(_log_key(agent), status.last_event_id)
        return look_again

    async def _patch(self, manifest: Manifest, patch: Manifest) -> bool:
        """False where the agent is no longer as it was read: then it was read again, and has another turn."""
        metadata = manifest["metadata"]
        name, namespace = metadata["name"], metadata["namespace"]
        guard = {"metadata": {"resourceVersion": metadata["resourceVersion"], "uid": metadata["uid"]}, "status": patch}
        try:
            written = await self._cluster.merge_patch(AGENTS, name, namespace, guard, "status")
        except NotFound:
            return False
        except Conflict:
            with contextlib.suppress(NotFound):
                self._store.read(AGENTS, await self._cluster.get(AGENTS, name, namespace))
            return False
        self._store.wrote(AGENTS, written)
        return True

    async def _tell(self, manifest: Manifest, old: AgentStatus, new: AgentStatus) -> None:
        """A Kubernetes Event where the agent became ready, or has trouble for a new reason; not on the way there."""
        before, after = (next((c for c in s.conditions if c.type == "Ready"), None) for s in (old, new))
        if after is None or (before and (before.status, before.reason) == (after.status, after.reason)):
            return
        if after.reason in PASSING:
            return
        about = {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": manifest["metadata"]}
        kind: Literal["Normal", "Warning"] = "Normal" if after.status == "True" else "Warning"
        await self._cluster.post_event(about, kind, after.reason, after.message or after.reason, COMPONENT)

    async def _refuse(self, manifest: Manifest, why: str) -> None:
        """An agent that we cannot read: a condition says so, and nothing else of it is touched."""
        found = manifest.get("status") or {}
        conditions = [Condition.model_validate(condition) for condition in found.get("conditions") or []]
        generation = manifest["metadata"].get("generation")
        invalid = Condition(
            type="Ready", status="False", reason="SpecInvalid", message=why, observed_generation=generation
        )
        now = with_condition(conditions, invalid, datetime.now(UTC))
        patch = {"phase": "Failed", "message": why, "observedGeneration": generation}
        wire = patch | {"conditions": [condition.to_wire() for condition in now]}
        if any(found.get(field) != value for field, value in wire.items()):
            await self._patch(manifest, wire)


def _log_key(agent: Agent) -> LogKey:
    return LogKey(*agent.ref, agent.metadata.uid)
