"""The gateway as one ASGI app."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.applications import Starlette
from starlette.types import Message, Receive, Scope, Send

from komputer.background import Background
from komputer.domain.errors import Unavailable
from komputer.events.log import Log
from komputer.gateway.metrics import GatewayMetrics
from komputer.gateway.parts import Parts
from komputer.gateway.routes import ERROR_HANDLERS, kind_of, routes
from komputer.gateway.settings import GatewaySettings
from komputer.kube import Cluster
from komputer.redis.presence import BEAT_EVERY


def app(settings: GatewaySettings, cluster: Cluster, log: Log) -> "Gateway":
    """Return the app. Its background work runs during its lifespan. The caller closes `cluster` and `log`."""
    return Gateway(Parts.build(settings, cluster, log))


class Gateway:
    """The ASGI app. Call `drain` before the server stops, so that it does not have to abort the assignment streams."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self._background = Background()
        self._app = Starlette(
            routes=routes(parts, self._problem),
            exception_handlers=ERROR_HANDLERS,
            lifespan=self._lifespan,
        )
        self._app.router.redirect_slashes = False
        parts.metrics.streams.set_function(lambda: len(parts.streams))

    @property
    def metrics(self) -> GatewayMetrics:
        return self.parts.metrics

    def drain(self) -> None:
        self.parts.streams.drain()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.metrics.requests.labels(kind_of(scope["path"]), message["status"]).inc()
            await send(message)

        await self._app(scope, receive, counted)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        parts, caches = self.parts, self.parts.caches
        unsubscribe = [
            caches.agents.subscribe(parts.agent_changed),
            caches.pods.subscribe(parts.streams.pod_changed),
            caches.configs.subscribe(parts.streams.config_changed),
        ]
        await parts.upstream.start()
        await parts.egress.start()
        async with parts.managers.cascade.run(), parts.managers.endpoint.run(), self._background:
            for cache in caches:
                self._background.run_forever(f"cache of {cache.kind.plural}", cache.run)
            self._background.run_forever("notifications of the event log", parts.notifier.run)
            self._background.run_forever("presence of this gateway", self._announce)
            yield
        for stop in unsubscribe:
            stop()
        await parts.upstream.close()
        await parts.egress.close()

    async def _announce(self) -> None:
        """Announce regularly that this gateway serves runtimes. It identifies pods by the Kubernetes API, so it
        announces nothing while it cannot read that API: the operator must then not replace the pod of a silent
        runtime."""
        presence = self.parts.log.gateways()
        while True:
            if self.parts.caches.can_recognise_pods:
                with suppress(Unavailable):  # then no heartbeat of a runtime is recorded either
                    await presence.beat()
            await asyncio.sleep(BEAT_EVERY.total_seconds())

    def _problem(self) -> str | None:
        return self._background.problem or self.parts.managers.cascade.problem
