"""The application: authentication, discovery, and the way from a path to its answer."""

import asyncio
import contextlib
import json
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

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
from komputer.local.apiserver.requests import Call, Target, check_accept, parse_target
from komputer.local.apiserver.routes.pod_logs import pod_log
from komputer.local.apiserver.routes.resources import Resources, json_response
from komputer.local.apiserver.routes.reviews import OWN, VIRTUAL, Reviews
from komputer.local.apiserver.store import ObjectChange, ObjectDatabase
from komputer.local.apiserver.tokens import Tokens, User

log = logging.getLogger(__name__)

STREAMS = ("exec", "attach", "portforward")


class ApiServer:
    """The Kubernetes API over one database file, which it opens at once and no other process may write.

    Serve `app()` with uvicorn; its lifespan runs the garbage collector. Call `stop_watches()` when the server is told
    to stop, since it waits for open responses. `log_source` answers `kubectl logs`; None until a kubelet sets it.
    """

    def __init__(
        self,
        database: Path,
        *,
        admin_token: str,
        history_length: int = 2000,
        bookmark_interval: timedelta = timedelta(minutes=1),
        log_source: LogSource | None = None,
        installation: str = "",
        full_disk: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`full_disk` says why nothing new may be made now: changes and deletions use the space that is set aside.
        `history_length` is how many changes per resource a watch can resume from; older ones answer 410 (a guess,
        unmeasured). `bookmark_interval` is the real server's. Tokens of one `installation` are not valid at another
        that has a copy of the database."""
        self.log_source = log_source
        self._full_disk = full_disk
        self.registry = Registry()
        database.touch(mode=0o600)
        self.store = ObjectDatabase(database, history_length=history_length)
        self.objects = Objects(self.store, self.registry)
        self._stopping = asyncio.Event()
        self._collector = Collector(self.objects)
        self._background = Background()
        self._reviews = Reviews(Tokens(self.store, installation), admin_token)
        self._resources = Resources(self.objects, bookmark_interval, self._stopping)
        for kind in self.registry:
            self.store.history(kind.resource)
        for definition in self.store.all(CRD.resource):
            self.objects.serve_definition(definition.object)
        self.store.on_change = self._changed
        for namespace in ("default", "kube-system"):
            if self.store.get(NAMESPACE.resource, "", namespace) is None:
                self.objects.make_namespace(namespace)

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(routes=[Route("/{path:path}", _Endpoint(self))], lifespan=self._lifespan)

    def stop_watches(self) -> None:
        """End every watch and log stream, so that the HTTP server can finish its open responses."""
        self._stopping.set()
        self.store.wake_watchers()

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self._collector.note_everything()
        # The first write of a pod would otherwise wait for the import of the models.
        models = asyncio.create_task(asyncio.to_thread(schema_of, POD), name="models")
        async with self._background:
            self._background.keep("garbage collector", self._collector.run)
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
        self._collector.note(change)

    async def answer(self, request: Request) -> Response:
        """Every request; refusals become their Status."""
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
            log.exception("the database refused a write")
            return json_response(
                StatusError(500, "InternalError", f"Internal error occurred: database: {error}").status(), 500
            )
        except ClientDisconnect:
            raise  # nobody waits for an answer, and nothing of ours has failed
        except Exception:  # the border of HTTP: a fault of ours is a Status, too
            log.exception("a request failed", extra={"method": request.method, "path": request.url.path})
            return json_response(StatusError(500, "InternalError", "Internal error occurred").status(), 500)

    async def _answer(self, request: Request) -> Response:
        path = request.scope["path"]
        if path.startswith("http://"):
            path = path.removeprefix("http://").partition("/")[2]
        parts = [part for part in path.split("/") if part]
        if parts in (["healthz"], ["livez"], ["readyz"]):
            return Response("ok", media_type="text/plain")
        if len(parts) == 7 and parts[:3] == ["api", "v1", "namespaces"] and parts[4] == "pods" and parts[6] in STREAMS:
            raise errors.not_offered(parts[6])  # before anything else: through a tunnel no credential comes
        user = self._reviews.authenticate(request.headers)
        if not parts:
            paths = [
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
            return json_response({"paths": paths})
        if parts[0] in ("api", "apis") and (target := parse_target(parts, self.registry)):
            return await self._resource(Call(request, target, user))
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
                return openapi.second(self.registry, request.headers.get("accept", ""))
            case ["openapi", "v3"]:
                found = openapi.paths(self.registry)
            case ["openapi", "v3", "api", version]:
                found = openapi.third(self.registry, "", version)
            case ["openapi", "v3", "apis", group, version]:
                found = openapi.third(self.registry, group, version)
        if found is None:
            raise errors.no_such_path()
        return json_response(found)

    async def _resource(self, call: Call) -> Response:
        target = call.target
        if target.subresource != "log":
            check_accept(call.request)
        self._authorize(call.user, target, call.request.method)
        if target.kind.plural in VIRTUAL and not target.kind.custom:
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
        if user.is_admin or (target.kind.plural in OWN and not target.kind.custom):
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
    """An ASGI application rather than a function, so that starlette passes every method through."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response: ASGIApp = await self._server.answer(Request(scope, receive))
            await response(scope, receive, send)
        except ClientDisconnect:
            return


def ensure_kubeconfig(path: Path, server: str, token: str) -> None:
    """As `write_kubeconfig`, where the file is not there or does not name this server and token."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        found = json.loads(path.read_bytes())
        if (found["clusters"][0]["cluster"]["server"], found["users"][0]["user"]["token"]) == (server, token):
            return
    write_kubeconfig(path, server, token)


def write_kubeconfig(path: Path, server: str, token: str) -> None:
    """A kubeconfig (mode 0600) whose one context reaches `server`, an http:// address, as its administrator.

    kubectl keeps a user's token to itself unless the server speaks TLS. What it does send over plain HTTP are the
    credentials of a proxy, so the server is named as its own proxy as well; other clients may use either way."""
    scheme, _, address = server.partition("://")
    cluster = {"server": server, "proxy-url": f"{scheme}://token:{quote(token, safe='')}@{address}"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "komputer",
        "clusters": [{"name": "komputer", "cluster": cluster}],
        "users": [{"name": "komputer", "user": {"token": token}}],
        "contexts": [
            {"name": "komputer", "context": {"cluster": "komputer", "user": "komputer", "namespace": "default"}}
        ],
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(config, file, indent=2)
        file.write("\n")
    temporary.replace(path)
