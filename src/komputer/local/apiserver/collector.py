"""The garbage collector: deletes objects whose owners are gone, and the contents of terminating namespaces and
definitions.

Equivalent to the garbage collector and the namespace controller of a kube-controller-manager.
"""

import asyncio
import logging

from komputer.local.apiserver.crd import FINALIZER
from komputer.local.apiserver.deletion import FOREGROUND, ORPHAN
from komputer.local.apiserver.errors import StatusError
from komputer.local.apiserver.kinds import CRD, NAMESPACE, ResourceKind
from komputer.local.apiserver.objects import Objects
from komputer.local.apiserver.options import DeleteOptions, Policy, WriteOptions
from komputer.local.apiserver.store import Address, Object, ObjectChange, Stored, owner_uids

log = logging.getLogger(__name__)


class Collector:
    """Examines, in a background task, the objects that a change may have made due for collection."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._store = objects.store
        self._queue: dict[Address, None] = {}
        self._wake = asyncio.Event()

    def enqueue(self, change: ObjectChange) -> None:
        """Queue the objects that a change may have made due for collection."""
        body = change.stored.object
        meta = body["metadata"]
        if change.type == "DELETED":
            for dependent in self._store.dependents(meta["uid"]):
                self._queue[dependent.address] = None
            for uid in owner_uids(body):
                self._enqueue_uid(uid)
            if namespace := meta.get("namespace"):
                self._enqueue_terminating(NAMESPACE.resource, namespace)
            self._enqueue_terminating(CRD.resource, change.stored.address[0])
        elif "ownerReferences" in meta or "deletionTimestamp" in meta:
            self._queue[change.stored.address] = None
            for uid in owner_uids(change.before.object) if change.before else ():
                self._enqueue_uid(uid)
        if self._queue:
            self._wake.set()

    def enqueue_all(self) -> None:
        """Queue all objects, to finish the work of an earlier process."""
        for stored in self._store.all_objects():
            self._queue[stored.address] = None
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled. If a write fails (a full disk), the error is raised and the object stays queued for the
        next run."""
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                address = next(iter(self._queue))
                del self._queue[address]
                try:
                    self._collect(address)
                except StatusError as error:
                    log.warning("object not collected: %s: %s", "/".join(address), error)
                except Exception:
                    self._queue[address] = None
                    raise
                await asyncio.sleep(0)

    def _enqueue_uid(self, uid: str) -> None:
        if owner := self._store.by_uid(uid):
            self._queue[owner.address] = None

    def _enqueue_terminating(self, resource: str, name: str) -> None:
        stored = self._store.get(resource, "", name)
        if stored and "deletionTimestamp" in stored.object["metadata"]:
            self._queue[stored.address] = None

    def _collect(self, address: Address) -> None:
        """Process one object: continue its deletion, or check its owners."""
        stored = self._store.get(*address)
        kind = self._objects.registry.by_resource(address[0])
        if stored is None or kind is None:
            return
        meta = stored.object["metadata"]
        if "deletionTimestamp" in meta:
            finalizers = meta.get("finalizers", ())
            if ORPHAN in finalizers:
                self._orphan(kind, stored)
            elif FOREGROUND in finalizers:
                self._delete_dependents_first(kind, stored)
            elif kind is NAMESPACE:
                self._empty_namespace(stored)
            elif FINALIZER in finalizers:
                self._empty_definition(stored)
        elif "ownerReferences" in meta:
            self._check_owners(kind, stored)

    def _check_owners(self, kind: ResourceKind, stored: Stored) -> None:
        """Delete the object if all of its owners are deleted or wait for its deletion. If only some are, remove those
        from its list of owners."""
        meta = stored.object["metadata"]
        references = meta["ownerReferences"]
        deleted_owners = [reference for reference in references if self._is_deleted_owner(reference, stored)]
        waiting_owners = [one for one in references if one not in deleted_owners and self._waits_for_deletion(one)]
        remaining_owners = [one for one in references if one not in deleted_owners and one not in waiting_owners]
        if remaining_owners:
            if deleted_owners or waiting_owners:
                self._change_metadata(kind, stored, {"ownerReferences": remaining_owners})
            return
        finalizers = meta.get("finalizers", ())
        policy: Policy = (
            "Orphan" if ORPHAN in finalizers else "Foreground" if FOREGROUND in finalizers else "Background"
        )
        if waiting_owners and self._store.dependents(meta["uid"]):
            policy = "Foreground"
        self._delete(kind, stored, DeleteOptions(policy=policy, uid=meta["uid"]))

    def _is_deleted_owner(self, reference: Object, dependent: Stored) -> bool:
        """Return whether an owner is deleted. An owner of an unknown kind is considered present, because its absence
        cannot be established."""
        kind = self._objects.registry.by_object(reference["apiVersion"], reference["kind"])
        return kind is not None and self._owner(reference, kind, dependent) is None

    def _waits_for_deletion(self, reference: Object) -> bool:
        """Return whether the owner is in foreground deletion and this reference blocks it."""
        owner = self._store.by_uid(reference["uid"])
        return bool(owner and reference.get("blockOwnerDeletion") and _is_waiting(owner))

    def _owner(self, reference: Object, kind: ResourceKind, dependent: Stored) -> Stored | None:
        owner = self._store.by_uid(reference["uid"])
        if owner is None or owner.address[0] != kind.resource or owner.address[2] != reference["name"]:
            return None
        return owner if not kind.namespaced or owner.address[1] == dependent.address[1] else None

    def _orphan(self, kind: ResourceKind, owner: Stored) -> None:
        """Remove the owner from the lists of its dependents, then the finalizer from the owner."""
        uid = owner.object["metadata"]["uid"]
        for dependent in self._store.dependents(uid):
            kept = [one for one in dependent.object["metadata"]["ownerReferences"] if one["uid"] != uid]
            if dependent_kind := self._objects.registry.by_resource(dependent.address[0]):
                self._change_metadata(dependent_kind, dependent, {"ownerReferences": kept})
        self._drop_finalizer(kind, owner, ORPHAN)

    def _delete_dependents_first(self, kind: ResourceKind, owner: Stored) -> None:
        """Delete the dependents that block the owner. When none is left, remove the finalizer from the owner."""
        uid = owner.object["metadata"]["uid"]
        blocking = [dependent for dependent in self._store.dependents(uid) if _blocks(dependent, uid)]
        for dependent in blocking:
            dependent_kind = self._objects.registry.by_resource(dependent.address[0])
            if dependent_kind and "deletionTimestamp" not in dependent.object["metadata"]:
                self._check_owners(dependent_kind, dependent)
        if not blocking:
            self._drop_finalizer(kind, owner, FOREGROUND)

    def _empty_namespace(self, stored: Stored) -> None:
        """Delete the contents of a terminating namespace; when none are left, remove the namespace."""
        name = stored.address[2]
        for content in self._store.in_namespace(name):
            kind = self._objects.registry.by_resource(content.address[0])
            if kind and "deletionTimestamp" not in content.object["metadata"]:
                self._delete(kind, content, DeleteOptions())
        current = self._store.get(*stored.address)
        if current and not self._store.in_namespace(name) and not current.object["metadata"].get("finalizers"):
            self._store.remove(current)

    def _empty_definition(self, stored: Stored) -> None:
        """Delete the objects of a terminating definition; when none are left, remove its finalizer."""
        resource = stored.address[2]
        kind = self._objects.registry.by_resource(resource)
        for content in self._store.all(resource):
            if kind and "deletionTimestamp" not in content.object["metadata"]:
                self._delete(kind, content, DeleteOptions())
        if not self._store.all(resource):
            self._drop_finalizer(CRD, stored, FINALIZER)

    def _drop_finalizer(self, kind: ResourceKind, stored: Stored, finalizer: str) -> None:
        kept = [one for one in stored.object["metadata"].get("finalizers", ()) if one != finalizer]
        self._change_metadata(kind, stored, {"finalizers": kept})

    def _change_metadata(self, kind: ResourceKind, stored: Stored, change: Object) -> None:
        _, namespace, name = stored.address
        self._objects.patch(
            kind, namespace, name, "", "merge", {"metadata": change}, WriteOptions(field_validation="Ignore")
        )

    def _delete(self, kind: ResourceKind, stored: Stored, options: DeleteOptions) -> None:
        _, namespace, name = stored.address
        if self._store.get(*stored.address):
            self._objects.delete(kind, namespace, name, options)


def _is_waiting(owner: Stored) -> bool:
    meta = owner.object["metadata"]
    return "deletionTimestamp" in meta and FOREGROUND in meta.get("finalizers", ())


def _blocks(dependent: Stored, uid: str) -> bool:
    return any(
        one["uid"] == uid and one.get("blockOwnerDeletion") for one in dependent.object["metadata"]["ownerReferences"]
    )
