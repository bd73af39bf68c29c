"""Reading agents: from the cache of resources and the live state of the event log."""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

from komputer.domain.base import Manifest
from komputer.domain.errors import NotFound, Unavailable
from komputer.domain.ref import ObjectRef
from komputer.kube import Cache
from komputer.services.agents import claim
from komputer.services.agents.overlay import Overlay
from komputer.services.agents.view import AgentView, agent_view

LIVE_TIMEOUT_S: Final = 1.0
"""How long `view` waits for an event log that does not answer, in seconds."""


class Versioned(NamedTuple):
    """An agent, and the `etag` of its spec."""

    agent: AgentView
    etag: str


class AgentReader:
    """The agents of the cluster, as the caches of one process show them."""

    def __init__(self, cache: Cache, overlay: Overlay) -> None:
        self._cache = cache
        self._overlay = overlay

    async def one(self, namespace: str, name: str) -> Manifest:
        """Return an agent; one that is not in the cache is requested from the Kubernetes API.

        Raises `NotFound`, also for an agent that is terminating, and `Unavailable` while the cache is not filled or
        the Kubernetes API does not answer.
        """
        self.require_synced()
        if (manifest := await self._cache.find(namespace, name)) is None:
            raise not_found(namespace, name)
        return manifest

    def cached(self, namespace: str, name: str) -> Manifest:
        """Return an agent from the cache. Raises `NotFound`, also for an agent that is terminating."""
        manifest = self._cache.get(namespace, name)
        if manifest is None or manifest["metadata"].get("deletionTimestamp"):
            raise not_found(namespace, name)
        return manifest

    def exists(self, namespace: str, name: str) -> bool:
        """Return whether the cache has the agent, terminating or not."""
        return self._cache.get(namespace, name) is not None

    def manifests(self) -> Sequence[Manifest]:
        """Return all agents that are not terminating."""
        self.require_synced()
        return [m for m in self._cache.items() if not m["metadata"].get("deletionTimestamp")]

    def named(self, name: str) -> Sequence[Manifest]:
        """Return the agents of that name in all namespaces."""
        return [manifest for manifest in self.manifests() if manifest["metadata"]["name"] == name]

    def namespaces(self) -> frozenset[str]:
        """Return the namespaces that contain agents."""
        return frozenset(manifest["metadata"]["namespace"] for manifest in self.manifests())

    async def view(self, namespace: str, name: str) -> Versioned:
        """Return an agent as of now. While the event log does not answer, its last known live state is used."""
        manifest = await self.one(namespace, name)
        try:
            async with asyncio.timeout(LIVE_TIMEOUT_S):
                live = await self._overlay.current(ObjectRef(namespace, name))
        except (Unavailable, TimeoutError):
            live = self._overlay.get(ObjectRef(namespace, name))
        return Versioned(agent_view(manifest, live), claim.etag(manifest))

    def require_synced(self) -> None:
        """Raise `Unavailable` until all agents were read once: before that, an agent that is missing in the cache may
        exist."""
        if not self._cache.is_synced:
            raise Unavailable("the agents have not been read yet; try again", code="starting", retry_after_s=1)

    def forget(self, ref: ObjectRef) -> None:
        """Drop the live state of an agent that was deleted."""
        self._overlay.forget(ref)


def not_found(namespace: str, name: str) -> NotFound:
    """Return the error for an agent that does not exist."""
    return NotFound(f"there is no agent {name!r} in namespace {namespace!r}", code="agent_not_found")
