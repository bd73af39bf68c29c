"""The rules of a deletion: preconditions, finalizers, grace period, and the response. Pure."""

from datetime import UTC, datetime, timedelta

from komputer.local.apiserver import crd, errors
from komputer.local.apiserver.kinds import CRD, NAMESPACE, ResourceKind
from komputer.local.apiserver.options import DeleteOptions
from komputer.local.apiserver.store import Object, Stored

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
"""Finalizers that keep an object until the garbage collector has deleted or released its dependents."""
PROTECTED_NAMESPACES = ("default", "kube-system")
_RETURNS_OBJECT = ("pods", "persistentvolumeclaims", "serviceaccounts", "namespaces")


def check_preconditions(kind: ResourceKind, before: Stored, options: DeleteOptions) -> None:
    """Raise StatusError 409 if the object has another uid or resourceVersion than the options, 403 for a protected
    namespace."""
    name, meta = before.address[2], before.object["metadata"]
    if options.uid is not None and options.uid != meta["uid"]:
        why = f"Precondition failed: UID in precondition: {options.uid}, UID in object meta: {meta['uid']}"
        raise errors.conflict(kind.resource, name, why)
    if options.resource_version is not None and options.resource_version != meta["resourceVersion"]:
        why = (
            f"Precondition failed: ResourceVersion in precondition: {options.resource_version},"
            f" ResourceVersion in object meta: {meta['resourceVersion']}"
        )
        raise errors.conflict(kind.resource, name, why)
    if kind is NAMESPACE and name in PROTECTED_NAMESPACES:
        raise errors.forbidden(kind.resource, name, "this namespace may not be deleted")


def finalizers(kind: ResourceKind, meta: Object, options: DeleteOptions) -> list[str]:
    """Return the finalizers of the object once it is being deleted."""
    kept = list(meta.get("finalizers", ()))
    if options.policy is not None and "deletionTimestamp" not in meta:
        kept = [one for one in kept if one not in (FOREGROUND, ORPHAN)]
        if options.policy == "Foreground":
            kept.append(FOREGROUND)
        elif options.policy == "Orphan":
            kept.append(ORPHAN)
    return list(dict.fromkeys([*kept, crd.FINALIZER])) if kind is CRD else kept


def marked_as_deleted(kind: ResourceKind, before: Object, finalizers: list[str], grace_seconds: int) -> Object:
    """Return the object with a deletionTimestamp. It is removed later: when its finalizers are gone, by the pod's
    kubelet, or, for a namespace, by the garbage collector. A second deletion can only shorten the grace period."""
    meta = before["metadata"]
    body = {**before, "metadata": {**meta}}
    changed = body["metadata"]
    if finalizers:
        changed["finalizers"] = finalizers
    else:
        changed.pop("finalizers", None)
    if "deletionTimestamp" not in meta or grace_seconds < meta.get("deletionGracePeriodSeconds", 0):
        moment = datetime.now(UTC) + timedelta(seconds=grace_seconds)
        changed |= {
            "deletionTimestamp": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "deletionGracePeriodSeconds": grace_seconds,
        }
        if "generation" in meta and "deletionTimestamp" not in meta:
            changed["generation"] = meta["generation"] + 1
        if kind is NAMESPACE:
            body["status"] = {"phase": "Terminating"}
    return body


def is_complete(body: Object) -> bool:
    """Return whether the object can be removed: it is being deleted, and has neither finalizers nor a grace period. For
    a namespace this is False: the garbage collector removes it once it is empty."""
    meta = body["metadata"]
    return (
        "deletionTimestamp" in meta
        and not meta.get("finalizers")
        and not meta.get("deletionGracePeriodSeconds")
        and body["kind"] != "Namespace"
    )


def response(kind: ResourceKind, removed: Stored) -> Object:
    """Return the response to a DELETE that removed the object: some kinds return the object, others a Status."""
    if kind.resource in _RETURNS_OBJECT:
        return removed.object
    details = {
        "name": removed.address[2],
        "group": kind.group,
        "kind": kind.plural,
        "uid": removed.object["metadata"]["uid"],
    }
    details = {key: value for key, value in details.items() if value}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
