"""Create, update, delete: the rules that every object goes through before the store."""

import copy
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from komputer.local.apiserver import crd, errors, events, metadata, patch, strategies
from komputer.local.apiserver.builtin_schema import MERGE_KEYS, schema_of
from komputer.local.apiserver.errors import FieldError, bad_request
from komputer.local.apiserver.kinds import CRD, NAMESPACE, SERVICE_ACCOUNT, Registry, ResourceKind
from komputer.local.apiserver.schema import conform
from komputer.local.apiserver.schema import faults as schema_faults
from komputer.local.apiserver.store import Object, ObjectDatabase, Stored

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
_UNCONDITIONAL_UPDATE_REFUSED = ("leases.coordination.k8s.io", "customresourcedefinitions.apiextensions.k8s.io")
_RETURNED_WHEN_DELETED = ("pods", "persistentvolumeclaims", "serviceaccounts", "namespaces")


Policy = Literal["Background", "Foreground", "Orphan"]


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """What a write's query says; `warnings` collects texts for the answer's `Warning` headers."""

    dry_run: bool = False
    field_validation: Literal["Ignore", "Warn", "Strict"] = "Warn"
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """A DeleteOptions body. `policy` None means the object's own finalizers decide, else Background."""

    grace_seconds: int | None = None
    policy: Policy | None = None
    uid: str | None = None
    resource_version: str | None = None
    dry_run: bool = False


