"""What is watched, and who is told: a cache of each kind keeps the store current."""

import asyncio
from collections.abc import Sequence
from functools import partial

from komputer.kube import Cache, Change, Cluster, Kind
from komputer.operator import metrics
from komputer.operator.store import CHILDREN, KINDS, Store
from komputer.resources import names


class Watches:
    """All kinds that agents are made from and into, in all namespaces (None) or in some."""

    def __init__(self, cluster: Cluster, namespaces: Sequence[str] | None, store: Store) -> None:
        self._caches = [
            Cache(
                cluster,
                kind,
                namespaces=namespaces if kind.namespaced else None,
                labels=names.AGENT_LABEL if kind in CHILDREN else None,
            )
            for kind in KINDS
        ]
        for cache in self._caches:
            cache.subscribe(partial(_tell, store, cache.kind))
            metrics.STALE.labels(cache.kind.plural).set_function(partial(_stale_s, cache))

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for cache in self._caches:
                group.create_task(cache.run())

    async def synced(self) -> None:
        """Waits until everything that exists was seen once."""
        for cache in self._caches:
            await cache.synced()


def _stale_s(cache: Cache) -> float:
    return cache.stale_s


def _tell(store: Store, kind: Kind, change: Change) -> None:
    if change.type == "DELETED":
        store.drop(kind, change.manifest)
    else:
        store.put(kind, change.manifest)
