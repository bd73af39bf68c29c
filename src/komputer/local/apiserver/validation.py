"""The checks of one object in a write: types, unknown fields, metadata, schema, preconditions. Pure."""

import copy
from typing import Any

from komputer.local.apiserver import crd, errors, metadata, strategies
from komputer.local.apiserver.builtin_schema import schema_of
from komputer.local.apiserver.errors import FieldError, bad_request
from komputer.local.apiserver.kinds import CRD, NAMESPACE, ResourceKind
from komputer.local.apiserver.options import WriteOptions
from komputer.local.apiserver.schema import conform
from komputer.local.apiserver.schema import faults as schema_faults
from komputer.local.apiserver.store import Object, Stored

_REQUIRES_RESOURCE_VERSION = ("leases.coordination.k8s.io", "customresourcedefinitions.apiextensions.k8s.io")
"""Built-in resources whose PUT must name a resourceVersion. The others accept an unconditional update."""


def decode(kind: ResourceKind, body: Any, options: WriteOptions) -> Object:
    """Return a new object with checked types, the defaults of its schema and no unknown fields. Raises StatusError 400.

    Unknown fields are dropped, dropped with a warning, or refused, as `options.field_validation` says."""
    if not isinstance(body, dict):
        raise bad_request("the object provided is unrecognized (must be of type Object)")
    api_version, name = body.get("apiVersion", kind.api_version), body.get("kind", kind.kind)
    if (api_version, name) != (kind.api_version, kind.kind):
        raise bad_request(
            f"{name} in version {api_version!r} cannot be handled as a {kind.kind}: the API version in the data"
            f" ({api_version}, Kind={name}) does not match the expected API version ({kind.api_version},"
            f" Kind={kind.kind})"
        )
    meta, unknown = metadata.decoded(body)
    schema = kind.schema if kind.custom else schema_of(kind)
    result: Object = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta}
    conformed = conform(body, schema, unknown)
    result |= {key: value for key, value in conformed.items() if key not in result}
    if unknown and options.field_validation == "Strict":
        listed = ", ".join(f'unknown field "{path}"' for path in unknown)
        raise bad_request(f"strict decoding error: {listed}")
    if options.field_validation == "Warn":
        options.warnings.extend(f'unknown field "{path}"' for path in unknown)
    if not kind.custom:
        wrong = [fault for fault in schema_faults(result, schema) if fault.reason == "FieldValueTypeInvalid"]
        wrong = wrong or strategies.undecodable(kind.resource, result)
        if wrong:
            raise bad_request(
                f"{kind.kind} in version {kind.version!r} cannot be handled: {wrong[0].field}: {wrong[0].message}"
            )
    return result


def check_namespace(kind: ResourceKind, namespace: str, meta: Object) -> None:
    """Set the namespace of the request in `meta`; refuse an object with another one. The namespace of a cluster-scoped
    object is removed."""
    if not kind.namespaced:
        meta.pop("namespace", None)
        return
    if meta.setdefault("namespace", namespace) != namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")


def validate(kind: ResourceKind, body: Object, before: Object | None) -> None:
    """Raise StatusError 422 with every fault of the object. `before` is the stored object in an update."""
    found = metadata.faults(body["metadata"], name_as_label=kind is NAMESPACE)
    if kind.custom:
        found += schema_faults(body, kind.schema)
        if found and before:
            # Ratcheting: a fault that the stored object has too is accepted. Otherwise existing objects could not be
            # updated after the schema has become stricter.
            known = schema_faults(before, kind.schema)
            found = [fault for fault in found if fault not in known]
    else:
        missing = [fault for fault in schema_faults(body, schema_of(kind)) if not fault.field.startswith("metadata")]
        found = list(dict.fromkeys([*found, *missing, *strategies.faults(kind.resource, body, before)]))
    if not found and kind is CRD:
        found += crd.faults(body)
    if found:
        raise invalid(kind, body["metadata"].get("name", ""), found)


def invalid(kind: ResourceKind, name: str, found: list[FieldError]) -> errors.StatusError:
    """Return the StatusError 422 with the faults of an object of `kind`."""
    return errors.invalid(kind.kind, kind.group, name, found)


def check_preconditions(kind: ResourceKind, meta: Object, before: Stored, is_patch: bool) -> None:
    """Raise StatusError 409 or 422 unless the uid and resourceVersion of `meta` are those of the stored object.

    This is the optimistic locking of Kubernetes: a client whose write is based on an older version than the stored one
    must read the object again. A patch without a resourceVersion applies to any stored version."""
    old, name = before.object["metadata"], before.address[2]
    if meta.get("uid", old["uid"]) != old["uid"]:
        if is_patch:
            found = [errors.invalid_value("metadata.uid", meta["uid"], "field is immutable")]
            raise invalid(kind, name, found)
        why = f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {old['uid']}"
        raise errors.conflict(kind.resource, name, why)
    expected = meta.get("resourceVersion")
    if expected is None and not is_patch and (kind.custom or kind.resource in _REQUIRES_RESOURCE_VERSION):
        found = [errors.invalid_value("metadata.resourceVersion", 0, "must be specified for an update")]
        raise invalid(kind, name, found)
    if expected is not None and expected != old["resourceVersion"]:
        if not expected.isdecimal():
            found = [errors.invalid_value("metadata.resourceVersion", expected, "must be a number")]
            raise invalid(kind, name, found)
        raise errors.conflict(kind.resource, name, errors.STALE)


def check_new_finalizers(kind: ResourceKind, meta: Object, old: Object) -> None:
    """Raise StatusError 422 if an object that is being deleted gets another finalizer."""
    if "deletionTimestamp" in old and (new := set(meta.get("finalizers", ())) - set(old.get("finalizers", ()))):
        text = f"no new finalizers can be added if the object is being deleted, found new finalizers {sorted(new)}"
        raise invalid(kind, old["name"], [errors.forbidden_field("metadata.finalizers", text)])


def restrict_to_subresource(kind: ResourceKind, subresource: str, body: Object, before: Object) -> Object:
    """Return the object to store: a write to `/status` changes the status only, any other write everything else."""
    if not kind.has_status:
        return body
    if not subresource:
        body.pop("status", None)
        return {**body, "status": before["status"]} if "status" in before else body
    if kind.custom:
        body["metadata"] = {**before["metadata"]}
    else:
        body["metadata"].pop("ownerReferences", None)
        if "ownerReferences" in before["metadata"]:
            body["metadata"]["ownerReferences"] = before["metadata"]["ownerReferences"]
    rest = {key: value for key, value in before.items() if key not in ("metadata", "status")}
    status = {"status": body["status"]} if "status" in body else {}
    return {**copy.deepcopy(rest), "metadata": body["metadata"], **status}


def changes_generation(kind: ResourceKind, body: Object, before: Object) -> bool:
    """Return whether the write changes more than metadata and status, and so increments `metadata.generation`."""
    return _spec(kind, body) != _spec(kind, before)


def _spec(kind: ResourceKind, body: Object) -> Object:
    excluded = ("metadata", "status") if kind.has_status else ("metadata",)
    return {key: value for key, value in body.items() if key not in excluded}
