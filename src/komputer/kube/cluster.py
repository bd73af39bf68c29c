"""The client of the Kubernetes API: one method for each kind of request.

lightkube reads the kubeconfig and authenticates us (see `connection.py`), but its client returns model objects, parses
a watch by lines of text, and retries nothing. kubernetes_asyncio brings a second HTTP stack, aiohttp, and generated
models. We need some twelve requests on plain dicts, with bytes parsed by orjson, and errors of our own.
"""

import asyncio
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

from komputer.backoff import Backoff
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
"""Maximum number of concurrent requests, not counting watches. Further requests wait instead of opening a connection
each."""
READ_ATTEMPTS: Final = 3
READ_BACKOFF: Final = Backoff(0.1, 0.3, jitter=0.5)
RETRY_WITHIN_S: Final = 2.0
"""A read is retried only within this time, in seconds, after its first attempt began, so that a request that timed out
is not repeated."""


_ONE_JSON_TEXT: Final = re.compile(r"[ !#-%'-;=?-\[\]-~]*")
"""A string that all encoders write as the same JSON text: printable ASCII without the characters that some of them
escape (quotes, backslashes, `<`, `>` and `&`)."""


def _has_one_json_text(value: object) -> bool:
    if isinstance(value, str):
        return _ONE_JSON_TEXT.fullmatch(value) is not None
    return value is None or isinstance(value, int)


@dataclass(frozen=True, slots=True)
class ListResult:
    items: list[Manifest]
    resource_version: str
    """The version of the server's state that `items` shows. A watch from this version misses no change."""


@dataclass(frozen=True, slots=True)
class WatchEvent:
    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    manifest: Manifest
    """The object. Of a BOOKMARK only `metadata.resourceVersion` is meaningful."""


@dataclass(frozen=True, slots=True)
class _Request:
    """One request. `verb` is for messages, the other fields go on the wire."""

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
        # A POST to the collection creates an object; a POST below an existing object creates a subresource.
        name = None if self.verb == "create" and self.subresource is None else self.name
        return self.kind.path(self.namespace, name, self.subresource)


