"""The client: every request to the Kubernetes API that we make, by what it is for."""

import asyncio
import random
import re
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final, Literal, Self

import httpx2
import orjson
import structlog
from lightkube.core.exceptions import ConfigError

from komputer.domain.errors import Conflict, Invalid, KomputerError, Unavailable
from komputer.kube.connection import TIMEOUT, open_connection
from komputer.kube.errors import ResourceExpired, is_failed_test, refusal, status_of
from komputer.kube.events import event_manifest
from komputer.kube.kinds import ACCESS_REVIEWS, EVENTS, SERVICE_ACCOUNTS, TOKEN_REVIEWS, Kind, Manifest
from komputer.kube.reviews import (
    IssuedToken,
    TokenIdentity,
    access_review,
    identity,
    is_allowed,
    token_request,
    token_review,
)

log = structlog.get_logger(__name__)

PAGE: Final = 500
IN_FLIGHT: Final = 32
"""Requests at once, watches not counted; more wait their turn, rather than each opening a connection of its own."""
RETRY_PAUSES_S: Final = (0.1, 0.3)
RETRY_WITHIN_S: Final = 2.0
"""A read is tried again only while its caller has waited less than this: what hangs is not asked a second time."""


_ONE_JSON_TEXT: Final = re.compile(r"[ !#-%'-;=?-\[\]-~]*")
"""Printable ASCII without the characters that some encoders of JSON escape: quotes, backslashes, `<`, `>` and `&`."""


def _has_one_json_text(value: object) -> bool:
    if isinstance(value, str):
        return _ONE_JSON_TEXT.fullmatch(value) is not None
    return value is None or isinstance(value, int)


@dataclass(frozen=True, slots=True)
class ListResult:
    items: list[Manifest]
    resource_version: str
    """The state of the server that `items` shows; a watch from here misses nothing."""


@dataclass(frozen=True, slots=True)
class WatchEvent:
    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    manifest: Manifest
    """The object; of a BOOKMARK only `metadata.resourceVersion` means something."""


@dataclass(frozen=True, slots=True)
class _Request:
    """One request: `verb` for messages, the rest for the wire."""

    verb: str
    method: str
    kind: Kind
    namespace: str | None = None
    name: str | None = None
    subresource: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    content_type: str = "application/json"

    @property
    def what(self) -> str:
        part = f"{self.subresource} of " if self.subresource else ""
        return f"{self.verb} {part}{self.kind.of(self.name, self.namespace)}"

    def path(self) -> str:
        # An object is created in its collection, but for subresources, which belong to an object that exists.
        name = None if self.verb == "create" and self.subresource is None else self.name
        return self.kind.path(self.namespace, name, self.subresource)


