"""Operations on agents: create, assign, cancel, message, compact, change, delete. `claim.py` creates the patches."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import structlog
from ulid import ULID

from komputer.domain import names
from komputer.domain.base import Manifest, fields_of
from komputer.domain.errors import Busy, Conflict, Forbidden, Invalid, NotFound, PreconditionFailed, Unavailable
from komputer.domain.ref import ObjectRef
from komputer.domain.tasks import WantedTask, current_task, is_busy, next_task
from komputer.events.entries import task_of
from komputer.events.log import Log, LogKey, MessageId
from komputer.kube import AGENTS, SECRETS, Cache, Cluster
from komputer.services.access import UNRESTRICTED, AccessRequest, Rights
from komputer.services.agents import claim
from komputer.services.agents.claim import NewTask
from komputer.services.agents.overlay import Overlay
from komputer.services.agents.reader import AgentReader, not_found
from komputer.services.agents.secrets import AgentSecrets
from komputer.services.agents.view import AgentSummary, agent_summary, typed

logger = structlog.get_logger(__name__)

ATTEMPTS: Final = 8
"""Maximum number of attempts of a write. A write is decided again if the agent has changed meanwhile. The loser of a
race finds a busy agent at its second attempt, so more than three attempts mean that another program writes to the spec
all the time."""
CANCEL_TIMEOUT_S: Final = 5.0
"""How long a cancel waits for the previous one to be accounted for, in seconds, before it raises `Unavailable`."""
CANCEL_POLL_S: Final = 0.05


@dataclass(frozen=True, kw_only=True)
class AgentRequest:
    """A new agent with its first task, or the next task of an agent that exists."""

    namespace: str
    name: str
    instructions: str
    settings: Manifest
    """The fields of spec that the request names; None removes a field."""
    secrets: Mapping[str, str] | None = None
    """The complete content of the agent's own Secret; None leaves it as it is."""
    request_id: str | None = None
    """A ULID that identifies the request and becomes the task's id. A request that was already executed, completely or
    in part, is not executed twice."""


class Assigned(NamedTuple):
    """The agent that has the task now, and the `etag` of its spec."""

    agent: AgentSummary
    is_new: bool
    etag: str


