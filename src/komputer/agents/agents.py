"""What is done with agents: create, assign, cancel, change, delete. It decides nothing: see `claim.py`."""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from ulid import ULID

from komputer.agents import claim
from komputer.agents.overlay import Overlay
from komputer.agents.view import agent_body, created_body, encoded, live_task, running_task
from komputer.events.bell import Place
from komputer.kube import AGENTS, Cache, Cluster
from komputer.resources import names
from komputer.resources.agent import Agent, TaskKind, is_idle
from komputer.resources.base import Manifest
from komputer.resources.errors import Busy, Conflict, Invalid, NotFound, Unavailable

ATTEMPTS = 8
"""How often a claim is decided anew when the agent changed under it. Each loser of a race sees a busy agent at the
next look, so more than three means that something else writes to the spec all the time."""
CANCEL_WAIT_S = 5.0
"""How long a cancel waits for the previous one to be accounted before it asks the caller to come again."""


class Assigned(NamedTuple):
    body: dict[str, Any]
    is_new: bool


class Agents:
    """The agents of the cluster, as a process with a cache and an overlay sees them."""

    def __init__(self, cluster: Cluster, cache: Cache, overlay: Overlay) -> None:
        self._cluster = cluster
        self._cache = cache
        self._overlay = overlay
        self._bytes: dict[Place, tuple[str, object, bytes]] = {}
        self._lists: dict[str | None, tuple[tuple[int, int], bytes]] = {}

    # ---- reads ------------------------------------------------------------------------------------------------
    def cached(self, namespace: str, name: str) -> Manifest:
        """Raises `NotFound`, also for an agent that is terminating; `Unavailable` before the first look."""
        self._require_synced()
        manifest = self._cache.get(namespace, name)
        if manifest is None or manifest["metadata"].get("deletionTimestamp"):
            raise NotFound(f"there is no agent {name!r} in namespace {namespace!r}", code="agent-not-found")
        return manifest

    def _require_synced(self) -> None:
        """An empty cache says nothing: nobody is told that an agent is not there before all were read."""
        if not self._cache.is_synced:
            raise Unavailable("the agents have not been read yet; try again", code="starting", retry_after_s=1)

    async def get(self, namespace: str, name: str) -> bytes:
        manifest = self.cached(namespace, name)
        try:
            live = await self._overlay.current((namespace, name))
        except Unavailable:
            live = self._overlay.get((namespace, name))
        return encoded(agent_body(manifest, live))

    def list(self, namespace: str | None) -> bytes:
        """The whole answer, made once per change."""
        self._require_synced()
        version = (self._cache.version, self._overlay.version)
        known = self._lists.get(namespace)
        if known and known[0] == version:
            return known[1]
        manifests = sorted(
            (m for m in self._cache.items(namespace) if not m["metadata"].get("deletionTimestamp")),
            key=lambda m: (m["metadata"]["namespace"], m["metadata"]["name"]),
        )
        answer = b'{"agents":[' + b",".join(self._encoded(m) for m in manifests) + b"]}"
        if len(self._lists) > 256:
            self._lists.clear()
        self._lists[namespace] = (version, answer)
        return answer

    def _encoded(self, manifest: Manifest) -> bytes:
        meta = manifest["metadata"]
        key = (meta["namespace"], meta["name"])
        live = self._overlay.get(key)
        known = self._bytes.get(key)
        if known and known[0] == meta["resourceVersion"] and known[1] is live:
            return known[2]
        made = encoded(agent_body(manifest, live))
        self._bytes[key] = (meta["resourceVersion"], live, made)
        return made

    def forget(self, key: Place) -> None:
        """The agent is gone: nothing of it is kept in memory."""
        self._bytes.pop(key, None)
        self._overlay.forget(key)

    # ---- tasks ------------------------------------------------------------------------------------------------
    async def create_or_assign(
        self, namespace: str, name: str, instructions: str, settings: Manifest, given: Manifest
    ) -> Assigned:
        """A new agent with its first task, or the next task of an idle one. Raises `Busy`.

        `settings` are those of a new agent, defaults included; `given` are those that the caller named.
        """
        self._require_synced()
        manifest = self._cache.get(namespace, name)
        task_id = str(ULID())
        for attempt in range(ATTEMPTS):
            if attempt:
                manifest = await self._fresh(namespace, name)
            if manifest is None:
                try:
                    made = await self._cluster.create(
                        AGENTS, claim.new_agent(name, namespace, task_id, instructions, settings)
                    )
                except Conflict:
                    continue
                self._cache.put(made)
                return Assigned(created_body(made, "Pending"), True)
            if manifest["metadata"].get("deletionTimestamp"):
                if attempt == 0:
                    continue
                raise Conflict(
                    f"the former agent {name!r} is still being deleted; try again in a moment", code="terminating"
                )
            assigned = await self._assign(manifest, task_id, instructions, given, is_fresh=attempt > 0)
            if assigned is not None:
                return Assigned(created_body(assigned), False)
        raise Unavailable(f"agent {name!r} changed too often to assign a task; try again", code="contended")

    async def assign(
        self, namespace: str, name: str, instructions: str, given: Manifest, kind: TaskKind | None = None
    ) -> Manifest:
        """The next task of an agent that exists. Raises `Busy`, `NotFound`."""
        manifest: Manifest | None = self.cached(namespace, name)
        task_id = str(ULID())
        for attempt in range(ATTEMPTS):
            if attempt:
                manifest = await self._fresh(namespace, name)
            if manifest is None or manifest["metadata"].get("deletionTimestamp"):
                raise NotFound(f"there is no agent {name!r} in namespace {namespace!r}", code="agent-not-found")
            assigned = await self._assign(manifest, task_id, instructions, given, kind, is_fresh=attempt > 0)
            if assigned is not None:
                return assigned
        raise Unavailable(f"agent {name!r} changed too often to assign a task; try again", code="contended")

    async def _assign(
        self,
        manifest: Manifest,
        task_id: str,
        instructions: str,
        given: Manifest,
        kind: TaskKind | None = None,
        *,
        is_fresh: bool,
    ) -> Manifest | None:
        """The claimed agent, or None where the decision was made on an old copy and is to be made anew."""
        namespace, name = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
        agent = Agent.model_validate(manifest)
        live = await self._overlay.current((namespace, name))
        if not is_idle(agent.spec, agent.status, live_task(agent, live)):
            if not is_fresh:
                return None
            raise Busy(f"agent {name!r} has a task; wait for its end or cancel it")
        try:
            patched = await self._cluster.json_patch(
                AGENTS, name, namespace, claim.assign(manifest, task_id, instructions, given, kind)
            )
        except (Conflict, NotFound):
            return None
        self._cache.put(patched)
        return patched

    async def _fresh(self, namespace: str, name: str) -> Manifest | None:
        try:
            manifest = await self._cluster.get(AGENTS, name, namespace)
        except NotFound:
            return None
        self._cache.put(manifest)
        return manifest

    async def cancel(self, namespace: str, name: str) -> None:
        """Asks for the end of the task that runs or is about to. Raises `Conflict` (`idle`) where none is."""
        manifest: Manifest | None = self.cached(namespace, name)
        deadline = asyncio.get_running_loop().time() + CANCEL_WAIT_S
        is_fresh = False
        while manifest is not None:
            agent = Agent.model_validate(manifest)
            live = await self._overlay.current((namespace, name))
            task_id = running_task(agent, live)
            pending = agent.spec.cancel_task_id
            if task_id is not None and pending == task_id:
                return
            if task_id is None:
                if is_fresh:
                    raise Conflict(f"agent {name!r} has no task to cancel", code="idle")
            elif pending is None or pending in agent.status.ended_tasks:
                try:
                    patched = await self._cluster.json_patch(AGENTS, name, namespace, claim.cancel(manifest, task_id))
                except Conflict:
                    pass
                else:
                    self._cache.put(patched)
                    return
            elif asyncio.get_running_loop().time() > deadline:
                raise Unavailable(
                    f"the previous cancel of agent {name!r} is not accounted yet; try again", code="cancel-pending"
                )
            else:
                await asyncio.sleep(0.05)
            manifest, is_fresh = await self._fresh(namespace, name), True
        raise NotFound(f"there is no agent {name!r} in namespace {namespace!r}", code="agent-not-found")

    # ---- changes ----------------------------------------------------------------------------------------------
    async def change(self, namespace: str, name: str, settings: Manifest) -> Manifest:
        """Sets fields of spec in one patch; they act at the next task."""
        uid = self.cached(namespace, name)["metadata"]["uid"]
        operations = [{"op": "test", "path": "/metadata/uid", "value": uid}, *claim.change(settings)]
        try:
            patched = await self._cluster.json_patch(AGENTS, name, namespace, operations)
        except Conflict as replaced:
            raise NotFound(f"agent {name!r} was deleted meanwhile", code="agent-not-found") from replaced
        self._cache.put(patched)
        return patched

    async def delete(self, namespace: str, name: str) -> None:
        """The garbage collector takes pod, disk and settings with it."""
        manifest = self.cached(namespace, name)
        await self._cluster.delete(AGENTS, name, namespace, uid=manifest["metadata"]["uid"], propagation="Background")
        self._cache.forget(manifest)
        self.forget((namespace, name))

    def refuse_unknown_connectors(self, namespace: str, connectors: Sequence[str] | None) -> None:
        """Raises `Invalid` naming the first connector that does not exist."""
        for connector in connectors or ():
            raise Invalid(
                f"there is no connector {connector[:100]!r} in namespace {namespace!r}",
                code="unknown-connector",
                field="connectors",
            )


def with_defaults(given: Manifest) -> Manifest:
    """The settings of a new agent."""
    return {"model": names.DEFAULT_MODEL, "templateRef": names.DEFAULT_TEMPLATE, "role": "manager", **given}
