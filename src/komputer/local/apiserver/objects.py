"""Create, update, patch and delete: the steps of every write before the store."""

import uuid
from datetime import UTC, datetime
from typing import Any

from komputer.local.apiserver import crd, deletion, errors, events, metadata, patch, strategies, validation
from komputer.local.apiserver.builtin_schema import MERGE_KEYS
from komputer.local.apiserver.errors import bad_request
from komputer.local.apiserver.kinds import CRD, NAMESPACE, SERVICE_ACCOUNT, Registry, ResourceKind
from komputer.local.apiserver.options import DeleteOptions, WriteOptions
from komputer.local.apiserver.schema import conform
from komputer.local.apiserver.store import Object, ObjectDatabase, Stored

_SERVER_FIELDS = (
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "uid",
    "generateName",
)
"""Metadata that an update cannot change: the stored values are kept."""


def now() -> str:
    """Return the current time as it appears in metadata."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Objects:
    """Writes to the store by the rules of the API. Lists are read from the store directly."""

    def __init__(self, store: ObjectDatabase, registry: Registry) -> None:
        self.store = store
        self.registry = registry

    def get(self, kind: ResourceKind, namespace: str, name: str) -> Stored:
        """Return a stored object. Raises StatusError 404."""
        stored = self.store.get(events.stored_as(kind).resource, namespace, name)
        if stored is None:
            raise errors.not_found(kind.resource, name)
        return stored

    def create(self, kind: ResourceKind, namespace: str, body: Any, options: WriteOptions) -> Stored:
        """Create an object and return it. Raises StatusError 400, 403, 405, 409 or 422."""
        body = validation.decode(kind, body, options)
        meta = body["metadata"]
        if meta.pop("resourceVersion", None):
            raise bad_request("resourceVersion should not be set on objects to be created")
        validation.check_namespace(kind, namespace, meta)
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = metadata.generated_name(meta["generateName"])
        for key in ("deletionTimestamp", "deletionGracePeriodSeconds", "generation"):
            meta.pop(key, None)
        meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
        if kind.has_status:
            body.pop("status", None)
        # Of the built-in kinds served here, only definitions have a generation (Kubernetes 1.33).
        if kind.custom or kind is CRD:
            meta["generation"] = 1
        # From here on the object has its stored form: both Event APIs share one resource.
        body, kind = events.to_stored(kind, body), events.stored_as(kind)
        strategies.prepare(kind.resource, body, None, meta["creationTimestamp"])
        if kind is CRD:
            body = crd.with_defaults(body)
        validation.validate(kind, body, None)
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
        """Apply a patch of type `form` (json, merge or strategic) to the current object."""
        before = self.get(kind, namespace, name)
        quoted = events.to_served(kind, before.object)
        if form == "json":
            body = patch.json_patch(quoted, change)
        elif not isinstance(change, dict):
            raise bad_request("error decoding patch: a patch must be an object")
        elif form == "merge":
            body = patch.merge_patch(quoted, change)
        elif kind.custom:
            raise errors.unsupported_media(
                "the body of the request was in an unknown format - accepted media types include:"
                " application/json-patch+json, application/merge-patch+json"
            )
        else:
            body = patch.strategic_merge_patch(quoted, change, {} if kind is CRD else MERGE_KEYS)
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
        """Replace the object, or its status, and return it. An equal object is not written. Raises StatusError 400,
        404, 409 or 422."""
        before = self.get(kind, namespace, name)
        if is_patch and isinstance(body, dict) and isinstance(body.get("metadata"), dict):
            body = {**body, "metadata": {**body["metadata"]}}
        body = validation.decode(kind, body, options)
        body = events.to_stored(kind, body)
        meta, old = body["metadata"], before.object["metadata"]
        if meta.get("name") != name:
            raise bad_request(
                f"the name of the object ({meta.get('name', '')}) does not match the name on the URL ({name})"
            )
        validation.check_namespace(kind, namespace, meta)
        stored_kind = events.stored_as(kind)
        validation.check_preconditions(stored_kind, meta, before, is_patch)
        for key in _SERVER_FIELDS:
            meta.pop(key, None)
            if key in old:
                meta[key] = old[key]
        body = validation.restrict_to_subresource(stored_kind, subresource, body, before.object)
        meta = body["metadata"]
        strategies.prepare(stored_kind.resource, body, before.object, now())
        if kind is CRD:
            body = crd.with_defaults(body)
        validation.validate(stored_kind, body, before.object)
        validation.check_new_finalizers(kind, meta, old)
        if kind is CRD and not subresource:
            self._accept_definition(body, before.object, options)
        if "generation" in old and validation.changes_generation(stored_kind, body, before.object):
            meta["generation"] = old["generation"] + 1
        # With the stored version, an unchanged object compares equal and is not written.
        meta["resourceVersion"] = old["resourceVersion"]
        if patch.is_same(body, before.object):
            return before
        if deletion.is_complete(body) and not options.dry_run:
            return self.store.remove(before, body)
        return self._put(stored_kind, body, options)

    def delete(self, kind: ResourceKind, namespace: str, name: str, options: DeleteOptions) -> Object:
        """Delete the object, or mark it as being deleted, and return the body of the response. Raises StatusError 403,
        404 or 409.

        The object is removed at once unless it has finalizers, a pod's grace period or, as a namespace, contents. In
        these cases it gets a deletionTimestamp, and is removed when the last of them has been removed."""
        before = self.get(kind, namespace, name)
        kind = events.stored_as(kind)
        meta = before.object["metadata"]
        deletion.check_preconditions(kind, before, options)
        finalizers = deletion.finalizers(kind, meta, options)
        grace = strategies.deletion_grace_seconds(kind.resource, before.object, options.grace_seconds)
        if "deletionTimestamp" in meta:
            grace = min(grace, meta.get("deletionGracePeriodSeconds", 0))
        if not finalizers and grace == 0 and kind is not NAMESPACE:
            removed = before if options.dry_run else self.store.remove(before)
            return deletion.response(kind, removed)
        body = deletion.marked_as_deleted(kind, before.object, finalizers, grace)
        if body == before.object:
            return before.object
        return self._put(kind, body, WriteOptions(dry_run=options.dry_run)).object

    def _put(self, kind: ResourceKind, body: Object, options: WriteOptions) -> Stored:
        if options.dry_run:
            address = (kind.resource, body["metadata"].get("namespace", ""), body["metadata"]["name"])
            return Stored(address, self.store.revision, body, b"")
        return self.store.put(kind.resource, body)

    def _enter_namespace(self, kind: ResourceKind, namespace: str, name: str, options: WriteOptions) -> None:
        """Create the namespace on first use. Raises StatusError 403 for one that is being deleted."""
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
        """Create a namespace with its `default` ServiceAccount. Raises StatusError 422 for an invalid name."""
        options = options or WriteOptions()
        self.create(NAMESPACE, "", {"metadata": {"name": namespace}}, WriteOptions(dry_run=options.dry_run))

    def _admit_pod(self, namespace: str, body: Object) -> None:
        """Refuse a pod whose ServiceAccount does not exist, as the admission plugin ServiceAccount does."""
        account = body["spec"]["serviceAccountName"]
        if account != "default" and not self.store.get(SERVICE_ACCOUNT.resource, namespace, account):
            why = f'error looking up service account {namespace}/{account}: serviceaccount "{account}" not found'
            raise errors.forbidden("pods", body["metadata"]["name"], why)

    def _accept_definition(self, body: Object, before: Object | None, options: WriteOptions) -> None:
        """Refuse a definition with names that another one uses. Otherwise set the status of a served definition."""
        if before is not None and "deletionTimestamp" in before["metadata"]:
            return
        kind = crd.defined_kind(body)
        others = (one for one in self.registry if one.resource != kind.resource)
        if before is None and (clash := next((one for one in others if _clashes(one, kind)), None)):
            found = [errors.invalid_value("spec.names.kind", kind.kind, f"is already in use by {clash.resource}")]
            raise validation.invalid(CRD, body["metadata"]["name"], found)
        body["status"] = crd.accepted_status(body, now(), (before or {}).get("status") or {})
        if crd.rules_not_evaluated(body):
            options.warnings.append("x-kubernetes-validations (CEL) are kept but not evaluated by the local API server")

    def serve_definition(self, definition: Object) -> None:
        """Serve the kind of a stored definition, and apply the defaults of its schema to the stored objects."""
        kind = crd.defined_kind(definition)
        if kind == self.registry.by_resource(kind.resource):
            return
        self.registry.add(kind)
        self.store.history(kind.resource)

        def served(body: Object) -> Object:
            return {**conform(body, kind.schema), "apiVersion": kind.api_version}

        self.store.rewrite(kind.resource, served)


def _clashes(one: ResourceKind, other: ResourceKind) -> bool:
    return one.group == other.group and (one.kind == other.kind or one.plural == other.plural)