class Agents(AgentReader):
    """The agents of the cluster. Every method raises `Unavailable` if the Kubernetes API or the event log does not
    answer."""

    def __init__(self, cluster: Cluster, cache: Cache, overlay: Overlay, log: Log, secrets: AgentSecrets) -> None:
        super().__init__(cache, overlay)
        self._cluster = cluster
        self._log = log
        self._secrets = secrets

    # ---- tasks ------------------------------------------------------------------------------------------------
    async def create_or_assign(self, request: AgentRequest, rights: Rights = UNRESTRICTED) -> Assigned:
        """Create an agent with its first task, or assign the next task to an idle one.

        Raises `Busy`, and `Forbidden` if the caller lacks a right. The rights depend on whether the agent exists, which
        may change until the write, so they are checked here.
        """
        self.require_synced()
        namespace, name = request.namespace, request.name
        manifest = self._cache.get(namespace, name)
        task = NewTask(request.request_id or str(ULID()), request.instructions)
        secrets_uid: str | None = None
        try:
            for attempt in range(ATTEMPTS):
                if attempt:
                    manifest = await self._fresh(namespace, name)
                if manifest is None:
                    await rights.require(AccessRequest("create", AGENTS, namespace))
                    settings = claim.with_defaults(request.settings)
                    if request.secrets is not None:
                        await rights.require(AccessRequest("create", SECRETS, namespace))
                        secrets_uid = await self._secrets.give(namespace, name, request.secrets, task.id, None)
                        settings |= {"secretsUID": secrets_uid}
                    created = await self._create(claim.new_agent(name, namespace, task, settings))
                    if created is None:
                        continue
                    return Assigned(agent_summary(created, "Pending"), True, claim.etag(created))
                if manifest["metadata"].get("deletionTimestamp"):
                    if attempt == 0:
                        continue
                    raise Conflict(
                        f"the former agent {name!r} is still being deleted; try again in a moment", code="terminating"
                    )
                await rights.require(AccessRequest("update", AGENTS, namespace, name))
                if request.request_id and (done := await self._result_of(manifest, request.request_id)):
                    return done
                settings = request.settings
                if request.secrets is not None:
                    if not await self._is_idle(manifest, is_fresh=attempt > 0):
                        continue
                    has_secret = bool(fields_of(manifest, "spec").get("secretsUID"))
                    verb, secret = ("update", names.secrets_name(name)) if has_secret else ("create", None)
                    await rights.require(AccessRequest(verb, SECRETS, namespace, secret))
                    secrets_uid = await self._secrets.give(namespace, name, request.secrets, task.id, manifest)
                    settings = settings | {"secretsUID": secrets_uid}
                assigned = await self._assign(manifest, task, settings, [], is_fresh=attempt > 0)
                if assigned is not None:
                    return Assigned(agent_summary(assigned), False, claim.etag(assigned))
        except (Invalid, Conflict, NotFound, Forbidden):
            # A refused request must leave no Secret behind. After other errors the request may have been executed.
            if manifest is None:
                await self._secrets.discard(namespace, name, secrets_uid)
            raise
        raise Unavailable(f"agent {name!r} changed too often to assign a task; try again", code="contended")

    async def create(
        self, namespace: str, name: str, task: NewTask, settings: Manifest, metadata: Manifest
    ) -> Manifest:
        """Create an agent that must not exist yet. Raises `Conflict` (`exists`), also while an agent of the name is
        being deleted. Repeating the call with the same task returns the agent."""
        self.require_synced()
        if (created := await self._create(claim.new_agent(name, namespace, task, settings, metadata))) is not None:
            return created
        found = await self._fresh(namespace, name)
        if found is None or not await self._was_given(found, task.id):
            raise Conflict(f"there is an agent {name!r} already; choose another name", code="exists")
        return found

    async def assign(
        self, namespace: str, name: str, task: NewTask, settings: Manifest, if_match: Collection[str] | None = None
    ) -> Manifest:
        """Assign the next task to an agent that exists. Repeating the call with the same task changes nothing. Raises
        `Busy`, `NotFound`, `PreconditionFailed`."""

        async def write(manifest: Manifest, is_fresh: bool) -> Manifest | None:
            if await self._was_given(manifest, task.id):
                return manifest
            tests = [] if if_match is None else claim.same_spec(manifest)
            return await self._assign(manifest, task, settings, tests, is_fresh=is_fresh)

        return await self._update(namespace, name, if_match, write)

    async def cancel(self, namespace: str, name: str, task_id: str | None = None) -> None:
        """Request the end of the running task, or of the one that is about to start; with `task_id`, only if it is that
        task. Raises `Conflict` (`idle`) if there is none."""
        manifest: Manifest | None = await self.one(namespace, name)
        deadline = asyncio.get_running_loop().time() + CANCEL_TIMEOUT_S
        is_fresh = False
        while manifest is not None:
            agent = typed(manifest)
            live = await self._overlay.current(agent.ref)
            running = current_task(agent.spec, agent.status, task_of(live, agent.metadata.uid))
            running = running if task_id in (None, running) else None
            pending = agent.spec.cancel_task_id
            # The spec holds one cancel at a time: it may be replaced only when the status accounts for the end of its
            # task.
            if running is not None and pending == running:
                return
            if running is None:
                if is_fresh:
                    raise Conflict(f"agent {name!r} has no task to cancel", code="idle")
            elif pending is None or pending in agent.status.ended_tasks:
                if await self._patch(manifest, claim.cancel(manifest, running)):
                    return
            elif asyncio.get_running_loop().time() > deadline:
                raise Unavailable(
                    f"the previous cancel of agent {name!r} is not accounted yet; try again", code="cancel_pending"
                )
            else:
                await asyncio.sleep(CANCEL_POLL_S)
            manifest, is_fresh = await self._fresh(namespace, name), True
        raise not_found(namespace, name)

    # ---- conversations ----------------------------------------------------------------------------------------
    async def message(self, namespace: str, name: str, content: str, request_id: str | None = None) -> MessageId:
        """Send a message to the running task. Repeating the call with the same `request_id` sends nothing. Raises
        `Conflict`: `idle` if no task runs, `compacting` if the running task is a compaction."""
        agent = typed(await self.one(namespace, name))
        live = await self._overlay.current(agent.ref)
        task = task_of(live, agent.metadata.uid)
        if live and not task.has_ended and live.task_status == "Compacting":
            raise Conflict(f"agent {name!r} compacts its conversation; try again when it has ended", code="compacting")
        key = LogKey(namespace, name, agent.metadata.uid)
        if task.id and (sent := await self._log.message(key, task.id, content, request_id)):
            return sent
        will_start = isinstance(next_task(agent.spec, agent.status, task._replace(has_ended=True)), WantedTask)
        sentence = (
            "has not begun its task yet; try again in a moment" if will_start else "has no running task; assign one"
        )
        raise Conflict(f"agent {name!r} {sentence}", code="idle")

    async def compact(self, namespace: str, name: str, instructions: str | None, request_id: str | None = None) -> None:
        """Summarise the conversation of an idle agent. Raises `Busy`, and `Conflict` (`no_conversation`) if there is
        nothing to summarise yet."""
        command = f"/compact {' '.join((instructions or '').split())}".strip()
        task = NewTask(request_id or str(ULID()), command, kind="compact")

        async def write(manifest: Manifest, is_fresh: bool) -> Manifest | None:
            if await self._was_given(manifest, task.id):
                return manifest
            if await self._is_idle(manifest, is_fresh=is_fresh) and not await self._has_conversation(manifest):
                raise Conflict(
                    f"agent {name!r} has no conversation yet; assign a task first, compact later",
                    code="no_conversation",
                )
            return await self._assign(manifest, task, {}, [], is_fresh=is_fresh)

        await self._update(namespace, name, None, write)

    async def _has_conversation(self, manifest: Manifest) -> bool:
        agent = typed(manifest)
        live = await self._overlay.current(agent.ref)
        own = live if live and live.uid == agent.metadata.uid else None
        return bool(agent.status.session_id or (own and own.session_id))

    # ---- changes ----------------------------------------------------------------------------------------------
    async def change(
        self, namespace: str, name: str, settings: Manifest, if_match: Collection[str] | None = None
    ) -> Manifest:
        """Set fields of spec in one patch; they take effect at the next task. Raises `NotFound`,
        `PreconditionFailed`."""

        async def write(manifest: Manifest, _: bool) -> Manifest | None:
            tests = claim.same_agent(manifest) if if_match is None else claim.same_spec(manifest)
            return await self._patch(manifest, [*tests, *claim.change(manifest, settings)])

        return await self._update(namespace, name, if_match, write)

    async def delete(self, namespace: str, name: str) -> None:
        """Delete an agent. Garbage collection deletes its pod, disk and settings."""
        manifest = await self.one(namespace, name)
        await self._cluster.delete(AGENTS, name, namespace, uid=manifest["metadata"]["uid"], propagation="Background")
        self._cache.forget(manifest)
        self.forget(ObjectRef(namespace, name))
        await self._secrets.discard(namespace, name, fields_of(manifest, "spec").get("secretsUID"))

    # ---- helpers ------------------------------------------------------------------------------------------------
    async def _create(self, manifest: Manifest) -> Manifest | None:
        """Return the created agent, or None if an agent of the name exists."""
        try:
            created = await self._cluster.create(AGENTS, manifest)
        except Conflict:
            return None
        self._cache.put(created)
        await self._secrets.adopt(created)
        return created

    async def _result_of(self, manifest: Manifest, request_id: str) -> Assigned | None:
        """Return the result of an earlier attempt of the request, or None if there was none."""
        is_new = manifest["metadata"].get("annotations", {}).get(names.CREATED_BY_ANNOTATION) == request_id
        if not (is_new or await self._was_given(manifest, request_id)):
            return None
        await self._secrets.adopt(manifest)
        return Assigned(agent_summary(manifest, "Pending" if is_new else None), is_new, claim.etag(manifest))

    async def _was_given(self, manifest: Manifest, task_id: str) -> bool:
        """Return whether the agent was assigned this task before."""
        agent = typed(manifest)
        if (agent.spec.task and agent.spec.task.id == task_id) or task_id in agent.status.ended_tasks:
            return True
        key = LogKey(*agent.ref, agent.metadata.uid)
        return await self._overlay.has_ended(key, task_id)

    async def _is_idle(self, manifest: Manifest, *, is_fresh: bool) -> bool:
        """Return whether the agent is idle. Raises `Busy` if a fresh manifest is busy; a cached one may be outdated."""
        agent = typed(manifest)
        live = await self._overlay.current(agent.ref)
        if not is_busy(agent.spec, agent.status, task_of(live, agent.metadata.uid)):
            return True
        if is_fresh:
            raise Busy(f"agent {agent.metadata.name!r} has a task; wait for its end or cancel it")
        return False

    async def _assign(
        self, manifest: Manifest, task: NewTask, settings: Manifest, tests: Sequence[claim.Operation], *, is_fresh: bool
    ) -> Manifest | None:
        """Return the agent with the task, or None if the decision was made on an outdated copy."""
        if not await self._is_idle(manifest, is_fresh=is_fresh):
            return None
        return await self._patch(manifest, [*tests, *claim.assign(manifest, task, settings)])

    async def _patch(self, manifest: Manifest, operations: Sequence[claim.Operation]) -> Manifest | None:
        """Return the patched agent, or None if it has changed since `manifest` was read."""
        metadata = manifest["metadata"]
        try:
            patched = await self._cluster.json_patch(AGENTS, metadata["name"], metadata["namespace"], operations)
        except (Conflict, NotFound) as reason:
            logger.info("agent changed since it was read", agent=metadata["name"], reason=reason.message)
            return None
        self._cache.put(patched)
        return patched

    async def _update(
        self,
        namespace: str,
        name: str,
        if_match: Collection[str] | None,
        write: Callable[[Manifest, bool], Awaitable[Manifest | None]],
    ) -> Manifest:
        """Call `write` with an existing agent and return its result.

        `write` gets the manifest, and whether it was read just now (True) or comes from the cache. If it returns None,
        it is called again with a fresh manifest, at most `ATTEMPTS` times in all. Raises `NotFound`,
        `PreconditionFailed`, and `Unavailable` (`contended`).
        """
        manifest: Manifest | None = await self.one(namespace, name)
        for attempt in range(ATTEMPTS):
            if attempt:
                manifest = await self._fresh(namespace, name)
            if manifest is None or manifest["metadata"].get("deletionTimestamp"):
                raise not_found(namespace, name)
            if not _matches(manifest, if_match, is_fresh=attempt > 0):
                continue
            if (written := await write(manifest, attempt > 0)) is not None:
                return written
        raise Unavailable(f"agent {name!r} changed too often; try again", code="contended")

    async def _fresh(self, namespace: str, name: str) -> Manifest | None:
        """Return the agent from the Kubernetes API, not from the cache; None if it does not exist."""
        try:
            manifest = await self._cluster.get(AGENTS, name, namespace)
        except NotFound:
            return None
        self._cache.put(manifest)
        return manifest


def _matches(manifest: Manifest, if_match: Collection[str] | None, *, is_fresh: bool) -> bool:
    """Return whether the agent's etag is in `if_match` (None: any). Raises `PreconditionFailed` if a fresh manifest
    does not match; a cached one may be older than what the caller has read."""
    if if_match is None or claim.etag(manifest) in if_match:
        return True
    if is_fresh:
        raise PreconditionFailed(
            f"agent {manifest['metadata']['name']!r} was changed since it was read; read it again and decide again"
        )
    return False
