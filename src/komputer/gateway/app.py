"""The gateway as one ASGI app, made of explicit parts."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import structlog
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from komputer.background import Background
from komputer.domain import names
from komputer.domain.base import Manifest, WireModel
from komputer.domain.config import Config
from komputer.domain.errors import KomputerError, Unavailable
from komputer.events.follow.notifier import Notifier
from komputer.events.log import Log
from komputer.gateway import bodies
from komputer.gateway.agents.identity import Identity, PodIdentity
from komputer.gateway.agents.intake import POST_LIMIT_BYTES, Intake
from komputer.gateway.agents.open_tasks import OpenTasks
from komputer.gateway.agents.secrets import TaskSecrets
from komputer.gateway.agents.streams import AssignmentStreams
from komputer.gateway.connectors import proxy as connector_proxy
from komputer.gateway.errors import door_answer, door_error, model_answer
from komputer.gateway.managers.endpoint import Managers
from komputer.gateway.metrics import GatewayMetrics
from komputer.gateway.model.proxy import ModelProxy
from komputer.gateway.model.upstream import Upstream
from komputer.gateway.quota import Quota
from komputer.gateway.settings import GatewaySettings
from komputer.http.connections import totals
from komputer.kube import AGENTS, CONFIGS, CONNECTORS, PODS, Cache, CacheChange, Cluster
from komputer.protocol import wire
from komputer.redis.presence import BEAT_EVERY
from komputer.services.agents.agents import Agents
from komputer.services.agents.overlay import Overlay
from komputer.services.agents.secrets import SecretStore as AgentSecrets
from komputer.services.connectors.egress import EgressClient

KINDS = {
    "/v1/hello": "hello",
    "/v1/assignment": "assignment",
    "/v1/events": "events",
    "/v1/heartbeat": "heartbeat",
    "/komputer/mcp": "managers",
    "/model/v1/messages": "messages",
    "/model/v1/messages/count_tokens": "count_tokens",
}
"""Of requests, for the counter; all others are `other`, so that nobody's paths become labels."""
SIGNS_BYTES = 64 * 2**20
SIGNS_BYTES_OF_AGENT = 4 * 2**20
"""Of hellos and heartbeats, as objects, in one process: of one agent four that name as many tasks as they may."""
B = TypeVar("B", bound=WireModel)


def app(settings: GatewaySettings, cluster: Cluster, log: Log) -> "Gateway":
    """The app; its background work lives as long as its lifespan. `cluster` and `log` stay the caller's to close."""
    return Gateway(settings, cluster, log)


