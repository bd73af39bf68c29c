"""The observed state of the cluster: a cache of each watched kind, and the rules for which objects a change affects."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final

from komputer.background import Background
from komputer.domain import names
from komputer.domain.connector import attached
from komputer.domain.ref import ObjectRef
from komputer.kube import (
    AGENTS,
    CLUSTER_TEMPLATES,
    CONFIGS,
    CONNECTORS,
    TEMPLATES,
    Cache,
    CacheChange,
    Cluster,
    Kind,
    Manifest,
)
from komputer.operator.agent.children import CHILDREN

CHILD_KINDS: Final = tuple(dict.fromkeys(child.kind for child in CHILDREN))
"""The kinds of children. They are watched with a label selector, so that only the pods of agents are received."""
RESOURCE_KINDS: Final = (AGENTS, TEMPLATES, CLUSTER_TEMPLATES, CONFIGS, CONNECTORS)

Wake = Callable[[Kind, ObjectRef], None]


class ClusterState:
    """The caches of all watched kinds, in all namespaces (None) or in some.

    `wake` is called with each agent, connector, template and configuration that a change affects. The operator's own
    writes wake nothing, except connectors: an agent that begins or ceases to name one always wakes it."""

    def __init__(self, cluster: Cluster, namespaces: Sequence[str] | None, wake: Wake) -> None:
        self._wake = wake
        self._caches = {
            kind: Cache(
                cluster,
                kind,
                namespaces=namespaces if kind.namespaced else None,
                labels=names.AGENT_LABEL if kind in CHILD_KINDS else None,
            )
            for kind in (*RESOURCE_KINDS, *CHILD_KINDS)
        }
        self._is_own_write = False
        self._deleted: dict[ObjectRef, set[str]] = {}
        for kind, cache in self._caches.items():
            cache.subscribe(partial(self._changed, kind))

    def run(self, background: Background) -> None:
        """Watch the cluster for as long as `background` runs."""
        for cache in self._caches.values():
            background.run_forever(f"cache of {cache.kind.plural}", cache.run)

    async def synced(self) -> None:
        """Wait until every kind was listed once."""
        for cache in self._caches.values():
            await cache.synced()

    @property
    def caches(self) -> Iterable[Cache]:
        return self._caches.values()

    def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        return self._caches[kind].get(namespace, name)

    def agents(self) -> Iterator[ObjectRef]:
        return map(ObjectRef.of, self._caches[AGENTS].items())

    def agents_of(self, connector: ObjectRef) -> list[str]:
        """Return the names of the agents that name the connector, sorted."""
        return attached(self._caches[AGENTS].items(connector.namespace)).get(connector, [])

    def deleted_uids(self, agent: ObjectRef) -> frozenset[str]:
        """Return the uids of deleted agents of this name whose logs have not been purged yet."""
        return frozenset(self._deleted.get(agent, ()))

    def forget_deleted(self, agent: ObjectRef, uid: str) -> None:
        uids = self._deleted.get(agent, set())
        uids.discard(uid)
        if not uids:
            self._deleted.pop(agent, None)

    def read(self, kind: Kind, manifest: Manifest) -> None:
        """Store an object that was read from the server in the cache."""
        self._caches[kind].put(manifest)

    def wrote(self, kind: Kind, manifest: Manifest) -> bool:
        """Store the server's answer to one of our writes in the cache, without waking agents. Return False for an
        object that is not watched: it has been deleted, or has lost its label."""
        self._is_own_write = True
        try:
            self._caches[kind].put(manifest)
        finally:
            self._is_own_write = False
        metadata = manifest["metadata"]
        held = self.get(kind, metadata.get("namespace"), metadata["name"])
        return held is not None and held["metadata"]["uid"] == metadata["uid"]

    def deleted(self, kind: Kind, manifest: Manifest) -> None:
        """Remove an object from the cache. The operator has deleted it, and it does not exist any more."""
        self._caches[kind].forget(manifest)

    def _changed(self, kind: Kind, change: CacheChange) -> None:
        if kind is AGENTS:
            self._agent_changed(change)
        elif kind in RESOURCE_KINDS and change.type != "DELETED" and not _is_status_only(change):
            self._wake(kind, ObjectRef.of(change.manifest))
        if not self._is_own_write:
            for agent in self._affected_agents(kind, change.manifest):
                self._wake(AGENTS, agent)

    def _agent_changed(self, change: CacheChange) -> None:
        """Wake the connectors that the agent has begun or ceased to name."""
        now = frozenset(attached([change.manifest])) if change.type != "DELETED" else frozenset()
        before = frozenset(attached([change.old])) if change.old else frozenset()
        for connector in now ^ before:
            self._wake(CONNECTORS, connector)
        if change.type == "DELETED" and not change.is_lost:
            self._deleted.setdefault(ObjectRef.of(change.manifest), set()).add(change.manifest["metadata"]["uid"])

    def _affected_agents(self, kind: Kind, manifest: Manifest) -> Iterable[ObjectRef]:
        metadata = manifest["metadata"]
        namespace, name = metadata.get("namespace"), metadata["name"]
        if kind is AGENTS:
            return [ObjectRef.of(manifest)]
        if kind in CHILD_KINDS:
            owner = (metadata.get("labels") or {}).get(names.AGENT_LABEL)
            return [ObjectRef(namespace, owner)] if owner else []
        agents = self._caches[AGENTS].items(namespace)
        if kind is CONNECTORS:
            agents = [each for each in agents if name in (each.get("spec", {}).get("connectors") or ())]
        elif kind is not CONFIGS:
            agents = [
                each for each in agents if each.get("spec", {}).get("templateRef", names.DEFAULT_TEMPLATE) == name
            ]
        return map(ObjectRef.of, agents)


def _is_status_only(change: CacheChange) -> bool:
    """Return whether the change is only one of the status, which the operator itself writes."""
    return (
        change.type == "MODIFIED" and change.old is not None and change.old.get("spec") == change.manifest.get("spec")
    )