class Cluster:
    """A Kubernetes API. Manifests are plain dicts and always have `apiVersion` and `kind`.

    Everything raises the errors of `komputer.domain.errors`, naming the object: NotFound, Conflict, Invalid,
    Forbidden, and Unavailable for time-outs, lost connections, 429 and 5xx. Reads are tried again for a moment;
    writes never, since an unanswered write may have happened."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http
        self._turns = asyncio.Semaphore(IN_FLIGHT)

    @classmethod
    def connect(cls, kubeconfig: Path | None = None) -> Self:
        """The API server of `kubeconfig`; None: of the cluster that this pod is in. Opens no connection yet. Raises
        Invalid (`kubeconfig`)."""
        return cls(open_connection(kubeconfig))

    async def close(self) -> None:
        await self._http.aclose()

    # Reads

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Manifest:
        return await self._read(_Request("get", "GET", kind, namespace, name))

    async def list(self, kind: Kind, namespace: str | None = None, labels: str | None = None) -> ListResult:
        """All objects of `kind` (in `namespace`; matching the selector `labels`), as they were at one moment."""
        params = {"limit": str(PAGE)} | ({"labelSelector": labels} if labels else {})
        items: list[Manifest] = []
        while True:
            try:
                page = await self._read(_Request("list", "GET", kind, namespace, params=params))
            except ResourceExpired:
                if "continue" not in params:
                    raise
                # The pages' moment is no longer kept; a list in one piece needs no such moment.
                params = {key: value for key, value in params.items() if key not in ("limit", "continue")}
                items = []
                continue
            for item in page.get("items") or ():
                item.setdefault("apiVersion", kind.api_version)
                item.setdefault("kind", kind.kind)
                items.append(item)
            metadata = page["metadata"]
            if not metadata.get("continue"):
                return ListResult(items, metadata["resourceVersion"])
            params["continue"] = metadata["continue"]

    async def watch(
        self,
        kind: Kind,
        namespace: str | None = None,
        labels: str | None = None,
        *,
        resource_version: str,
        timeout_s: int = 60,
    ) -> AsyncGenerator[WatchEvent, None]:
        """What happened after `resource_version`, in order, bookmarks included, until `timeout_s` are over (then it
        ends without an error). The first event is a BOOKMARK of `resource_version` itself, once the server has taken
        the request. Raises Gone when so old a version is no longer kept: list again. Leave it with
        `contextlib.aclosing`, so that its connection is given up at once."""
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(timeout_s),
        }
        call = _Request("watch", "GET", kind, namespace, params=params | ({"labelSelector": labels} if labels else {}))
        timeout = httpx2.Timeout(**{**TIMEOUT.as_dict(), "read": timeout_s + 10})
        with _connection_errors(call.what):
            async with self._http.stream("GET", call.path(), params=call.params, timeout=timeout) as response:
                if response.status_code != 200:
                    raise _refused(call, response, await response.aread())
                yield WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": resource_version}})
                rest = b""
                async for chunk in response.aiter_raw():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        if line:
                            yield _event(call, orjson.loads(line))

    async def server(self) -> tuple[dict[str, Any], datetime]:
        """What the server says of its version, and the time that it has."""
        what = "ask for the version"
        with _connection_errors(what):
            response = await self._http.get("/version")
        if response.status_code != 200:
            raise Unavailable(f"Cannot {what}: the Kubernetes API answered {response.status_code}")
        return orjson.loads(response.content), parsedate_to_datetime(response.headers["date"])

    # Writes

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        """The object as it was stored. Raises Conflict (`exists`), and Invalid (`namespace_not_found`)."""
        metadata = manifest["metadata"]
        if kind.namespaced and not metadata.get("namespace"):
            raise Invalid(f"Cannot create {kind.of(metadata.get('name'))} in no namespace", field="metadata.namespace")
        call = _Request(
            "create", "POST", kind, metadata.get("namespace"), metadata.get("name"), body=_typed(kind, manifest)
        )
        return await self._send(call)

    async def replace(self, kind: Kind, manifest: Manifest, subresource: str | None = None) -> Manifest:
        """Put `manifest` in the place of what is there. Raises Conflict when its `resourceVersion` is stale."""
        metadata = manifest["metadata"]
        call = _Request(
            "replace",
            "PUT",
            kind,
            metadata.get("namespace"),
            metadata["name"],
            subresource,
            body=_typed(kind, manifest),
        )
        return await self._send(call)

    async def json_patch(
        self,
        kind: Kind,
        name: str,
        namespace: str | None,
        operations: Sequence[dict[str, Any]],
        subresource: str | None = None,
    ) -> Manifest:
        """Apply `operations` (RFC 6902), all or none. Raises `Conflict` (`test_failed`) if a `test` among them fails.

        Raises `ValueError` for a test of a string that Kubernetes may write in another way than this client. It
        compares JSON texts, and its own has `\\u003c` for `<`, so that such a test fails for ever.
        """
        for operation in operations:
            if operation["op"] == "test" and not _has_one_json_text(operation["value"]):
                raise ValueError(f"{operation['path']}: test an id or a number, not a text")
        call = _Request(
            "patch",
            "PATCH",
            kind,
            namespace,
            name,
            subresource,
            body=operations,
            content_type="application/json-patch+json",
        )
        response = await self._exchange(call)
        if response.status_code < 300:
            return _manifest(response)
        status = status_of(response.content)
        if is_failed_test(response.status_code, status, operations):
            raise Conflict(
                f"{kind.of(name, namespace)} is no longer as it was read; read it again: {status.get('message')}",
                code="test_failed",
            )
        raise _refused(call, response, response.content)

    async def merge_patch(
        self, kind: Kind, name: str, namespace: str | None, patch: Manifest, subresource: str | None = None
    ) -> Manifest:
        """Merge `patch` into the object (RFC 7396: null removes, lists are replaced). With `metadata.resourceVersion`
        in it: raises Conflict when that is stale."""
        call = _Request(
            "patch",
            "PATCH",
            kind,
            namespace,
            name,
            subresource,
            body=patch,
            content_type="application/merge-patch+json",
        )
        return await self._send(call)

    async def delete(
        self,
        kind: Kind,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        grace_s: int | None = None,
        propagation: Literal["Background", "Foreground", "Orphan"] | None = None,
    ) -> Manifest | None:
        """Delete the object; with `uid` only this one, not a later one of its name (Conflict). Returns what stays for
        now, terminating (a pod in its grace period, an object with finalizers), or None when it is gone."""
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        if propagation is not None:
            options["propagationPolicy"] = propagation
        answer = await self._send(_Request("delete", "DELETE", kind, namespace, name, body=options))
        metadata = answer.get("metadata") or {}
        stays = metadata.get("deletionTimestamp") and (
            metadata.get("finalizers") or metadata.get("deletionGracePeriodSeconds")
        )
        return answer if stays else None

    # Who may what

    async def review_token(self, token: str, audience: str | None = None) -> TokenIdentity | None:
        """Who `token` speaks for, or None when it is not valid (any more), or not meant for `audience` (None: for the
        Kubernetes API itself). A token of a pod or service account that is gone is not valid, but kube-apiserver may
        take it for 10 s more: it remembers whom it has recognised."""
        if not token:
            return None
        return identity(await self._review(TOKEN_REVIEWS, token_review(token, audience)), audience)

    async def review_access(
        self,
        user: str,
        groups: Sequence[str],
        verb: str,
        group: str,
        resource: str,
        namespace: str | None = None,
        name: str | None = None,
        subresource: str | None = None,
    ) -> bool:
        """Whether RBAC lets `user` do `verb` to `resource` (its plural) of API `group`."""
        review = access_review(
            user,
            groups,
            verb=verb,
            group=group,
            resource=resource,
            namespace=namespace,
            name=name,
            subresource=subresource,
        )
        return is_allowed(await self._review(ACCESS_REVIEWS, review))

    async def create_token(
        self,
        service_account: str,
        namespace: str,
        audience: str,
        expiration_s: int,
        pod_name: str | None = None,
        pod_uid: str | None = None,
    ) -> IssuedToken:
        """A token of `service_account` for `audience`, worth nothing once the pod it is bound to is gone. The server
        refuses less than 600 seconds (Invalid)."""
        body = token_request(audience, expiration_s, pod_name, pod_uid)
        call = _Request("create", "POST", SERVICE_ACCOUNTS, namespace, service_account, "token", body=body)
        status = (await self._send(call))["status"]
        return IssuedToken(status["token"], datetime.fromisoformat(status["expirationTimestamp"]))

    async def post_event(
        self, regarding: Manifest, type: Literal["Normal", "Warning"], reason: str, message: str, component: str
    ) -> None:
        """Tell `kubectl describe` what happened to `regarding`. Best effort: a failure is logged and not raised."""
        try:
            await self.create(EVENTS, event_manifest(regarding, type, reason, message, component, datetime.now(UTC)))
        except KomputerError as error:
            log.warning("event could not be posted", reason=reason, error=error.message)

    # Wire

    async def _review(self, kind: Kind, review: Manifest) -> Manifest:
        return await self._read(_Request("create", "POST", kind, body=review))

    async def _send(self, call: _Request) -> Manifest:
        response = await self._exchange(call)
        if response.status_code >= 300:
            raise _refused(call, response, response.content)
        return _manifest(response)

    async def _read(self, call: _Request) -> Manifest:
        started = time.monotonic()
        for pause_s in RETRY_PAUSES_S:
            try:
                return await self._send(call)
            except Unavailable as error:
                if error.code != Unavailable.code or time.monotonic() - started > RETRY_WITHIN_S:
                    raise
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
        return await self._send(call)

    async def _exchange(self, call: _Request) -> httpx2.Response:
        content = None if call.body is None else orjson.dumps(call.body)
        headers = None if call.body is None else {"Content-Type": call.content_type}
        path = call.path()
        async with self._turns:
            with _connection_errors(call.what):
                return await self._http.request(
                    call.method, path, params=call.params or None, content=content, headers=headers
                )


@contextmanager
def _connection_errors(what: str) -> Iterator[None]:
    try:
        yield
    except httpx2.TimeoutException as error:
        raise Unavailable(f"The Kubernetes API did not answer in time to {what}", code="timeout") from error
    except (httpx2.TransportError, ConfigError) as error:
        detail = str(error) or type(error).__name__
        raise Unavailable(f"Cannot reach the Kubernetes API to {what}: {detail}") from error


def _refused(call: _Request, response: httpx2.Response, body: bytes) -> KomputerError:
    after = response.headers.get("Retry-After", "")
    return refusal(
        response.status_code,
        status_of(body),
        call.what,
        call.kind,
        retry_after_s=int(after) if after.isdigit() else None,
    )


def _manifest(response: httpx2.Response) -> Manifest:
    manifest: Manifest = orjson.loads(response.content)
    return manifest


def _typed(kind: Kind, manifest: Manifest) -> Manifest:
    return {"apiVersion": kind.api_version, "kind": kind.kind} | manifest


def _event(call: _Request, told: dict[str, Any]) -> WatchEvent:
    manifest = told["object"]
    if told["type"] == "ERROR":
        raise refusal(manifest.get("code") or 500, manifest, call.what, call.kind)
    return WatchEvent(told["type"], manifest)