class Gateway:
    """See `app`. `drain` before the server stops, so that it need not cut the assignment streams."""

    def __init__(self, settings: GatewaySettings, cluster: Cluster, log: Log) -> None:
        self._log = log
        self._background = Background()
        self._agents = Cache(cluster, AGENTS, namespaces=settings.namespaces)
        self._pods = Cache(cluster, PODS, namespaces=settings.namespaces, labels=names.AGENT_LABEL, strip=_of_a_pod)
        self._configs = Cache(cluster, CONFIGS)
        self._connectors = Cache(cluster, CONNECTORS, namespaces=settings.namespaces)
        self._identity = Identity(settings, cluster, self._agents, self._pods)
        self._caches = (self._agents, self._pods, self._configs, self._connectors)
        self.metrics = GatewayMetrics(self._caches)
        self._intake = Intake(log, self.metrics.tasks, self._identity)
        self._open_tasks = OpenTasks(log)
        self._bell = Notifier(log.bell())
        self._streams = AssignmentStreams(
            self._identity,
            log,
            self._bell,
            self._config,
            partial(TaskSecrets, cluster, self._every_config),
            settings.max_streams,
            settings.heartbeat_s,
        )
        # The overlay is not filled: what is decided here asks the log itself.
        agents = Agents(
            cluster,
            self._agents,
            Overlay(log, self._bell, tuple),
            log,
            self._connectors,
            AgentSecrets(cluster, self._every_config),
        )
        # Apart, so that no body that waits for a model keeps events or signs of life waiting.
        self._held_bytes = Quota("bytes of requests", settings.max_held_bytes, settings.max_held_bytes_of_agent)
        posted = Quota("bytes of events", settings.max_posted_bytes, settings.max_posted_bytes_of_agent)
        signs = Quota("bytes of signs of life", SIGNS_BYTES, SIGNS_BYTES_OF_AGENT)
        self._managers = Managers(
            self._identity,
            agents,
            self._agents,
            self._connectors,
            log,
            self._open_tasks,
            self._bell,
            self._config,
            posted,
        )
        self._upstream = Upstream(settings)
        self._outward = EgressClient(settings.addresses, settings.connect_timeout)
        connectors = connector_proxy.ConnectorProxy(
            settings,
            cluster,
            self._identity,
            log.health(),
            self._open_tasks,
            self._connectors,
            self._outward,
            self._every_config,
            self._held_bytes,
        )
        model_requests = Quota("model requests", settings.max_model_requests, settings.max_model_requests_of_agent)
        self.metrics.streams.set_function(lambda: len(self._streams))

        def model(path: str) -> Route:
            proxy = ModelProxy(
                path,
                settings,
                self._identity,
                log,
                self._open_tasks,
                self._upstream,
                self.metrics,
                model_requests,
                self._held_bytes,
            )
            return Route(f"/model{path}", _Route(proxy), methods=["POST"])

        self._app = Starlette(
            routes=[
                Route("/v1/hello", self._call(wire.Hello, self._intake.hello, signs), methods=["POST"]),
                Route("/v1/events", self._call(wire.Post, self._intake.post, posted), methods=["POST"]),
                Route("/v1/heartbeat", self._call(wire.Heartbeat, self._intake.heartbeat, signs), methods=["POST"]),
                Route("/v1/assignment", _Route(self._assignment), methods=["GET"]),
                model("/v1/messages"),
                model("/v1/messages/count_tokens"),
                Route("/connectors/{name}", _Route(connectors), methods=list(connector_proxy.METHODS)),
                Route("/komputer/mcp", _Route(self._managers), methods=["POST"]),
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
            ],
            exception_handlers={
                KomputerError: _ours,
                bodies.ClientLeft: _left,
                HTTPException: _no_route,
                Exception: _unexpected,
            },
            lifespan=self._lifespan,
        )

        self._app.router.redirect_slashes = False

    def drain(self) -> None:
        self._streams.drain()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                kind = "connector" if scope["path"].startswith("/connectors/") else KINDS.get(scope["path"], "other")
                self.metrics.requests.labels(kind, message["status"]).inc()
            await send(message)

        await self._app(scope, receive, counted)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        unsubscribe = [
            self._agents.subscribe(self._agent_changed),
            self._pods.subscribe(self._streams.pod_changed),
            self._configs.subscribe(self._streams.config_changed),
        ]
        await self._upstream.start()
        await self._outward.start()
        async with self._managers.run(), self._background:
            for cache in self._caches:
                self._background.keep(f"cache of {cache.kind.plural}", cache.run)
            self._background.keep("notifications of the event log", self._bell.run)
            self._background.keep("presence of this gateway", self._beat)
            yield
        for stop in unsubscribe:
            stop()
        await self._upstream.close()
        await self._outward.close()

    async def _beat(self) -> None:
        """Say that a gateway is alive, while it could hear a runtime: it recognises pods by the Kubernetes API."""
        presence = self._log.gateways()
        while True:
            if all(cache.is_synced and cache.stale_s == 0 for cache in (self._agents, self._pods)):
                with suppress(Unavailable):  # nobody's sign of life is written either
                    await presence.beat()
            await asyncio.sleep(BEAT_EVERY.total_seconds())

    def _agent_changed(self, change: CacheChange) -> None:
        if change.type == "DELETED":
            metadata = change.manifest["metadata"]
            self._identity.forget(metadata["namespace"], metadata["name"])
            self._open_tasks.forget(metadata["uid"])
            self._intake.forget(metadata["uid"])
        self._streams.agent_changed(change)
        self._managers.agent_changed(change)

    def _config(self) -> Config | None:
        manifest = self._configs.get(None, names.CONFIG_NAME)
        try:
            return Config.model_validate(manifest) if manifest else None
        except ValidationError as error:
            structlog.get_logger(__name__).warning("config not understood, defaults count", error=error.error_count())
            return None

    def _every_config(self) -> list[Config]:
        return Config.understood(self._configs.items())

    def _call(
        self, kind: type[B], answer: Callable[[PodIdentity, B], Awaitable[WireModel]], bound: Quota
    ) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            headers = request.scope["headers"]
            caller = await self._identity.caller(headers)
            with bound.held(caller.key.uid) as take:
                raw = await bodies.read(
                    request.receive, headers, POST_LIMIT_BYTES, lambda size: take(size * bodies.AS_OBJECTS)
                )
                answered = await answer(caller, bodies.understood(kind, raw))
            return Response(answered.model_dump_json(by_alias=True), media_type="application/json")

        return endpoint

    async def _assignment(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._streams.answer(await self._identity.caller(scope["headers"]), receive, send)

    async def _healthz(self, _: Request) -> Response:
        return Response("ok", media_type="text/plain")

    async def _readyz(self, _: Request) -> Response:
        unsynced = [cache.kind.plural for cache in self._caches if not cache.is_synced]
        if unsynced:
            raise Unavailable(f"The gateway has not read {', '.join(unsynced)} yet.", code="not_ready")
        await self._log.ping()
        if problem := self._background.problem or self._managers.problem:
            raise Unavailable(problem, code="background_failed")
        if shortage := totals.shortage():
            raise Unavailable(shortage, code="too_many_connections")
        return Response("ok", media_type="text/plain")


class _Route:
    """Tells starlette that `serve` speaks ASGI itself."""

    def __init__(self, serve: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._serve = serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._serve(scope, receive, send)


def _of_a_pod(manifest: Manifest) -> Manifest:
    """What `identity` looks at: a pod's spec is large, and there may be thousands."""
    kept = ("name", "namespace", "uid", "resourceVersion", "labels", "ownerReferences", "deletionTimestamp")
    metadata: dict[str, Any] = {key: value for key, value in manifest["metadata"].items() if key in kept}
    status = manifest.get("status")
    phase = status.get("phase") if isinstance(status, dict) else None
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {"phase": phase}}


async def _ours(_: Request, error: Exception) -> Response:
    assert isinstance(error, KomputerError)
    return door_error(error)


async def _left(_: Request, error: Exception) -> Response:
    return Response(status_code=400)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status, of_the_model = error.status_code, request.url.path.startswith("/model/")
    sentence, code = (
        ("There is no such route.", "no_route")
        if status == 404
        else (f"This route does not take {request.method}.", "wrong_method")
    )
    allow = {"allow": error.headers["Allow"]} if error.headers and "Allow" in error.headers else None
    return (model_answer if of_the_model else door_answer)(status, sentence, code, allow)


async def _unexpected(request: Request, error: Exception) -> Response:
    of_the_model = request.url.path.startswith("/model/")
    return (model_answer if of_the_model else door_answer)(500, "internal error", "internal")
