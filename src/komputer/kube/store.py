"""The objects that a cache holds, and how they change. Pure: no I/O, no clock.

Changes come from four sources, whose order is not known: the watch, the lists, the answers to our own writes (`put`)
and our own deletions (`forget`). Whatever the order, an object never returns to an older version, a deleted object
never returns, and in the end the store equals the server.

Resource versions are compared as numbers: those of etcd and of the laptop are numbers, and Kubernetes guarantees it
(KEP-5504). The watch delivers versions in order, so every change up to the last delivered version (the horizon) is
known. A state from another source that is not newer than the horizon is either stored already, or belongs to an object
that was deleted since.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from komputer.domain.ref import ObjectRef
from komputer.kube.kinds import Manifest


@dataclass(frozen=True, slots=True)
class CacheChange:
    """One change of the store. The `manifest` of a DELETED is the object's last known state."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    manifest: Manifest
    old: Manifest | None = None
    is_lost: bool = False
    """True for a DELETED that no client requested: the server was restored to an earlier state that does not contain
    the object."""


class ObjectStore:
    """The objects of one kind, of all namespaces (None) or of `namespaces`, each of which has a list and a watch of its
    own. `selects` returns whether an object matches the label selector of the lists and watches."""

    def __init__(
        self, namespaces: Sequence[str] | None = None, selects: Callable[[Manifest], bool] = lambda manifest: True
    ) -> None:
        self._scopes: tuple[str | None, ...] = (None,) if namespaces is None else tuple(namespaces)
        self._selects = selects
        self._objects: dict[str, dict[str, Manifest]] = {}
        self._horizon: dict[str | None, int] = dict.fromkeys(self._scopes, 0)
        """The version up to which every change is known, by namespace."""
        self._forgotten: dict[str, Manifest] = {}
        """Objects that we have deleted and whose deletion the watch has not reported yet, by uid."""
        self.version = 0
        """Increases with each change."""

    def get(self, namespace: str | None, name: str) -> Manifest | None:
        """Return the object, or None. Cluster-scoped objects are in no namespace."""
        return self._objects.get(namespace or "", {}).get(name)

    def __len__(self) -> int:
        return sum(map(len, self._objects.values()))

    def items(self, namespace: str | None = None) -> list[Manifest]:
        """Return all objects (of one namespace), as a new list."""
        if namespace is not None:
            return list(self._objects.get(namespace, {}).values())
        return [manifest for objects in self._objects.values() for manifest in objects.values()]

    def follows(self, namespace: str) -> bool:
        """Return whether the objects of this namespace are listed and watched."""
        return self._scopes == (None,) or namespace in self._scopes

    # The four sources

    def watched(self, type: Literal["ADDED", "MODIFIED", "DELETED"], manifest: Manifest) -> list[CacheChange]:
        """Apply a watch event."""
        self.bookmark(_version(manifest), self._scope(manifest))
        if type == "DELETED":
            self._forgotten.pop(_uid(manifest), None)
            return self._drop(manifest)
        return self._take(manifest)

    def bookmark(self, version: int, scope: str | None = None) -> None:
        """Record that the watch of `scope` has delivered everything up to `version`."""
        self._horizon[scope] = max(self._horizon[scope], version)

    def listed(self, manifests: Iterable[Manifest], version: int, scope: str | None = None) -> list[CacheChange]:
        """Apply a list: all objects of `scope`, in their state at `version`. A stored object that is neither in the
        list nor newer was deleted while no watch was open. A `version` below the horizon means that the server has lost
        history, because it was restored from a backup: then the list replaces newer states too."""
        rewound = version < self._horizon[scope]
        self._horizon[scope] = version
        listed = {ObjectRef.of(manifest): manifest for manifest in manifests}
        uids = {_uid(manifest) for manifest in listed.values()}
        for uid, manifest in list(self._forgotten.items()):
            within = self._scope(manifest) == scope
            if within and (rewound or (uid not in uids and _version(manifest) <= version)):
                del self._forgotten[uid]
        changes: list[CacheChange] = []
        for held in self.items(scope):
            if ObjectRef.of(held) not in listed and (rewound or _version(held) <= version):
                changes += self._remove(CacheChange("DELETED", held, held, is_lost=rewound))
        for manifest in listed.values():
            changes += self._take(manifest, even_older=rewound)
        return changes

    def put(self, manifest: Manifest) -> list[CacheChange]:
        """Apply the server's answer to one of our writes. It is ignored if a newer state is known. An object that no
        longer matches the label selector stays, in its new state, until the watch reports its deletion."""
        scope = self._scope(manifest)
        if scope not in self._horizon or _version(manifest) <= self._horizon[scope]:
            return []
        if not self._selects(manifest) and not self._holds(manifest):
            return []
        return self._take(manifest)

    def forget(self, manifest: Manifest) -> list[CacheChange]:
        """Record that we have deleted the object, and that it is gone. It is removed now, and no earlier state adds it
        again. If the stored object is terminating, nothing is done, because the watch will report the deletion."""
        held = self.get(*ObjectRef.of(manifest))
        known_as = held if held is not None and _uid(held) == _uid(manifest) else None
        scope = self._scope(manifest)
        if scope not in self._horizon or (known_as is not None and is_terminating(known_as)):
            return []
        if known_as is None and (not self._selects(manifest) or _version(manifest) <= self._horizon[scope]):
            return []
        self._forgotten[_uid(manifest)] = manifest
        return self._remove(CacheChange("DELETED", known_as, known_as)) if known_as is not None else []

    # Steps

    def _take(self, manifest: Manifest, *, even_older: bool = False) -> list[CacheChange]:
        held = self.get(*ObjectRef.of(manifest))
        if _uid(manifest) in self._forgotten and not is_terminating(manifest):
            return []
        if held is None:
            overtaken = any(
                ObjectRef.of(gone) == ObjectRef.of(manifest) and _version(gone) >= _version(manifest)
                for gone in self._forgotten.values()
            )
            return [] if overtaken and not even_older else self._set(CacheChange("ADDED", manifest))
        same_uid = _uid(held) == _uid(manifest)
        if same_uid and _version(held) == _version(manifest):
            return []
        if _version(held) >= _version(manifest) and not even_older:
            return []
        if same_uid:
            return self._set(CacheChange("MODIFIED", manifest, held))
        return [*self._remove(CacheChange("DELETED", held, held)), *self._set(CacheChange("ADDED", manifest))]

    def _drop(self, manifest: Manifest) -> list[CacheChange]:
        held = self.get(*ObjectRef.of(manifest))
        # If the stored object is newer than its deletion, it left the label selector and matches it again.
        if held is None or _uid(held) != _uid(manifest) or _version(held) > _version(manifest):
            return []
        return self._remove(CacheChange("DELETED", manifest, held))

    def _set(self, change: CacheChange) -> list[CacheChange]:
        namespace, name = ObjectRef.of(change.manifest)
        self._objects.setdefault(namespace, {})[name] = change.manifest
        self.version += 1
        return [change]

    def _remove(self, change: CacheChange) -> list[CacheChange]:
        namespace, name = ObjectRef.of(change.manifest)
        del self._objects[namespace][name]
        if not self._objects[namespace]:
            del self._objects[namespace]
        self.version += 1
        return [change]

    def _holds(self, manifest: Manifest) -> bool:
        held = self.get(*ObjectRef.of(manifest))
        return held is not None and _uid(held) == _uid(manifest)

    def _scope(self, manifest: Manifest) -> str | None:
        return None if self._scopes == (None,) else ObjectRef.of(manifest).namespace


def is_terminating(manifest: Manifest) -> bool:
    """Return whether the object is being deleted: it still exists, in its grace period or because of a finalizer."""
    return bool(manifest["metadata"].get("deletionTimestamp"))


def _uid(manifest: Manifest) -> str:
    return str(manifest["metadata"]["uid"])


def _version(manifest: Manifest) -> int:
    return int(manifest["metadata"]["resourceVersion"])
