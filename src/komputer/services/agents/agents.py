"""What is done with agents: create, assign, cancel, change, delete. It decides nothing: see `claim.py`."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import structlog
from ulid import ULID

from komputer.domain import names
from komputer.domain.base import Manifest, fields_of
from komputer.domain.connector import is_connector_name
from komputer.domain.errors import Busy, Conflict, Forbidden, Invalid, NotFound, PreconditionFailed, Unavailable
from komputer.domain.ref import ObjectRef
from komputer.domain.tasks import WantedTask, current_task, is_busy, next_task
from komputer.events.entries import task_of
from komputer.events.log import Log, LogKey, MessageId
from komputer.kube import AGENTS, SECRETS, Cache, Cluster, Permission, everybody
from komputer.services.agents import claim, listing
from komputer.services.agents.claim import NewTask
from komputer.services.agents.lists import Lists
from komputer.services.agents.overlay import Overlay
from komputer.services.agents.secrets import SecretStore
from komputer.services.agents.view import agent_body, created_body, encoded, typed

logger = structlog.get_logger(__name__)

ATTEMPTS = 8
"""How often a claim is decided anew when the agent changed under it. Each loser of a race sees a busy agent at the
next look, so more than three means that something else writes to the spec all the time."""
LOOK_S = 1.0
"""How long a reader of one agent waits for a log that does not answer."""
CANCEL_WAIT_S = 5.0
"""How long a cancel waits for the previous one to be accounted before it asks the caller to come again."""


class Assigned(NamedTuple):
    body: dict[str, Any]
    is_new: bool
    etag: str


class Shown(NamedTuple):
    body: bytes
    etag: str


class Agents:
    """The agents of the cluster, as a process with a cache and an overlay sees them."""

    def __init__(
        self, cluster: Cluster, cache: Cache, overlay: Overlay, log: Log, connectors: Cache, secrets: SecretStore
    ) -> None:
        self._cluster = cluster
        self._log = log
        self._cache = cache
        self._connectors = connectors
        self._overlay = overlay
        self.secrets = secrets
        self._lists = Lists(cache, overlay)

    # ---- reads ------------------------------------------------------------------------------------------------
    async def one(self, namespace: str, name: str) -> Manifest:
        """The agent; one that the cache does not know is asked for. Raises `NotFound`, also for an agent that is
        terminating; `Unavailable` before the first look, and where nobody can tell."""
        self._require_synced()
        if (manifest := await self._cache.find(namespace, name)) is None:
            raise _gone(namespace, name)
        return manifest

    def known(self, namespace: str, name: str) -> Manifest:
        """The agent as the cache has it now. Raises `NotFound`, also for an agent that is terminating."""
        manifest = self._cache.get(namespace, name)
        if manifest is None or manifest["metadata"].get("deletionTimestamp"):
            raise _gone(namespace, name)
        return manifest

    def manifests(self) -> Sequence[Manifest]:
        """All agents that are not terminating."""
        self._require_synced()
        return [m for m in self._cache.items() if not m["metadata"].get("deletionTimestamp")]

    def named(self, name: str) -> Sequence[Manifest]:
        """The agents of that name, in all namespaces."""
        return [manifest for manifest in self.manifests() if manifest["metadata"]["name"] == name]

    def _require_synced(self) -> None:
        """An empty cache says nothing: nobody is told that an agent is not there before all were read."""
        if not self._cache.is_synced:
            raise Unavailable("the agents have not been read yet; try again", code="starting", retry_after_s=1)

    async def shown(self, namespace: str, name: str) -> Shown:
        """The agent as it is now, and the `etag` of its spec. While the log is away: as it was known last."""
        manifest = await self.one(namespace, name)
        try:
            async with asyncio.timeout(LOOK_S):
                live = await self._overlay.current(ObjectRef(namespace, name))
        except (Unavailable, TimeoutError):
            live = self._overlay.get(ObjectRef(namespace, name))
        return Shown(encoded(agent_body(manifest, live)), claim.etag(manifest))

    def knows(self, namespace: str, name: str) -> bool:
        """Whether there is such an agent, also one that is terminating."""
        return self._cache.get(namespace, name) is not None

    def namespaces(self) -> frozenset[str]:
        """In which there are agents."""
        return frozenset(manifest["metadata"]["namespace"] for manifest in self.manifests())

    def list(self, asked: listing.Query, seen: frozenset[str] | None = None) -> bytes:
        """The whole answer; `seen` are the namespaces that it may show or name, None: all. Whether the caller sees the
        one that is asked for is not looked at."""
        self._require_synced()
        return self._lists.answer(asked, seen)

    def forget(self, key: ObjectRef) -> None:
        """The agent is gone: nothing of it is kept in memory."""
        self._lists.forget(key)
        self._overlay.forget(key)

    # ---- tasks ------------------------------------------------------------------------------------------------
    async def create_or_assign(
        self,
        namespace: str,
        name: str,
        instructions: str,
        settings: Manifest,
        given: Manifest,
        *,
        secrets: Mapping[str, str] | None = None,
        request: str | None = None,
        permission: Permission = everybody,
    ) -> Assigned:
        """A new agent with its first task, or the next task of an idle one. Raises `Busy`, and `Forbidden` where the
        caller has no `permission` to what it turns out to be: whether the agent exists may change until the write.

        `settings` are those of a new agent, defaults included; `given` are those that the caller named. `secrets`
        become all that the agent's own Secret holds. `request` is a ULID that stands for the request and becomes the
        task's id: a request that was carried out before, also half of it, is not carried out again.
        """
        self._require_synced()
        manifest = self._cache.get(namespace, name)
        task = NewTask(request or str(ULID()), instructions)
        given_uid: str | None = None
        try:
            for attempt in range(ATTEMPTS):
                if attempt:
                    manifest = await self._fresh(namespace, name)
                if manifest is None:
                    await permission("create", AGENTS)
                    if secrets is not None:
                        await permission("create", SECRETS)
                        given_uid = await self.secrets.give(namespace, name, secrets, task.id, None)
                        settings = settings | {"secretsUID": given_uid}
                    made = await self._create(claim.new_agent(name, namespace, task, settings))
                    if made is None:
                        continue
                    return Assigned(created_body(made, "Pending"), True, claim.etag(made))
                if manifest["metadata"].get("deletionTimestamp"):
                    if attempt == 0:
                        continue
                    raise Conflict(
                        f"the former agent {name!r} is still being deleted; try again in a moment", code="terminating"
                    )
                await permission("update", AGENTS, name)
                if request and (done := await self._done_before(manifest, request)):
                    return done
                if secrets is not None:
                    if not await self._is_idle(manifest, is_fresh=attempt > 0):
                        continue
                    if fields_of(manifest, "spec").get("secretsUID"):
                        await permission("update", SECRETS, names.secrets_name(name))
                    else:
                        await permission("create", SECRETS)
                    given_uid = await self.secrets.give(namespace, name, secrets, task.id, manifest)
                    given = given | {"secretsUID": given_uid}
                assigned = await self._assign(manifest, task, given, [], is_fresh=attempt > 0)
                if assigned is not None:
                    return Assigned(created_body(assigned), False, claim.etag(assigned))
        except (Invalid, Conflict, NotFound, Forbidden):
            # Nothing of ours may be left of a request that is refused; after other errors it may have been carried out.
            if manifest is None:
                await self.secrets.discard(namespace, name, given_uid)
            raise
        raise Unavailable(f"agent {name!r} changed too often to assign a task; try again", code="contended")

    async def create(
        self, namespace: str, name: str, task: NewTask, settings: Manifest, metadata: Manifest
    ) -> Manifest:
        """A new agent, and none that exists: raises `Conflict` (`exists`), also for the name of one that is being
        deleted. The same task again is no conflict."""
        self._require_synced()
        if (made := await self._create(claim.new_agent(name, namespace, task, settings, metadata))) is not None:
            return made
        found = await self._fresh(namespace, name)
        if found is None or not await self._has_had(found, task.id):
            raise Conflict(f"there is an agent {name!r} already; choose another name", code="exists")
        return found

    async def _create(self, manifest: Manifest) -> Manifest | None:
        """None where somebody was faster."""
        try:
            made = await self._cluster.create(AGENTS, manifest)
        except Conflict:
            return None
        self._cache.put(made)
        await self.secrets.adopt(made)
        return made

    async def _done_before(self, manifest: Manifest, request: str) -> Assigned | None:
        """What an earlier try of this request came to."""
        is_new = manifest["metadata"].get("annotations", {}).get(names.CREATED_BY_ANNOTATION) == request
        if not (is_new or await self._has_had(manifest, request)):
            return None
        await self.secrets.adopt(manifest)
        return Assigned(created_body(manifest, "Pending" if is_new else None), is_new, claim.etag(manifest))

    async def _has_had(self, manifest: Manifest, task_id: str) -> bool:
        """The agent was given this very task before: whoever asks again asks for nothing new."""
        agent = typed(manifest)
        if (agent.spec.task and agent.spec.task.id == task_id) or task_id in agent.status.ended_tasks:
            return True
        key = LogKey(*agent.ref, agent.metadata.uid)
        return await self._overlay.has_ended(key, task_id)

    async def _is_idle(self, manifest: Manifest, *, is_fresh: bool) -> bool:
        """False where only our copy may be busy; raises `Busy` where the agent is."""
        agent = typed(manifest)
        live = await self._overlay.current(agent.ref)
        if not is_busy(agent.spec, agent.status, task_of(live, agent.metadata.uid)):
            return True
        if is_fresh:
            raise Busy(f"agent {agent.metadata.name!r} has a task; wait for its end or cancel it")
        return False

    async def assign(
        self, namespace: str, name: str, task: NewTask, given: Manifest, only_if: Collection[str] | None = None
    ) -> Manifest:
        """The next task of an agent that exists. The same task again changes nothing. Raises `Busy`, `NotFound`,
        `PreconditionFailed`."""

        async def write(manifest: Manifest, is_fresh: bool) -> Manifest | None:
            if await self._has_had(manifest, task.id):
                return manifest
            guard = [] if only_if is None else claim.same_spec(manifest)
            return await self._assign(manifest, task, given, guard, is_fresh=is_fresh)

        return await self._decided(namespace, name, only_if, write)

    async def _assign(
        self, manifest: Manifest, task: NewTask, given: Manifest, guard: Sequence[claim.Operation], *, is_fresh: bool
    ) -> Manifest | None:
        """The claimed agent, or None where the decision was made on an old copy and is to be made anew."""
        if not await self._is_idle(manifest, is_fresh=is_fresh):
            return None
        return await self._patched(manifest, [*guard, *claim.assign(manifest, task, given)])

    async def _patched(self, manifest: Manifest, operations: Sequence[claim.Operation]) -> Manifest | None:
        """The agent after the patch, or None where it is not what `manifest` says any more."""
        metadata = manifest["metadata"]
        try:
            patched = await self._cluster.json_patch(AGENTS, metadata["name"], metadata["namespace"], operations)
        except (Conflict, NotFound) as why:
            logger.info("agent changed since it was read", agent=metadata["name"], why=why.message)
            return None
        self._cache.put(patched)
        return patched

    async def _decided(
        self,
        namespace: str,
        name: str,
        only_if: Collection[str] | None,
        write: Callable[[Manifest, bool], Awaitable[Manifest | None]],
    ) -> Manifest:
        """What `write` makes of an agent that exists. It gets the agent and whether that was read just now, and is
        asked anew where it answers None. Raises `NotFound`, `PreconditionFailed`."""
        manifest: Manifest | None = await self.one(namespace, name)
        for attempt in range(ATTEMPTS):
            if attempt:
                manifest = await self._fresh(namespace, name)
            if manifest is None or manifest["metadata"].get("deletionTimestamp"):
                raise _gone(namespace, name)
            if not _is_expected(manifest, only_if, is_fresh=attempt > 0):
                continue
            if (written := await write(manifest, attempt > 0)) is not None:
                return written
        raise Unavailable(f"agent {name!r} changed too often; try again", code="contended")

    async def _fresh(self, namespace: str, name: str) -> Manifest | None:
        try:
            manifest = await self._cluster.get(AGENTS, name, namespace)
        except NotFound:
            return None
        self._cache.put(manifest)
        return manifest

    async def cancel(self, namespace: str, name: str, only: str | None = None) -> None:
        """Asks for the end of the task that runs or is about to; of `only` that one, if given. Raises `Conflict`
        (`idle`) where none is."""
        manifest: Manifest | None = await self.one(namespace, name)
        deadline = asyncio.get_running_loop().time() + CANCEL_WAIT_S
        is_fresh = False
        while manifest is not None:
            agent = typed(manifest)
            live = await self._overlay.current(ObjectRef(namespace, name))
            task_id = current_task(agent.spec, agent.status, task_of(live, agent.metadata.uid))
            task_id = task_id if only in (None, task_id) else None
            pending = agent.spec.cancel_task_id
            if task_id is not None and pending == task_id:
                return
            if task_id is None:
                if is_fresh:
                    raise Conflict(f"agent {name!r} has no task to cancel", code="idle")
            elif pending is None or pending in agent.status.ended_tasks:
                if await self._patched(manifest, claim.cancel(manifest, task_id)):
                    return
            elif asyncio.get_running_loop().time() > deadline:
                raise Unavailable(
                    f"the previous cancel of agent {name!r} is not accounted yet; try again", code="cancel_pending"
                )
            else:
                await asyncio.sleep(0.05)
            manifest, is_fresh = await self._fresh(namespace, name), True
        raise _gone(namespace, name)

    # ---- conversations ----------------------------------------------------------------------------------------
    async def message(self, namespace: str, name: str, content: str, request: str | None = None) -> MessageId:
        """Speaks to the running task. The same `request` again says nothing new. Raises `Conflict` (`idle`) where none
        runs, `compacting` where that is all it does."""
        agent = typed(await self.one(namespace, name))
        live = await self._overlay.current(ObjectRef(namespace, name))
        task = task_of(live, agent.metadata.uid)
        if live and not task.has_ended and live.task_status == "Compacting":
            raise Conflict(f"agent {name!r} compacts its conversation; try again when it has ended", code="compacting")
        key = LogKey(namespace, name, agent.metadata.uid)
        if task.id and (said := await self._log.message(key, task.id, content, request)):
            return said
        is_about_to = isinstance(next_task(agent.spec, agent.status, task._replace(has_ended=True)), WantedTask)
        sentence = (
            "has not begun its task yet; try again in a moment" if is_about_to else "has no running task; assign one"
        )
        raise Conflict(f"agent {name!r} {sentence}", code="idle")

    async def compact(self, namespace: str, name: str, instructions: str | None, request: str | None = None) -> None:
        """Summarises the conversation of an idle agent. Raises `Busy`, and `Conflict` (`no_conversation`) where there
        is nothing to summarise yet."""
        command = f"/compact {' '.join((instructions or '').split())}".strip()
        task = NewTask(request or str(ULID()), command, kind="compact")

        async def write(manifest: Manifest, is_fresh: bool) -> Manifest | None:
            if await self._has_had(manifest, task.id):
                return manifest
            if await self._is_idle(manifest, is_fresh=is_fresh) and not await self._has_conversation(manifest):
                raise Conflict(
                    f"agent {name!r} has no conversation yet; assign a task first, compact later",
                    code="no_conversation",
                )
            return await self._assign(manifest, task, {}, [], is_fresh=is_fresh)

        await self._decided(namespace, name, None, write)

    async def _has_conversation(self, manifest: Manifest) -> bool:
        agent = typed(manifest)
        live = await self._overlay.current(agent.ref)
        own = live if live and live.uid == agent.metadata.uid else None
        return bool(agent.status.session_id or (own and own.session_id))

    # ---- changes ----------------------------------------------------------------------------------------------
    async def change(
        self, namespace: str, name: str, given: Manifest, only_if: Collection[str] | None = None
    ) -> Manifest:
        """Sets fields of spec in one patch; they act at the next task. Raises `NotFound`, `PreconditionFailed`."""

        async def write(manifest: Manifest, _: bool) -> Manifest | None:
            guard = claim.same_agent(manifest) if only_if is None else claim.same_spec(manifest)
            return await self._patched(manifest, [*guard, *claim.change(manifest, given)])

        return await self._decided(namespace, name, only_if, write)

    async def delete(self, namespace: str, name: str) -> None:
        """The garbage collector takes pod, disk and settings with it."""
        manifest = await self.one(namespace, name)
        await self._cluster.delete(AGENTS, name, namespace, uid=manifest["metadata"]["uid"], propagation="Background")
        self._cache.forget(manifest)
        self.forget(ObjectRef(namespace, name))
        await self.secrets.discard(namespace, name, fields_of(manifest, "spec").get("secretsUID"))

    async def refuse_unknown_connectors(self, namespace: str, connectors: Sequence[str] | None) -> None:
        """Raises `Invalid` naming the first connector that does not exist."""
        for connector in connectors or ():
            if not is_connector_name(connector) or await self._connectors.find(namespace, connector) is None:
                raise Invalid(
                    f"there is no connector {connector[:100]!r} in namespace {namespace!r}",
                    code="unknown_connector",
                    field="connectors",
                )


def _gone(namespace: str, name: str) -> NotFound:
    return NotFound(f"there is no agent {name!r} in namespace {namespace!r}", code="agent_not_found")


def _is_expected(manifest: Manifest, only_if: Collection[str] | None, *, is_fresh: bool) -> bool:
    """Whether the agent is in one of the states that the caller named (None: any). False where only our copy may be
    older than what it read; raises `PreconditionFailed`."""
    if only_if is None or claim.etag(manifest) in only_if:
        return True
    if is_fresh:
        raise PreconditionFailed(
            f"agent {manifest['metadata']['name']!r} was changed since it was read; read it again and decide anew"
        )
    return False


def with_defaults(given: Manifest) -> Manifest:
    """The settings of a new agent."""
    defaults = {"model": names.DEFAULT_MODEL, "templateRef": names.DEFAULT_TEMPLATE, "role": "manager"}
    return defaults | {field: value for field, value in given.items() if value is not None}
