"""Performs the steps that were decided: creates, changes and deletes children. It has no code for particular kinds."""

import asyncio

import structlog

from komputer.domain import names
from komputer.domain.agent import Agent
from komputer.domain.base import Manifest
from komputer.domain.errors import Conflict, NotFound
from komputer.kube import Cluster
from komputer.operator.agent.child import Child
from komputer.operator.agent.observed import is_ours
from komputer.operator.agent.steps import Step, Steps
from komputer.operator.cluster_state import ClusterState

log = structlog.get_logger(__name__)


class ChildWriter:
    """Performs steps, and stores their results in the caches before the watch delivers them."""

    def __init__(self, cluster: Cluster, state: ClusterState) -> None:
        self._cluster = cluster
        self._state = state

    async def apply(self, agent: Agent, plan: Steps, annotations: dict[str, dict[str, str]]) -> dict[str, Manifest]:
        """Perform the steps. For each deleted child, store the annotations of its successor in `annotations`, by
        `Child.key`.

        Return, by `Child.key`, the objects that have a child's name and are not watched; the stages after them are left
        out. Raises the API server's error if it refuses a step."""
        obstacles: dict[str, Manifest] = {}
        for stage in plan.stages:
            for found in await asyncio.gather(*(self._take(agent, step, annotations) for step in stage)):
                obstacles |= found
            if obstacles:
                break
        return obstacles

    async def _take(self, agent: Agent, step: Step, annotations: dict[str, dict[str, str]]) -> dict[str, Manifest]:
        child, obstacles = step.child, dict[str, Manifest]()
        match step.verb:
            case "create":
                obstacles = await self._create(agent, child, step.manifest)
                annotations.pop(child.key, None)
            case "delete":
                await self._delete(agent, child, step.manifest)
                annotations[child.key] = dict(step.annotations)
            case "patch":
                patched = await self._cluster.merge_patch(
                    child.kind, step.name, agent.metadata.namespace, step.manifest
                )
                self._state.wrote(child.kind, patched)
        return obstacles

    async def _create(self, agent: Agent, child: Child, manifest: Manifest) -> dict[str, Manifest]:
        """Create the object. An object that exists already is used as it is, and returned if it is not watched."""
        try:
            made = await self._cluster.create(child.kind, manifest)
            log.info("child created", agent=agent.key, kind=child.kind.kind, name=manifest["metadata"]["name"])
        except Conflict:
            made = await self._existing(agent, child, manifest)
        return {} if self._state.wrote(child.kind, made) else {child.key: made}

    async def _existing(self, agent: Agent, child: Child, manifest: Manifest) -> Manifest:
        """Return the object that exists already. If it is this agent's and has lost its label, it is labelled again, or
        deleted if the child's rules say so (`restores_label`)."""
        name, namespace = manifest["metadata"]["name"], agent.metadata.namespace
        found = await self._cluster.get(child.kind, name, namespace)
        if not is_ours(found, agent) or names.AGENT_LABEL in (found["metadata"].get("labels") or {}):
            return found
        if not child.restores_label:
            await self._delete(agent, child, found)
            return found
        return await self._cluster.merge_patch(
            child.kind, name, namespace, {"metadata": {"labels": manifest["metadata"]["labels"]}}
        )

    async def _delete(self, agent: Agent, child: Child, found: Manifest) -> None:
        name, uid = found["metadata"]["name"], found["metadata"]["uid"]
        try:
            terminating = await self._cluster.delete(child.kind, name, agent.metadata.namespace, uid=uid)
        except (NotFound, Conflict):
            terminating = None
        status = found.get("status")
        reason = status.get("reason") if isinstance(status, dict) else None
        log.info("child deleted", agent=agent.key, kind=child.kind.kind, name=name, reason=reason)
        if terminating is None:
            self._state.deleted(child.kind, found)
        else:
            self._state.wrote(child.kind, terminating)
