"""What a controller manager does: collect what lost its owners, empty what is being deleted."""

import asyncio
import logging

from komputer.local.apiserver.crd import FINALIZER
from komputer.local.apiserver.errors import StatusError
from komputer.local.apiserver.kinds import CRD, NAMESPACE, ResourceKind
from komputer.local.apiserver.objects import FOREGROUND, ORPHAN, DeleteOptions, Objects, Policy, WriteOptions
from komputer.local.apiserver.store import Address, Object, ObjectChange, Stored, owner_uids

log = logging.getLogger(__name__)


class Collector:
    """Looks at every object that a change may concern, once per change, in a task of its own."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._store = objects.store
        self._dirty: dict[Address, None] = {}
        self._wake = asyncio.Event()

    def note(self, change: ObjectChange) -> None:
        """Remember what a change may have made due."""
        body = change.stored.object
        meta = body["metadata"]
        if change.type == "DELETED":
            for dependent in self._store.dependents(meta["uid"]):
                self._dirty[dependent.address] = None
            for uid in owner_uids(body):
                self._look_at_uid(uid)
            if namespace := meta.get("namespace"):
                self._look_at_terminating(NAMESPACE.resource, namespace)
            self._look_at_terminating(CRD.resource, change.stored.address[0])
        elif "ownerReferences" in meta or "deletionTimestamp" in meta:
            self._dirty[change.stored.address] = None
            for uid in owner_uids(change.before.object) if change.before else ():
                self._look_at_uid(uid)
        if self._dirty:
            self._wake.set()

    def note_everything(self) -> None:
        """Look at all objects: what a process that was killed left undone."""
        for stored in self._store.everything():
            self._dirty[stored.address] = None
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled. What a write fails for (a full disk) is raised, and looked at again by the next run."""
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._dirty:
                address = next(iter(self._dirty))
                del self._dirty[address]
                try:
                    self._look(address)
                except StatusError as error:
                    log.warning("%s could not be collected: %s", "/".join(address), error)
                except Exception:
                    self._dirty[address] = None
                    raise
                await asyncio.sleep(0)

    def _look_at_uid(self, uid: str) -> None:
        if owner := self._store.of_uid(uid):
            self._dirty[owner.address] = None

    def _look_at_terminating(self, resource: str, name: str) -> None:
        stored = self._store.get(resource, "", name)
        if stored and "deletionTimestamp" in stored.object["metadata"]:
            self._dirty[stored.address] = None

    def _look(self, address: Address) -> None:
        stored = self._store.get(*address)
        kind = self._objects.registry.of_resource(address[0])
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
            self._judge_owners(kind, stored)

    def _judge_owners(self, kind: ResourceKind, stored: Stored) -> None:
        """Delete what has no owner left, or only such that wait for it; otherwise forget those owners."""
        meta = stored.object["metadata"]
        references = meta["ownerReferences"]
        gone = [reference for reference in references if self._is_gone(reference, stored)]
        waiting = [one for one in references if one not in gone and self._is_waited_for(one)]
        staying = [one for one in references if one not in gone and one not in waiting]
        if staying:
            if gone or waiting:
                self._change_metadata(kind, stored, {"ownerReferences": staying})
            return
        finalizers = meta.get("finalizers", ())
        policy: Policy = (
            "Orphan" if ORPHAN in finalizers else "Foreground" if FOREGROUND in finalizers else "Background"
        )
        if waiting and self._store.dependents(meta["uid"]):
            policy = "Foreground"
        self._delete(kind, stored, DeleteOptions(policy=policy, uid=meta["uid"]))

    def _is_gone(self, reference: Object, dependent: Stored) -> bool:
        kind = self._objects.registry.of_object(reference["apiVersion"], reference["kind"])
        return kind is not None and self._owner(reference, kind, dependent) is None

    def _is_waited_for(self, reference: Object) -> bool:
        owner = self._store.of_uid(reference["uid"])
        return bool(owner and reference.get("blockOwnerDeletion") and _is_waiting(owner))

    def _owner(self, reference: Object, kind: ResourceKind, dependent: Stored) -> Stored | None:
        owner = self._store.of_uid(reference["uid"])
        if owner is None or owner.address[0] != kind.resource or owner.address[2] != reference["name"]:
            return None
        return owner if not kind.namespaced or owner.address[1] == dependent.address[1] else None

    def _orphan(self, kind: ResourceKind, owner: Stored) -> None:
        uid = owner.object["metadata"]["uid"]
        for dependent in self._store.dependents(uid):
            kept = [one for one in dependent.object["metadata"]["ownerReferences"] if one["uid"] != uid]
            if dependent_kind := self._objects.registry.of_resource(dependent.address[0]):
                self._change_metadata(dependent_kind, dependent, {"ownerReferences": kept})
        self._drop_finalizer(kind, owner, ORPHAN)

    def _delete_dependents_first(self, kind: ResourceKind, owner: Stored) -> None:
        uid = owner.object["metadata"]["uid"]
        blocking = [dependent for dependent in self._store.dependents(uid) if _blocks(dependent, uid)]
        for dependent in blocking:
            dependent_kind = self._objects.registry.of_resource(dependent.address[0])
            if dependent_kind and "deletionTimestamp" not in dependent.object["metadata"]:
                self._judge_owners(dependent_kind, dependent)
        if not blocking:
            self._drop_finalizer(kind, owner, FOREGROUND)

    def _empty_namespace(self, stored: Stored) -> None:
        name = stored.address[2]
        for content in self._store.in_namespace(name):
            kind = self._objects.registry.of_resource(content.address[0])
            if kind and "deletionTimestamp" not in content.object["metadata"]:
                self._delete(kind, content, DeleteOptions())
        current = self._store.get(*stored.address)
        if current and not self._store.in_namespace(name) and not current.object["metadata"].get("finalizers"):
            self._store.remove(current)

    def _empty_definition(self, stored: Stored) -> None:
        resource = stored.address[2]
        kind = self._objects.registry.of_resource(resource)
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
