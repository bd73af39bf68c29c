"""Parses requests: the path into resource, namespace, name and subresource; headers and query into options.

The resources change while the server runs, so the paths are parsed here and not by starlette's routes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request

from komputer.http.json_values import has_more_values
from komputer.local.apiserver import protobuf
from komputer.local.apiserver.errors import (
    StatusError,
    bad_request,
    invalid,
    not_acceptable,
    not_allowed,
    unsupported,
    unsupported_media,
)
from komputer.local.apiserver.kinds import Registry, ResourceKind
from komputer.local.apiserver.options import DeleteOptions, WriteOptions
from komputer.local.apiserver.tokens import User

BODY_LIMIT_BYTES = 3 * 1024 * 1024
"""Maximum size of a request body, as in the real server."""
VALUES_LIMIT = 100_000
"""Maximum number of JSON values in one body. To parse and validate a value takes about 2 µs of the event loop. The
largest resource definition of Komputer has 3000 values. The real server has no such limit, but etcd limits the size of
an object to 1.5 MiB."""
PATCH_FORMS = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
}


@dataclass(frozen=True, slots=True)
class Target:
    """The resource that a path below /api or /apis names. `namespace` is None for all namespaces; `name` is empty for
    the collection."""

    kind: ResourceKind
    namespace: str | None
    name: str
    subresource: str

    @property
    def space(self) -> str:
        return self.namespace or ""


@dataclass(frozen=True, slots=True)
class ResourceRequest:
    """One authenticated request to a resource."""

    request: Request
    target: Target
    user: User

    @property
    def query(self) -> Mapping[str, str]:
        return self.request.query_params


def parse_target(parts: list[str], registry: Registry) -> Target | None:
    """Return the resource that the parts of the path name; None for a discovery path. Raises StatusError 404."""
    if parts[0] == "api":
        group, rest = "", parts[1:]
    else:
        group, rest = (parts[1] if len(parts) > 1 else ""), parts[2:]
    if len(rest) < 2:
        return None
    version, *rest = rest
    namespace = None
    if (
        # /namespaces/NAME/PLURAL… names a resource in a namespace, but /namespaces/NAME/status names a subresource of
        # the namespace itself.
        rest[0] == "namespaces"
        and len(rest) >= 3
        and not (group == "" and rest[2] in ("status", "finalize") and len(rest) == 3)
    ):
        namespace, rest = rest[1], rest[2:]
    kind = registry.find(group, version, rest[0])
    name = rest[1] if len(rest) > 1 else ""
    if kind.namespaced is (namespace is None) and (name or not kind.namespaced):
        raise registry_mismatch()
    return Target(kind, namespace, name, "/".join(rest[2:]))


def registry_mismatch() -> StatusError:
    return StatusError(404, "NotFound", "the server could not find the requested resource")


async def read_body(request: Request) -> bytes:
    """Return the whole body. Raises StatusError 413 above `BODY_LIMIT_BYTES` or `VALUES_LIMIT`."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > BODY_LIMIT_BYTES:
            message = f"Request entity too large: limit is {BODY_LIMIT_BYTES}"
            raise StatusError(413, "RequestEntityTooLarge", message)
        chunks.append(chunk)
    raw = b"".join(chunks)
    if has_more_values(raw, VALUES_LIMIT):
        message = f"Request entity too large: limit is {VALUES_LIMIT} JSON values"
        raise StatusError(413, "RequestEntityTooLarge", message)
    return raw


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_json(request: Request) -> Any:
    """Return the body of a create or update. Raises StatusError 400, 413 or 415."""
    media = media_type(request)
    if media == protobuf.MEDIA_TYPE:
        return protobuf.decoded(await read_body(request))
    if media not in ("", "application/json"):
        raise _unreadable(media)
    return decode_json(await read_body(request))


def decode_json(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"couldn't decode the body as JSON: {error}") from error


async def read_patch(request: Request) -> tuple[str, Any]:
    """Return the type of a patch (json, merge or strategic) and the patch. Raises StatusError 415 for server-side
    apply, which is not supported."""
    media = media_type(request)
    if media not in PATCH_FORMS:
        why = (
            "server-side apply is not supported by the local API server; "
            if media == "application/apply-patch+yaml"
            else ""
        )
        listed = ", ".join(PATCH_FORMS)
        raise unsupported_media(
            f"{why}the body of the request was in an unknown format ({media}) - accepted media types include: {listed}"
        )
    return PATCH_FORMS[media], decode_json(await read_body(request))


