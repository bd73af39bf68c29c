"""get, list, watch, create, update, patch, delete of any stored resource."""

import asyncio
import base64
import binascii
from collections import OrderedDict
from datetime import timedelta
from typing import Any

import orjson
from starlette.responses import Response, StreamingResponse

from komputer.local.apiserver import events, selectors, table
from komputer.local.apiserver.errors import FieldError, StatusError, bad_request, expired, forbidden_field, invalid
from komputer.local.apiserver.kinds import ResourceKind
from komputer.local.apiserver.objects import Objects, WriteOptions
from komputer.local.apiserver.requests import (
    Call,
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
from komputer.local.apiserver.store import Object, ObjectDatabase, Stored
from komputer.local.apiserver.watch import Encode, Watch, follow

SNAPSHOTS_KEPT = 100
"""How many lists may be in the middle of being read page by page; a guess. The oldest is then answered 410."""


def json_response(body: Any, code: int = 200, warnings: list[str] | None = None) -> Response:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    response = Response(raw, code, media_type="application/json")
    for warning in warnings or ():
        text = warning.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.append("Warning", f'299 - "{_quotable(text)}"')
    return response


class Resources:
    """The verbs over the store. Lists that are read in pages keep their snapshot here until the last page."""

    def __init__(self, objects: Objects, bookmark_interval: timedelta, stopping: asyncio.Event) -> None:
        self._objects = objects
        self._store: ObjectDatabase = objects.store
        self._bookmark_interval = bookmark_interval
        self._stopping = stopping
        self._snapshots: OrderedDict[str, tuple[int, list[Stored]]] = OrderedDict()

    async def answer(self, call: Call) -> Response:
        """Whatever the method and the target say; ApiError for everything that is refused."""
        kind, name, method = call.target.kind, call.target.name, call.request.method
        allowed = _allowed(call.target)
        if method not in allowed:
            raise refuse_method(kind, method, list(allowed))
        match allowed[method]:
            case "get":
                return self._shown(call, self._objects.get(kind, call.target.space, name))
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

    async def create(self, call: Call) -> Response:
        options = write_options(call.query)
        body = await read_json(call.request)
        stored = self._objects.create(call.target.kind, call.target.space, body, options)
        return self._shown(call, stored, 201, options)

    async def update(self, call: Call) -> Response:
        target, options = call.target, write_options(call.query)
        body = await read_json(call.request)
        stored = self._objects.update(target.kind, target.space, target.name, target.subresource, body, options)
        return self._shown(call, stored, 200, options)

    async def patch(self, call: Call) -> Response:
        target, options = call.target, write_options(call.query)
        form, change = await read_patch(call.request)
        stored = self._objects.patch(target.kind, target.space, target.name, target.subresource, form, change, options)
        return self._shown(call, stored, 200, options)

    async def delete(self, call: Call) -> Response:
        options = await delete_options(call.request)
        return json_response(self._objects.delete(call.target.kind, call.target.space, call.target.name, options))

    async def delete_collection(self, call: Call) -> Response:
        options = await delete_options(call.request)
        found = self._select(call)
        for stored in found:
            _, namespace, name = stored.address
            if self._store.get(*stored.address):
                self._objects.delete(call.target.kind, namespace, name, options)
        return json_response(self._list_body(call.target.kind, self._store.revision, found))

    def list_all(self, call: Call) -> Response:
        """A list, whole or page by page."""
        _check_revision(call, self._store.revision)
        limit, token = whole_number(call.query, "limit"), call.query.get("continue", "")
        if token:
            revision, place, found = self._continued(token)
        else:
            revision, place, found = self._store.revision, 0, self._select(call)
        page = found[place : place + limit] if limit else found[place:]
        left = len(found) - place - len(page)
        metadata: Object = {"resourceVersion": str(revision)}
        if left:
            metadata["continue"] = self._continue_token(token, revision, place + len(page), found)
            if not call.query.get("labelSelector") and not call.query.get("fieldSelector"):
                metadata["remainingItemCount"] = left
        if wants(call.request, "Table"):
            include = call.query.get("includeObject", "Metadata")
            return json_response(table.rendered(call.target.kind, [one.object for one in page], metadata, include))
        return json_response(self._list_body(call.target.kind, revision, page, metadata))

    def watch(self, call: Call) -> Response:
        """A stream of changes."""
        kind, query = call.target.kind, call.query
        _check_watch(kind, call)
        text = query.get("resourceVersion", "")
        revision = None if text in ("", "0") else _revision(text)
        _refuse_future(revision or 0, self._store.revision)
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
        lines = follow(watched, self._store, history, self._encoder(call), self._bookmark_interval, self._stopping)
        return StreamingResponse(lines, media_type="application/json")

    def _select(self, call: Call) -> list[Stored]:
        found = self._store.all(events.stored_as(call.target.kind).resource, call.target.namespace)
        selector = self._selector(call)
        return [stored for stored in found if selector(stored.object)] if selector else found

    def _selector(self, call: Call) -> selectors.Selector | None:
        resource = call.target.kind.resource
        by_label = selectors.labels(call.query.get("labelSelector", ""))
        return selectors.both(by_label, selectors.fields(call.query.get("fieldSelector", ""), resource))

    def _continued(self, token: str) -> tuple[int, int, list[Stored]]:
        try:
            snapshot_id, place = base64.urlsafe_b64decode(token.encode()).decode().rsplit(":", 1)
            start = int(place)
        except (ValueError, binascii.Error) as error:
            raise bad_request("continue key is not valid") from error
        snapshot = self._snapshots.get(snapshot_id)
        if snapshot is None or not 0 <= start <= len(snapshot[1]):
            message = (
                "The provided continue parameter is too old to display a consistent list result. You can start a"
                " new list without the continue parameter."
            )
            raise expired(message)
        return snapshot[0], start, snapshot[1]

    def _continue_token(self, token: str, revision: int, place: int, found: list[Stored]) -> str:
        if token:
            snapshot_id = base64.urlsafe_b64decode(token.encode()).decode().rsplit(":", 1)[0]
        else:
            snapshot_id = f"{revision}-{id(found):x}"
            self._snapshots[snapshot_id] = (revision, found)
            while len(self._snapshots) > SNAPSHOTS_KEPT:
                self._snapshots.popitem(last=False)
        return base64.urlsafe_b64encode(f"{snapshot_id}:{place}".encode()).decode()

    def _list_body(
        self, kind: ResourceKind, revision: int, found: list[Stored], metadata: Object | None = None
    ) -> bytes:
        head = {
            "kind": kind.list_name,
            "apiVersion": kind.api_version,
            "metadata": metadata or {"resourceVersion": str(revision)},
        }
        raws = b",".join(_raw(kind, stored) for stored in found)
        return orjson.dumps(head)[:-1] + b',"items":[' + raws + b"]}"

    def _encoder(self, call: Call) -> Encode:
        kind = call.target.kind
        if not wants(call.request, "Table"):
            return lambda stored: _raw(kind, stored)
        include = call.query.get("includeObject", "Metadata")
        has_header: list[bool] = []

        def encode(stored: Stored) -> bytes:
            meta = {"resourceVersion": str(stored.revision)}
            rows = table.rendered(kind, [stored.object], meta, include, header=not has_header)
            has_header.append(True)
            return orjson.dumps(rows)

        return encode

    def _shown(self, call: Call, stored: Stored, code: int = 200, options: WriteOptions | None = None) -> Response:
        warnings = options.warnings if options else None
        if wants(call.request, "Table"):
            meta = {"resourceVersion": stored.object["metadata"].get("resourceVersion", "")}
            include = call.query.get("includeObject", "Metadata")
            shown = events.to_served(call.target.kind, stored.object)
            return json_response(table.rendered(call.target.kind, [shown], meta, include), code, warnings)
        return json_response(_raw(call.target.kind, stored), code, warnings)


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
    """The verb of each method that the address has."""
    is_everywhere = target.kind.namespaced and target.namespace is None
    return {
        method: verb
        for (method, is_named), verb in _VERBS.items()
        if is_named is bool(target.name)
        and verb in target.kind.verbs
        and not (target.subresource and verb not in ("get", "update", "patch"))
        and not (is_everywhere and verb == "create")
    }


def _raw(kind: ResourceKind, stored: Stored) -> bytes:
    if events.stored_as(kind) is kind and stored.raw:
        return stored.raw
    return orjson.dumps(events.to_served(kind, stored.object))


def _revision(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise bad_request(f"resourceVersion: Invalid value: {text!r}: must be a whole number")
    return int(text)


def _check_revision(call: Call, current: int) -> None:
    """What a list may ask of resourceVersion."""
    text, match = call.query.get("resourceVersion", ""), call.query.get("resourceVersionMatch", "")
    if call.query.get("continue"):
        if text not in ("", "0"):
            raise bad_request("specifying resource version is not allowed when using continue")
        return
    asked = _revision(text) if text else 0
    faults: list[FieldError] = []
    if match and not text:
        faults.append(
            forbidden_field(
                "resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided"
            )
        )
    elif match not in ("", "Exact", "NotOlderThan"):
        faults.append(forbidden_field("resourceVersionMatch", f"unknown value {match!r}"))
    elif match == "Exact" and asked == 0:
        faults.append(
            forbidden_field("resourceVersionMatch", 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"')
        )
    if faults:
        raise invalid("ListOptions", "meta.k8s.io", "", faults)
    _refuse_future(asked, current)
    if match == "Exact" and asked != current:
        raise expired("The resourceVersion for the provided list is too old.")


def _refuse_future(asked: int, current: int) -> None:
    """A version that was not reached yet: the caller knows a database that was lost since."""
    if asked > current:
        details: dict[str, Any] = {
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
        }
        message = f"Timeout: Too large resource version: {asked}, current: {current}"
        raise StatusError(504, "Timeout", message, {**details, "retryAfterSeconds": 1})


def _check_watch(kind: ResourceKind, call: Call) -> None:
    faults = []
    if "sendInitialEvents" in call.query:
        words = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
        faults.append(forbidden_field("sendInitialEvents", words))
    if call.query.get("resourceVersionMatch"):
        words = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        faults.append(forbidden_field("resourceVersionMatch", words))
    if faults:
        raise invalid("ListOptions", "meta.k8s.io", "", faults)


def _quotable(text: str) -> str:
    """As a quoted string of a header may hold it: names in a warning are whatever a client sent."""
    plain = "".join(char if char.isprintable() else "?" for char in text)
    return plain.encode("latin-1", "replace").decode("latin-1")
