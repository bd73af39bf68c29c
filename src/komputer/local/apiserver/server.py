"""The ASGI application: authentication, authorization, discovery, and the dispatch of a request to its handler."""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import orjson
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from komputer.background import Background
from komputer.local.apiserver import discovery, errors, openapi
from komputer.local.apiserver.builtin_schema import schema_of
from komputer.local.apiserver.collector import Collector
from komputer.local.apiserver.errors import StatusError
from komputer.local.apiserver.kinds import CRD, NAMESPACE, POD, Registry
from komputer.local.apiserver.logs import LogSource
from komputer.local.apiserver.objects import Objects
from komputer.local.apiserver.requests import ResourceRequest, Target, check_accept, parse_target
from komputer.local.apiserver.responses import json_response
from komputer.local.apiserver.routes.pod_logs import pod_log
from komputer.local.apiserver.routes.resources import Resources
from komputer.local.apiserver.routes.reviews import REVIEWS, SELF_REVIEWS, Reviews
from komputer.local.apiserver.store import ObjectChange, ObjectDatabase
from komputer.local.apiserver.tokens import ServerCredentials, Tokens, User

log = logging.getLogger(__name__)

STREAMS = ("exec", "attach", "portforward")


class ApiServer:
    """The Kubernetes API over one database file. The constructor opens the file, and no other process may write it.

    Serve `app()` with uvicorn; its lifespan runs the garbage collector. Call `stop_watches()` when the server begins to
    stop: it would otherwise wait for the watches to end. `log_source` answers `kubectl logs`."""

    def __init__(
        self,
        database: Path,
        credentials: ServerCredentials,
        *,
        history_length: int = 2000,
        log_source: LogSource | None = None,
        full_disk: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`history_length` is the number of changes per resource that are kept for watches to resume from (a guess,
        unmeasured); an older resourceVersion is answered with 410. `full_disk` returns why no custom object may be
        created now, or None: changes and deletions may use the reserved disk space, creations may not."""
        self.log_source = log_source
        self._full_disk = full_disk
        self.registry = Registry()
        database.touch(mode=0o600)
        self.store = ObjectDatabase(database, history_length=history_length)
        self.objects = Objects(self.store, self.registry)
        self._stopping = asyncio.Event()
        self._collector = Collector(self.objects)
        self._background = Background()
        self._reviews = Reviews(Tokens(self.store, credentials.installation), credentials.admin_token)
        self._resources = Resources(self.objects, self._stopping)
        for kind in self.registry:
            self.store.history(kind.resource)
        for definition in self.store.all(CRD.resource):
            self.objects.serve_definition(definition.object)
        self.store.on_change = self._changed
        for namespace in ("default", "kube-system"):
            if self.store.get(NAMESPACE.resource, "", namespace) is None:
                self.objects.make_namespace(namespace)

    def app(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(routes=[Route("/{path:path}", _Endpoint(self))], lifespan=self._lifespan)

    def stop_watches(self) -> None:
        """End every watch and log stream, so that the HTTP server can finish its open responses."""
        self._stopping.set()
        self.store.wake_watchers()

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self._collector.enqueue_all()
        # The import of the models takes some time. Here it runs in a thread, so that the first write of a pod does not
        # wait for it.
        models = asyncio.create_task(asyncio.to_thread(schema_of, POD), name="models")
        async with self._background:
            self._background.run_forever("garbage collector", self._collector.run)
            yield
            self.stop_watches()
            await models
        self.store.close()

    def _changed(self, change: ObjectChange) -> None:
        resource, _, name = change.stored.address
        if resource == CRD.resource:
            if change.type == "DELETED":
                self.registry.drop(name)
                self.store.drop_history(name)
            else:
                self.objects.serve_definition(change.stored.object)
        self._collector.enqueue(change)

    async def answer(self, request: Request) -> Response:
        """Answer any request. Every error is answered with a Status."""
        try:
            return await self._answer(request)
        except StatusError as error:
            response = json_response(error.status(), error.code)
            if error.code == 401:
                response.headers["WWW-Authenticate"] = "Bearer"
            if isinstance(error, errors.NotAllowed):
                response.headers["Allow"] = error.allow
            return response
        except (RecursionError, orjson.JSONEncodeError):
            return json_response(errors.bad_request("the body is nested too deeply").status(), 400)
        except sqlite3.Error as error:
            log.exception("database write failed")
            return json_response(
                StatusError(500, "InternalError", f"Internal error occurred: database: {error}").status(), 500
            )
        except ClientDisconnect:
            raise  # the client has disconnected; this is no error of the server
        except Exception:  # boundary: an unexpected error is answered with a Status too
            log.exception("request failed", extra={"method": request.method, "path": request.url.path})
            return json_response(StatusError(500, "InternalError", "Internal error occurred").status(), 500)

    async def _answer(self, request: Request) -> Response:
        path = request.scope["path"]
        if path.startswith("http://"):
            path = path.removeprefix("http://").partition("/")[2]
        parts = [part for part in path.split("/") if part]
        if parts in (["healthz"], ["livez"], ["readyz"]):
            return Response("ok", media_type="text/plain")
        if len(parts) == 7 and parts[:3] == ["api", "v1", "namespaces"] and parts[4] == "pods" and parts[6] in STREAMS:
            raise errors.not_offered(parts[6])  # before authentication: requests through a tunnel have no credential
        user = self._reviews.authenticate(request.headers)
        if not parts:
            v3_paths = [
                "/api",
                "/api/v1",
                "/apis",
                "/healthz",
                "/livez",
                "/openapi/v2",
                "/openapi/v3",
                "/readyz",
                "/version",
            ]
            return json_response({"paths": v3_paths})
        if parts[0] in ("api", "apis") and (target := parse_target(parts, self.registry)):
            return await self._resource(ResourceRequest(request, target, user))
        if request.method not in ("GET", "HEAD"):
            raise errors.not_allowed("the server does not allow this method on the requested resource", ("GET",))
        return self._discovered(parts, request)

    def _discovered(self, parts: list[str], request: Request) -> Response:
        found = None
        match parts:
            case ["version"]:
                found = discovery.VERSION
            case ["api"]:
                found = discovery.core_versions(request.url.netloc)
            case ["apis"]:
                found = discovery.groups(self.registry)
            case ["api", version]:
                found = discovery.resources(self.registry, "", version)
            case ["apis", group]:
                found = discovery.group(self.registry, group)
            case ["apis", group, version]:
                found = discovery.resources(self.registry, group, version)
            case ["openapi", "v2"]:
                return openapi.v2_document(self.registry, request.headers.get("accept", ""))
            case ["openapi", "v3"]:
                found = openapi.v3_paths(self.registry)
            case ["openapi", "v3", "api", version]:
                found = openapi.v3_document(self.registry, "", version)
            case ["openapi", "v3", "apis", group, version]:
                found = openapi.v3_document(self.registry, group, version)
        if found is None:
            raise errors.no_such_path()
        return json_response(found)

    async def _resource(self, call: ResourceRequest) -> Response:
        target = call.target
        if target.subresource != "log":
            check_accept(call.request)
        self._authorize(call.user, target, call.request.method)
        if target.kind.plural in REVIEWS and not target.kind.custom:
            return await self._reviews.answer(call)
        match target.kind.resource, target.subresource:
            case "serviceaccounts", "token":
                return await self._reviews.token_request(call)
            case "pods", "log":
                return await pod_log(
                    call, self.objects.get(POD, target.space, target.name), self.log_source, self._stopping
                )
            case "pods", ("proxy" | "binding" | "eviction") as name:
                raise errors.not_offered(name)
        if call.request.method == "POST" and target.kind.custom and (full := self._full_disk()):
            raise errors.StatusError(507, "InsufficientStorage", full)
        if target.subresource and not (target.subresource == "status" and target.kind.has_status):
            raise errors.no_such_path()
        return await self._resources.answer(call)

    def _authorize(self, user: User, target: Target, method: str) -> None:
        if user.is_admin or (target.kind.plural in SELF_REVIEWS and not target.kind.custom):
            return
        verbs = {
            "GET": "get" if target.name else "list",
            "POST": "create",
            "PUT": "update",
            "PATCH": "patch",
            "DELETE": "delete",
        }
        where = f' in the namespace "{target.namespace}"' if target.namespace else " at the cluster scope"
        plural = f"{target.kind.plural}/{target.subresource}" if target.subresource else target.kind.plural
        verb = verbs.get(method, method.lower())
        why = f'User "{user.username}" cannot {verb} resource "{plural}" in API group "{target.kind.group}"{where}'
        raise errors.forbidden(target.kind.resource, target.name, why)


class _Endpoint:
    """Wraps the server as an ASGI application: starlette would restrict the HTTP methods of a plain function."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response: ASGIApp = await self._server.answer(Request(scope, receive))
            await response(scope, receive, send)
        except ClientDisconnect:
            return