def write_options(query: Mapping[str, str]) -> WriteOptions:
    validation = query.get("fieldValidation") or "Warn"
    if validation not in ("Ignore", "Warn", "Strict"):
        raise bad_request(
            f'invalid fieldValidation: Unsupported value: "{validation}": supported values: "Ignore", "Strict", "Warn"'
        )
    dry_run = _dry_run(query.get("dryRun"))
    return WriteOptions(dry_run, "Ignore" if validation == "Ignore" else "Strict" if validation == "Strict" else "Warn")


def _dry_run(value: Any) -> bool:
    if value in (None, "", []):
        return False
    if value not in ("All", ["All"]):
        raise bad_request(f'dryRun: Unsupported value: {value!r}: supported values: "All"')
    return True


async def _delete_body(request: Request) -> Any:
    raw = await read_body(request)
    media = media_type(request)
    if not raw.strip():
        return {}
    if media == protobuf.MEDIA_TYPE:
        return protobuf.decoded(raw)
    if media not in ("", "application/json"):
        raise _unreadable(media)
    return decode_json(raw)


def _unreadable(media: str) -> StatusError:
    return unsupported_media(
        f"the body of the request was in an unknown format ({media}) - accepted media types include: application/json"
    )


async def delete_options(request: Request) -> DeleteOptions:
    """Return the options of a deletion from the body, and from the query for those that the body does not set."""
    query = request.query_params
    body: Any = await _delete_body(request)
    if not isinstance(body, dict) or body.get("kind", "DeleteOptions") != "DeleteOptions":
        raise bad_request("the body of a DELETE must be DeleteOptions")
    preconditions = body.get("preconditions") or {}
    grace: Any = body.get("gracePeriodSeconds", query.get("gracePeriodSeconds"))
    policy: Any = body.get("propagationPolicy", query.get("propagationPolicy"))
    orphan = body.get("orphanDependents", query.get("orphanDependents"))
    try:
        grace_seconds = None if grace is None else int(grace)
    except (TypeError, ValueError) as error:
        raise bad_request(f"gracePeriodSeconds: {grace!r} is not a whole number") from error
    if not isinstance(preconditions, dict):
        raise bad_request("preconditions must be an object")
    if policy not in (None, "", "Background", "Foreground", "Orphan"):
        faults = [unsupported("propagationPolicy", policy, ("Foreground", "Background", "Orphan", "nil"))]
        raise invalid("DeleteOptions", "meta.k8s.io", "", faults)
    if policy in (None, "") and orphan is not None:
        policy = "Orphan" if orphan in (True, "true") else "Background"
    dry_run = _dry_run(body.get("dryRun") or query.get("dryRun"))
    return DeleteOptions(
        grace_seconds, policy or None, preconditions.get("uid"), preconditions.get("resourceVersion"), dry_run
    )


def whole_number(query: Mapping[str, str], name: str) -> int | None:
    """Return a query parameter that must be a whole number ≥ 0; None if it is absent."""
    text = query.get(name)
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise bad_request(f"{name}: invalid value {text!r}: must be a whole number")
    return int(text)


def is_true(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "").lower() in ("1", "t", "true")


def wants(request: Request, form: str) -> bool:
    """Return whether the first media type of the Accept header asks for `form` (as=Table, …) of meta.k8s.io."""
    first = request.headers.get("accept", "").partition(",")[0]
    return f"as={form}" in first


def check_accept(request: Request) -> None:
    """Raise StatusError 406 if the client does not accept JSON."""
    accepted = request.headers.get("accept") or "*/*"
    media = {part.partition(";")[0].strip().lower() for part in accepted.split(",")}
    if not media & {"application/json", "application/*", "*/*"}:
        raise not_acceptable()


def refuse_method(kind: ResourceKind, method: str, allow: Sequence[str]) -> StatusError:
    """Return the StatusError 405 for a method that is not supported. `allow` lists the methods that the path has."""
    return not_allowed(
        f"the server does not allow this method on the requested resource: {method} {kind.resource}", allow
    )