def now() -> str:
    """The time as metadata has it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Objects:
    """Writes to the store by the rules of the API; reads go to the store itself."""

    def __init__(self, store: ObjectDatabase, registry: Registry) -> None:
        self.store = store
        self.registry = registry

    def get(self, kind: ResourceKind, namespace: str, name: str) -> Stored:
        """ApiError 404 when there is none."""
        stored = self.store.get(events.stored_as(kind).resource, namespace, name)
        if stored is None:
            raise errors.not_found(kind.resource, name)
        return stored

    def create(self, kind: ResourceKind, namespace: str, body: Any, options: WriteOptions) -> Stored:
        """The new object. ApiError 400, 403, 409 or 422."""
        body = self._decoded(kind, body, options)
        meta = body["metadata"]
        if meta.pop("resourceVersion", None):
            raise bad_request("resourceVersion should not be set on objects to be created")
        self._match_namespace(kind, namespace, meta)
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = metadata.generated_name(meta["generateName"])
        for key in ("deletionTimestamp", "deletionGracePeriodSeconds", "generation"):
            meta.pop(key, None)
        meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
        if kind.has_status:
            body.pop("status", None)
        if kind.custom or kind is CRD:
            meta["generation"] = 1
        body, kind = events.to_stored(kind, body), events.stored_as(kind)
        strategies.prepare(kind.resource, body, None, meta["creationTimestamp"])
        if kind is CRD:
            body = crd.with_defaults(body)
        self._validate(kind, body, None)
        if kind is CRD:
            self._accept_definition(body, None, options)
        if kind.is_terminating:
            raise errors.not_allowed("create not allowed while custom resource definition is terminating")
        if kind.namespaced:
            self._enter_namespace(kind, namespace, meta["name"], options)
        if kind.resource == "pods":
            self._admit_pod(namespace, body)
        if self.store.get(kind.resource, namespace, meta["name"]):
            raise errors.already_exists(kind.resource, meta["name"])
        stored = self._put(kind, body, options)
        if kind is NAMESPACE and not options.dry_run:
            self.create(SERVICE_ACCOUNT, meta["name"], {"metadata": {"name": "default"}}, WriteOptions())
        return stored

    def patch(
        self,
        kind: ResourceKind,
        namespace: str,
        name: str,
        subresource: str,
        form: str,
        change: Any,
        options: WriteOptions,
    ) -> Stored:
        """Apply a patch of `form` (json, merge or strategic) to the object as it is now."""
        before = self.get(kind, namespace, name)
        shown = events.to_served(kind, before.object)
        if form == "json":
            body = patch.json_patch(shown, change)
        elif not isinstance(change, dict):
            raise bad_request("error decoding patch: a patch must be an object")
        elif form == "merge":
            body = patch.merge_patch(shown, change)
        elif kind.custom:
            raise errors.unsupported_media(
                "the body of the request was in an unknown format - accepted media types include:"
                " application/json-patch+json, application/merge-patch+json"
            )
        else:
            body = patch.strategic_merge_patch(shown, change, {} if kind is CRD else MERGE_KEYS)
        return self.update(kind, namespace, name, subresource, body, options, is_patch=True)

    def update(
        self,
        kind: ResourceKind,
        namespace: str,
        name: str,
        subresource: str,
        body: Any,
        options: WriteOptions,
        *,
        is_patch: bool = False,
    ) -> Stored:
        """Replace the object, or its status; what is equal is not written. ApiError 400, 404, 409 or 422."""
        before = self.get(kind, namespace, name)
        if is_patch and isinstance(body, dict) and isinstance(body.get("metadata"), dict):
            body = {**body, "metadata": {**body["metadata"]}}
        body = self._decoded(kind, body, options)
        body = events.to_stored(kind, body)
        meta, old = body["metadata"], before.object["metadata"]
        if meta.get("name") != name:
            raise bad_request(
                f"the name of the object ({meta.get('name', '')}) does not match the name on the URL ({name})"
            )
        self._match_namespace(kind, namespace, meta)
        stored_kind = events.stored_as(kind)
        self._check_preconditions(stored_kind, meta, before, is_patch)
        for key in (
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "generation",
            "uid",
            "generateName",
        ):
            meta.pop(key, None)
            if key in old:
                meta[key] = old[key]
        body = self._isolated(stored_kind, subresource, body, before.object)
        meta = body["metadata"]
        strategies.prepare(stored_kind.resource, body, before.object, now())
        if kind is CRD:
            body = crd.with_defaults(body)
        self._validate(stored_kind, body, before.object)
        if "deletionTimestamp" in old and (new := set(meta.get("finalizers", ())) - set(old.get("finalizers", ()))):
            words = f"no new finalizers can be added if the object is being deleted, found new finalizers {sorted(new)}"
            raise self._invalid(kind, name, [errors.forbidden_field("metadata.finalizers", words)])
        if kind is CRD and not subresource:
            self._accept_definition(body, before.object, options)
        if "generation" in old and _content(body, stored_kind) != _content(before.object, stored_kind):
            meta["generation"] = old["generation"] + 1
        meta["resourceVersion"] = old["resourceVersion"]
        if patch.is_same(body, before.object):
            return before
        if self._is_gone(body) and not options.dry_run:
            return self.store.remove(before, body)
        return self._put(stored_kind, body, options)

    def delete(self, kind: ResourceKind, namespace: str, name: str, options: DeleteOptions) -> Object:
        """What DELETE answers: the object while it lives on, or what its kind says goes back when it is gone."""
        before = self.get(kind, namespace, name)
        kind = events.stored_as(kind)
        meta = before.object["metadata"]
        self._check_deletion(kind, before, options)
        finalizers = self._finalizers_of_deletion(meta, options)
        if kind is NAMESPACE:
            finalizers_left = True
        elif kind is CRD:
            finalizers = list(dict.fromkeys([*finalizers, crd.FINALIZER]))
            finalizers_left = True
        else:
            finalizers_left = bool(finalizers)
        grace = strategies.deletion_grace_seconds(kind.resource, before.object, options.grace_seconds)
        if "deletionTimestamp" in meta:
            grace = min(grace, meta.get("deletionGracePeriodSeconds", 0))
        if not finalizers_left and grace == 0:
            gone = before if options.dry_run else self.store.remove(before)
            return gone.object if kind.resource in _RETURNED_WHEN_DELETED else self._deleted_status(kind, before)
        body = {**before.object, "metadata": {**meta}}
        changed = body["metadata"]
        if finalizers:
            changed["finalizers"] = finalizers
        else:
            changed.pop("finalizers", None)
        if "deletionTimestamp" not in meta or grace < meta.get("deletionGracePeriodSeconds", 0):
            moment = datetime.now(UTC) + timedelta(seconds=grace)
            changed |= {"deletionTimestamp": moment.strftime("%Y-%m-%dT%H:%M:%SZ"), "deletionGracePeriodSeconds": grace}
            if "generation" in meta and "deletionTimestamp" not in meta:
                changed["generation"] = meta["generation"] + 1
            if kind is NAMESPACE:
                body["status"] = {"phase": "Terminating"}
        if body == before.object:
            return before.object
        return self._put(kind, body, WriteOptions(dry_run=options.dry_run)).object

    def _check_deletion(self, kind: ResourceKind, before: Stored, options: DeleteOptions) -> None:
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
        if kind is NAMESPACE and name in ("default", "kube-system"):
            raise errors.forbidden(kind.resource, name, "this namespace may not be deleted")

    def _finalizers_of_deletion(self, meta: Object, options: DeleteOptions) -> list[str]:
        kept = list(meta.get("finalizers", ()))
        if options.policy is None or "deletionTimestamp" in meta:
            return kept
        kept = [one for one in kept if one not in (FOREGROUND, ORPHAN)]
        if options.policy == "Foreground":
            return [*kept, FOREGROUND]
        return [*kept, ORPHAN] if options.policy == "Orphan" else kept

    def _deleted_status(self, kind: ResourceKind, before: Stored) -> Object:
        details = {
            "name": before.address[2],
            "group": kind.group,
            "kind": kind.plural,
            "uid": before.object["metadata"]["uid"],
        }
        details = {key: value for key, value in details.items() if value}
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}

    def _decoded(self, kind: ResourceKind, body: Any, options: WriteOptions) -> Object:
        """A new object with checked types, without unknown fields, and with the defaults of its schema."""
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

    def _match_namespace(self, kind: ResourceKind, namespace: str, meta: Object) -> None:
        if not kind.namespaced:
            meta.pop("namespace", None)
            return
        if meta.setdefault("namespace", namespace) != namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")

    def _validate(self, kind: ResourceKind, body: Object, before: Object | None) -> None:
        found = metadata.faults(body["metadata"], name_as_label=kind is NAMESPACE)
        if kind.custom:
            found += schema_faults(body, kind.schema)
            if found and before:
                # A change is not refused for what was wrong already, so that a stricter schema locks nobody out.
                known = schema_faults(before, kind.schema)
                found = [fault for fault in found if fault not in known]
        else:
            missing = [
                fault for fault in schema_faults(body, schema_of(kind)) if not fault.field.startswith("metadata")
            ]
            found = list(dict.fromkeys([*found, *missing, *strategies.faults(kind.resource, body, before)]))
        if not found and kind is CRD:
            found += crd.faults(body)
        if found:
            raise self._invalid(kind, body["metadata"].get("name", ""), found)

    def _invalid(self, kind: ResourceKind, name: str, found: list[FieldError]) -> errors.StatusError:
        return errors.invalid(kind.kind, kind.group, name, found)

    def _check_preconditions(self, kind: ResourceKind, meta: Object, before: Stored, is_patch: bool) -> None:
        old, name = before.object["metadata"], before.address[2]
        if meta.get("uid", old["uid"]) != old["uid"]:
            if is_patch:
                found = [errors.invalid_value("metadata.uid", meta["uid"], "field is immutable")]
                raise self._invalid(kind, name, found)
            why = f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {old['uid']}"
            raise errors.conflict(kind.resource, name, why)
        asked = meta.get("resourceVersion")
        if asked is None and not is_patch and (kind.custom or kind.resource in _UNCONDITIONAL_UPDATE_REFUSED):
            found = [errors.invalid_value("metadata.resourceVersion", 0, "must be specified for an update")]
            raise self._invalid(kind, name, found)
        if asked is not None and asked != old["resourceVersion"]:
            if not asked.isdecimal():
                found = [errors.invalid_value("metadata.resourceVersion", asked, "must be a number")]
                raise self._invalid(kind, name, found)
            raise errors.conflict(kind.resource, name, errors.STALE)

    def _isolated(self, kind: ResourceKind, subresource: str, body: Object, before: Object) -> Object:
        """The status from a write of the status, everything else from a write of the rest."""
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

    def _put(self, kind: ResourceKind, body: Object, options: WriteOptions) -> Stored:
        if options.dry_run:
            address = (kind.resource, body["metadata"].get("namespace", ""), body["metadata"]["name"])
            return Stored(address, self.store.revision, body, b"")
        return self.store.put(kind.resource, body)

    def _is_gone(self, body: Object) -> bool:
        meta = body["metadata"]
        return (
            "deletionTimestamp" in meta
            and not meta.get("finalizers")
            and not meta.get("deletionGracePeriodSeconds")
            and body["kind"] != "Namespace"
        )

    def _enter_namespace(self, kind: ResourceKind, namespace: str, name: str, options: WriteOptions) -> None:
        """Make the namespace on first use; refuse one that is being deleted."""
        found = self.store.get(NAMESPACE.resource, "", namespace)
        if found is None:
            self.make_namespace(namespace, options)
        elif "deletionTimestamp" in found.object["metadata"]:
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            cause = {
                "reason": "NamespaceTerminating",
                "message": f"namespace {namespace} is being terminated",
                "field": "metadata.namespace",
            }
            raise errors.forbidden(kind.resource, name, why, [cause])

    def make_namespace(self, namespace: str, options: WriteOptions | None = None) -> None:
        """The namespace and its `default` ServiceAccount; ApiError 422 for an impossible name."""
        options = options or WriteOptions()
        self.create(NAMESPACE, "", {"metadata": {"name": namespace}}, WriteOptions(dry_run=options.dry_run))

    def _admit_pod(self, namespace: str, body: Object) -> None:
        account = body["spec"]["serviceAccountName"]
        if account != "default" and not self.store.get(SERVICE_ACCOUNT.resource, namespace, account):
            why = f'error looking up service account {namespace}/{account}: serviceaccount "{account}" not found'
            raise errors.forbidden("pods", body["metadata"]["name"], why)

    def _accept_definition(self, body: Object, before: Object | None, options: WriteOptions) -> None:
        if before is not None and "deletionTimestamp" in before["metadata"]:
            return
        kind = crd.defined_kind(body)
        others = (one for one in self.registry if one.resource != kind.resource)
        if before is None and (clash := next((one for one in others if _clashes(one, kind)), None)):
            found = [errors.invalid_value("spec.names.kind", kind.kind, f"is already in use by {clash.resource}")]
            raise self._invalid(CRD, body["metadata"]["name"], found)
        body["status"] = crd.accepted_status(body, now(), (before or {}).get("status") or {})
        if crd.rules_not_evaluated(body):
            options.warnings.append("x-kubernetes-validations (CEL) are kept but not evaluated by the local API server")

    def serve_definition(self, definition: Object) -> None:
        """Serve what a stored CustomResourceDefinition defines, with the defaults of its schema on what is stored."""
        kind = crd.defined_kind(definition)
        if kind == self.registry.of_resource(kind.resource):
            return
        self.registry.add(kind)
        self.store.history(kind.resource)

        def served(body: Object) -> Object:
            return {**conform(body, kind.schema), "apiVersion": kind.api_version}

        self.store.rewrite(kind.resource, served)


def _clashes(one: ResourceKind, other: ResourceKind) -> bool:
    return one.group == other.group and (one.kind == other.kind or one.plural == other.plural)


def _content(body: Object, kind: ResourceKind) -> Object:
    """What moves the generation when it changes."""
    left_out = ("metadata", "status") if kind.has_status else ("metadata",)
    return {key: value for key, value in body.items() if key not in left_out}
