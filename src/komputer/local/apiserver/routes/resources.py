"""The verbs of every stored resource: get, list, watch, create, update, patch, delete, deletecollection."""

import asyncio
from datetime import timedelta

import orjson
from starlette.responses import Response, StreamingResponse

from komputer.local.apiserver import events, selectors, table
from komputer.local.apiserver.objects import Objects
from komputer.local.apiserver.options import WriteOptions
from komputer.local.apiserver.requests import (
    ResourceRequest,
    Target,
    delete_options,
    is_true,
    read_json,
    read_patch,
    refuse_method,
    wants,
    whole_number,
    write_options,
)
from komputer.local.apiserver.responses import encoded, encoded_list, json_response
from komputer.local.apiserver.routes.list_options import check_list, check_watch, parse_revision, refuse_future
from komputer.local.apiserver.routes.pages import Snapshots
from komputer.local.apiserver.store import Object, ObjectDatabase, Stored
from komputer.local.apiserver.watch import Encode, Watch, follow


class Resources:
    """Handles requests to stored resources, one method per verb."""

    def __init__(self, objects: Objects, stopping: asyncio.Event) -> None:
        self._objects = objects
        self._store: ObjectDatabase = objects.store
        self._stopping = stopping
        self._snapshots = Snapshots()

    async def answer(self, call: ResourceRequest) -> Response:
        """Answer a request by its method and target. Raises StatusError for every refusal."""
        kind, name, method = call.target.kind, call.target.name, call.request.method
        allowed = _allowed(call.target)
        if method not in allowed:
            raise refuse_method(kind, method, list(allowed))
        match allowed[method]:
            case "get":
                return self._object_response(call, self._objects.get(kind, call.target.space, name))
            case "list":
                return self.watch(call) if is_true(call.query, "watch") else self.list_all(call)
            case "create":
                return await self.create(call)
            case "update":
                return await self.update(call)
            case "patch":
                return await self.patch(call)
            case "delete":
                return await self.delete(call)
        return await self.delete_collection(call)

    async def create(self, call: ResourceRequest) -> Response:
        options = write_options(call.query)
        body = await read_json(call.request)
        stored = self._objects.create(call.target.kind, call.target.space, body, options)
        return self._object_response(call, stored, 201, options)

    async def update(self, call: ResourceRequest) -> Response:
        target, options = call.target, write_options(call.query)
        body = await read_json(call.request)
        stored = self._objects.update(target.kind, target.space, target.name, target.subresource, body, options)
        return self._object_response(call, stored, 200, options)

    async def patch(self, call: ResourceRequest) -> Response:
        target, options = call.target, write_options(call.query)
        form, change = await read_patch(call.request)
        stored = self._objects.patch(target.kind, target.space, target.name, target.subresource, form, change, options)
        return self._object_response(call, stored, 200, options)

    async def delete(self, call: ResourceRequest) -> Response:
        options = await delete_options(call.request)
        return json_response(self._objects.delete(call.target.kind, call.target.space, call.target.name, options))

    async def delete_collection(self, call: ResourceRequest) -> Response:
        options = await delete_options(call.request)
        found = self._select(call)
        for stored in found:
            _, namespace, name = stored.address
            if self._store.get(*stored.address):
                self._objects.delete(call.target.kind, namespace, name, options)
        return json_response(encoded_list(call.target.kind, found, {"resourceVersion": str(self._store.revision)}))

    def list_all(self, call: ResourceRequest) -> Response:
        """Return a list, whole or one page of it."""
        check_list(call, self._store.revision)
        limit, token = whole_number(call.query, "limit"), call.query.get("continue", "")
        if token:
            page = self._snapshots.next_page(token, limit)
        else:
            page = self._snapshots.first_page(self._store.revision, self._select(call), limit)
        metadata: Object = {"resourceVersion": str(page.revision)}
        if page.remaining:
            metadata["continue"] = page.token
            # With a selector the real server does not know how many objects are left.
            if not call.query.get("labelSelector") and not call.query.get("fieldSelector"):
                metadata["remainingItemCount"] = page.remaining
        if wants(call.request, "Table"):
            include = call.query.get("includeObject", "Metadata")
            return json_response(
                table.rendered(call.target.kind, [stored.object for stored in page.items], metadata, include)
            )
        return json_response(encoded_list(call.target.kind, page.items, metadata))

    def watch(self, call: ResourceRequest) -> Response:
        """Return a stream of changes."""
        kind, query = call.target.kind, call.query
        check_watch(call)
        text = query.get("resourceVersion", "")
        revision = None if text in ("", "0") else parse_revision(text)
        refuse_future(revision or 0, self._store.revision)
        stored_kind = events.stored_as(kind)
        seconds = whole_number(query, "timeoutSeconds")
        watched = Watch(
            stored_kind.resource,
            call.target.namespace,
            self._selector(call),
            revision,
            {"kind": kind.kind, "apiVersion": kind.api_version} if is_true(query, "allowWatchBookmarks") else None,
            timedelta(seconds=seconds) if seconds else None,
        )
        history = self._store.history(stored_kind.resource)
        lines = follow(watched, self._store, history, self._encoder(call), self._stopping)
        return StreamingResponse(lines, media_type="application/json")

    def _select(self, call: ResourceRequest) -> list[Stored]:
        found = self._store.all(events.stored_as(call.target.kind).resource, call.target.namespace)
        selector = self._selector(call)
        return [stored for stored in found if selector(stored.object)] if selector else found

    def _selector(self, call: ResourceRequest) -> selectors.Selector | None:
        resource = call.target.kind.resource
        by_label = selectors.labels(call.query.get("labelSelector", ""))
        return selectors.both(by_label, selectors.fields(call.query.get("fieldSelector", ""), resource))

    def _encoder(self, call: ResourceRequest) -> Encode:
        kind = call.target.kind
        if not wants(call.request, "Table"):
            return lambda stored: encoded(kind, stored)
        include = call.query.get("includeObject", "Metadata")
        has_header: list[bool] = []

        def encode(stored: Stored) -> bytes:
            meta = {"resourceVersion": str(stored.revision)}
            rows = table.rendered(kind, [stored.object], meta, include, header=not has_header)
            has_header.append(True)
            return orjson.dumps(rows)

        return encode

    def _object_response(
        self, call: ResourceRequest, stored: Stored, code: int = 200, options: WriteOptions | None = None
    ) -> Response:
        warnings = options.warnings if options else None
        if wants(call.request, "Table"):
            meta = {"resourceVersion": stored.object["metadata"].get("resourceVersion", "")}
            include = call.query.get("includeObject", "Metadata")
            quoted = events.to_served(call.target.kind, stored.object)
            return json_response(table.rendered(call.target.kind, [quoted], meta, include), code, warnings)
        return json_response(encoded(call.target.kind, stored), code, warnings)


_VERBS = {
    ("GET", True): "get",
    ("GET", False): "list",
    ("POST", False): "create",
    ("PUT", True): "update",
    ("PATCH", True): "patch",
    ("DELETE", True): "delete",
    ("DELETE", False): "deletecollection",
}


def _allowed(target: Target) -> dict[str, str]:
    """Return the verb of each method that the path has."""
    is_everywhere = target.kind.namespaced and target.namespace is None
    return {
        method: verb
        for (method, is_named), verb in _VERBS.items()
        if is_named is bool(target.name)
        and verb in target.kind.verbs
        and not (target.subresource and verb not in ("get", "update", "patch"))
        and not (is_everywhere and verb == "create")
    }