class Cluster:
    """A Kubernetes API. Manifests are plain dicts and always have `apiVersion` and `kind`.

    All methods raise the errors of `komputer.domain.errors`, with the object in the message: NotFound, Conflict,
    Invalid, Forbidden, and Unavailable for time-outs, lost connections, 429 and 5xx. Reads are tried up to
    `READ_ATTEMPTS` times. Writes are not repeated, because an unanswered write may have succeeded.
    """

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http
        self._turns = asyncio.Semaphore(IN_FLIGHT)

    @classmethod
    def connect(cls, kubeconfig: Path | None = None) -> Self:
        """Return a client of the API server in `kubeconfig`; None: of the cluster that this pod runs in. No connection
        is opened yet. Raises Invalid (`kubeconfig`)."""
        return cls(open_connection(kubeconfig))

    async def close(self) -> None:
        await self._http.aclose()

    # Reads

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Manifest:
        return await self._read(_Request("get", "GET", kind, namespace, name))

    async def list(self, kind: Kind, namespace: str | None = None, labels: str | None = None) -> ListResult:
        """Return all objects of `kind` (in `namespace`, matching the selector `labels`), as of one resource version."""
        params = {"limit": str(PAGE)} | ({"labelSelector": labels} if labels else {})
        items: list[Manifest] = []
        while True:
            try:
                page = await self._read(_Request("list", "GET", kind, namespace, params=params))
            except ResourceExpired:
                if "continue" not in params:
                    raise
                # The server no longer has the version that the pages belong to. A list without pages needs no old
                # version.
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
        """Yield the changes after `resource_version` in order, with bookmarks, for `timeout_s` seconds.

        The first event is a BOOKMARK of `resource_version` itself, once the server has accepted the request. Raises
        ResourceExpired if the server no longer has the changes after that version: list again in this case. Use
        `contextlib.aclosing`, so that the connection is closed at once.
        """
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
                # Each event is one line of JSON. A chunk may end within a line.
                rest = b""
                async for chunk in response.aiter_raw():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        if line:
                            yield _event(call, orjson.loads(line))

    async def server(self) -> tuple[dict[str, Any], datetime]:
        """Return the server's version, and the time by its clock."""
        what = "ask for the version"
        with _connection_errors(what):
            response = await self._http.get("/version")
        if response.status_code != 200:
            raise Unavailable(f"Cannot {what}: the Kubernetes API answered {response.status_code}")
        return orjson.loads(response.content), parsedate_to_datetime(response.headers["date"])

    # Writes

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Create an object, and return it as stored. Raises Conflict (`exists`) and Invalid (`namespace_not_found`)."""
        metadata = manifest["metadata"]
        if kind.namespaced and not metadata.get("namespace"):
            raise Invalid(f"Cannot create {kind.of(metadata.get('name'))} in no namespace", field="metadata.namespace")
        call = _Request(
            "create", "POST", kind, metadata.get("namespace"), metadata.get("name"), body=_typed(kind, manifest)
        )
        return await self._send(call)

    async def replace(self, kind: Kind, manifest: Manifest, subresource: str | None = None) -> Manifest:
        """Replace the object with `manifest`. Raises Conflict if its `resourceVersion` is stale."""
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

        Raises `ValueError` for a test of a string that Kubernetes may encode in another way than this client.
        Kubernetes compares the JSON texts, and its own text has `\\u003c` for `<`, so such a test would always fail.
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
        """Merge `patch` into the object (RFC 7396: null removes, lists are replaced). Raises Conflict if `patch` has a
        `metadata.resourceVersion` that is stale."""
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
        """Delete the object. With `uid`, an object of the same name with another uid is not deleted, and Conflict is
        raised. Return the object if it still exists and is terminating (a pod in its grace period, an object with
        finalizers), or None."""
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

    # Access

    async def review_token(self, token: str, audience: str | None = None) -> TokenIdentity | None:
        """Return the identity of `token`; None if it is not valid, or not for `audience` (None: the Kubernetes API
        itself). A token of a deleted pod or service account is not valid, but kube-apiserver caches reviews, and may
        accept it for 10 s more."""
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
        """Return whether RBAC lets `user` do `verb` to `resource` (its plural) of API `group`."""
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
        """Return a token of `service_account` for `audience`. It is valid for `expiration_s` seconds, and at most until
        the pod that it is bound to is deleted. Raises Invalid for less than 600 seconds."""
        body = token_request(audience, expiration_s, pod_name, pod_uid)
        call = _Request("create", "POST", SERVICE_ACCOUNTS, namespace, service_account, "token", body=body)
        status = (await self._send(call))["status"]
        return IssuedToken(status["token"], datetime.fromisoformat(status["expirationTimestamp"]))

    async def post_event(
        self, regarding: Manifest, type: Literal["Normal", "Warning"], reason: str, message: str, component: str
    ) -> None:
        """Post a Kubernetes Event about `regarding`, for `kubectl describe`. A failure is logged, not raised."""
        try:
            await self.create(EVENTS, event_manifest(regarding, type, reason, message, component, datetime.now(UTC)))
        except KomputerError as error:
            log.warning("event not posted", reason=reason, error=error.message)

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
        for attempt in range(1, READ_ATTEMPTS):
            try:
                return await self._send(call)
            except Unavailable as error:
                if error.code != Unavailable.code or time.monotonic() - started > RETRY_WITHIN_S:
                    raise
                await asyncio.sleep(READ_BACKOFF.delay_s(attempt))
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


def _event(call: _Request, line: dict[str, Any]) -> WatchEvent:
    manifest = line["object"]
    if line["type"] == "ERROR":
        raise refusal(manifest.get("code") or 500, manifest, call.what, call.kind)
    return WatchEvent(line["type"], manifest)
