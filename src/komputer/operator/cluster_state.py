"""What is watched, as seen last, and whom a change concerns."""

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
    CONFIG_MAPS,
    CONFIGS,
    CONNECTORS,
    PODS,
    PVCS,
    TEMPLATES,
    Cache,
    CacheChange,
    Cluster,
    Kind,
    Manifest,
)

KINDS: Final = (AGENTS, TEMPLATES, CLUSTER_TEMPLATES, CONFIGS, CONNECTORS, PODS, PVCS, CONFIG_MAPS)
CHILDREN: Final = (PODS, PVCS, CONFIG_MAPS)
"""Watched by label: of all pods of a cluster we want to see ours only."""


class ClusterState:
    """A cache of each kind that agents are made from and into, in all namespaces (None) or in some. `wake` is called
    with each agent that a change may concern, unless we made it ourselves, and `wake_connector` with each connector."""

    def __init__(
        self,
        cluster: Cluster,
        namespaces: Sequence[str] | None,
        wake: Callable[[ObjectRef], None],
        wake_connector: Callable[[ObjectRef], None],
    ) -> None:
        self._wake = wake
        self._wake_connector = wake_connector
        self._caches = {
            kind: Cache(
                cluster,
                kind,
                namespaces=namespaces if kind.namespaced else None,
                labels=names.AGENT_LABEL if kind in CHILDREN else None,
            )
            for kind in KINDS
        }
        self._is_own_write = False
        self._gone: dict[ObjectRef, set[str]] = {}
        for kind, cache in self._caches.items():
            cache.subscribe(partial(self._changed, kind))

    def run(self, background: Background) -> None:
        """Follow the cluster, for as long as `background` runs."""
        for cache in self._caches.values():
            background.run_forever(f"cache of {cache.kind.plural}", cache.run)

    async def synced(self) -> None:
        """Waits until everything that exists was seen once."""
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
        """The agents that name it, in order."""
        return attached(self._caches[AGENTS].items(connector.namespace)).get(connector, [])

    def gone(self, key: ObjectRef) -> frozenset[str]:
        """Uids of agents of this name that are no more, and whose log was not buried yet."""
        return frozenset(self._gone.get(key, ()))

    def forget_gone(self, key: ObjectRef, uid: str) -> None:
        uids = self._gone.get(key, set())
        uids.discard(uid)
        if not uids:
            self._gone.pop(key, None)

    def read(self, kind: Kind, manifest: Manifest) -> None:
        """Take in what was read from the server."""
        self._caches[kind].put(manifest)

    def wrote(self, kind: Kind, manifest: Manifest) -> bool:
        """Take in what the server answered to a write of ours, which wakes no agent. False where it is not seen by
        the watch: it is no more, or does not have the label."""
        self._is_own_write = True
        try:
            self._caches[kind].put(manifest)
        finally:
            self._is_own_write = False
        metadata = manifest["metadata"]
        held = self.get(kind, metadata.get("namespace"), metadata["name"])
        return held is not None and held["metadata"]["uid"] == metadata["uid"]

    def deleted(self, kind: Kind, manifest: Manifest) -> None:
        """We have deleted it, and it is no more."""
        self._caches[kind].forget(manifest)

    def _changed(self, kind: Kind, change: CacheChange) -> None:
        if kind is AGENTS:
            self._agent_changed(change)
        if kind is CONNECTORS and change.type != "DELETED" and not _is_status_only(change):
            self._wake_connector(ObjectRef.of(change.manifest))
        if not self._is_own_write:
            for key in self._concerned(kind, change.manifest):
                self._wake(key)

    def _agent_changed(self, change: CacheChange) -> None:
        """The connectors that it names now or did before have a turn, unless that is the same."""
        now = frozenset(attached([change.manifest])) if change.type != "DELETED" else frozenset()
        before = frozenset(attached([change.old])) if change.old else frozenset()
        for ref in now ^ before:
            self._wake_connector(ref)
        if change.type == "DELETED" and not change.is_lost:
            self._gone.setdefault(ObjectRef.of(change.manifest), set()).add(change.manifest["metadata"]["uid"])

    def _concerned(self, kind: Kind, manifest: Manifest) -> Iterable[ObjectRef]:
        metadata = manifest["metadata"]
        namespace, name = metadata.get("namespace"), metadata["name"]
        if kind is AGENTS:
            return [ObjectRef.of(manifest)]
        if kind in CHILDREN:
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
    """Whether no more than the status changed, which is ours."""
    return (
        change.type == "MODIFIED" and change.old is not None and change.old.get("spec") == change.manifest.get("spec")
    )
