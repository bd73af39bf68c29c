"""What a cache knows, and how what it is told changes that. Pure: no input or output, no clock.

It is told by four voices that may overtake each other: the watch, the lists, the answers to our own writes (`put`) and
our own deletions (`forget`). Whatever their order, an object never goes back to an older version, a deleted one never
comes back, and in the end the store equals the server.

Resource versions are compared as numbers: etcd's are, the laptop's are, and Kubernetes promises it (KEP-5504). The
watch tells in their order, so up to the last version it told (the horizon) everything is known: what somebody else says
of an older state is either held already or was deleted since.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from komputer.domain.ref import ObjectRef
from komputer.kube.kinds import Manifest


@dataclass(frozen=True, slots=True)
class CacheChange:
    """One step from what was known to what is known. Of a DELETED, `manifest` is the last state that was told."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    manifest: Manifest
    old: Manifest | None = None
    is_lost: bool = False
    """Of a DELETED: nobody deleted it. The server was set back to an earlier state and does not know it."""


class ObjectStore:
    """The objects of one kind, of all namespaces (None) or of `namespaces`, each of which is listed and watched on its
    own. `selects` says whether an object matches the label selector that is listed and watched."""

    def __init__(
        self, namespaces: Sequence[str] | None = None, selects: Callable[[Manifest], bool] = lambda manifest: True
    ) -> None:
        self._scopes: tuple[str | None, ...] = (None,) if namespaces is None else tuple(namespaces)
        self._selects = selects
        self._objects: dict[str, dict[str, Manifest]] = {}
        self._horizon: dict[str | None, int] = dict.fromkeys(self._scopes, 0)
        self._forgotten: dict[str, Manifest] = {}
        self.version = 0
        """Goes up with each change."""

    def get(self, namespace: str | None, name: str) -> Manifest | None:
        """The object; cluster-scoped ones are in no namespace."""
        return self._objects.get(namespace or "", {}).get(name)

    def __len__(self) -> int:
        return sum(map(len, self._objects.values()))

    def items(self, namespace: str | None = None) -> list[Manifest]:
        """All objects (of one namespace) as they are now; later changes do not touch the list."""
        if namespace is not None:
            return list(self._objects.get(namespace, {}).values())
        return [manifest for objects in self._objects.values() for manifest in objects.values()]

    def follows(self, namespace: str) -> bool:
        """Whether the objects of this namespace are listed and watched."""
        return self._scopes == (None,) or namespace in self._scopes

    # The four voices

    def told(self, type: Literal["ADDED", "MODIFIED", "DELETED"], manifest: Manifest) -> list[CacheChange]:
        """A watch event."""
        self.told_up_to(_version(manifest), self._scope(manifest))
        if type == "DELETED":
            self._forgotten.pop(_uid(manifest), None)
            return self._drop(manifest)
        return self._take(manifest)

    def told_up_to(self, version: int, scope: str | None = None) -> None:
        """A bookmark: the watch of `scope` has told everything up to `version`."""
        self._horizon[scope] = max(self._horizon[scope], version)

    def listed(self, manifests: Iterable[Manifest], version: int, scope: str | None = None) -> list[CacheChange]:
        """All objects of `scope` as they were at `version`. What is held, not listed and not newer was deleted while
        nobody told us. A list from before the horizon means that the server has lost history (it was restored from a
        backup): then the list is right, also where it is older."""
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
        """The server's answer to a write of ours; ignored where something newer is known. An object that has left the
        label selector by it stays, in its new state, until the watch tells that it has left."""
        scope = self._scope(manifest)
        if scope not in self._horizon or _version(manifest) <= self._horizon[scope]:
            return []
        if not self._selects(manifest) and not self._holds(manifest):
            return []
        return self._take(manifest)

    def forget(self, manifest: Manifest) -> list[CacheChange]:
        """We have deleted the object and the server said that it is gone. It leaves now, and what was said of it before
        does not bring it back. Where it is known to be terminating the watch tells the rest."""
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
        # A newer version of a deleted object is one that has left the label selector and come back.
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
    """Whether the object was deleted and is still there, in its grace period or held by a finalizer."""
    return bool(manifest["metadata"].get("deletionTimestamp"))


def _uid(manifest: Manifest) -> str:
    return str(manifest["metadata"]["uid"])


def _version(manifest: Manifest) -> int:
    return int(manifest["metadata"]["resourceVersion"])
