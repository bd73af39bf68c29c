"""The API as one ASGI app, made of explicit parts."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware

from komputer import __version__
from komputer.api import errors, openapi
from komputer.api.access import Access
from komputer.api.audit import Audited
from komputer.api.auth import Authenticated, authorize
from komputer.api.idempotency import OncePerKey
from komputer.api.metrics import ApiMetrics, Counted
from komputer.api.middleware import BodyLimit, KnownOrigins, LoopbackOnly
from komputer.api.rates import RateLimited
from komputer.api.routes import agents as agent_routes
from komputer.api.routes import connectors as connector_routes
from komputer.api.routes import costs, health, index, messages, namespaces
from komputer.api.routes import secrets as secret_routes
from komputer.api.routes import streams as stream_routes
from komputer.api.stream import READERS, EventStreams
from komputer.api.typos import known_parameters
from komputer.background import Background
from komputer.domain import names
from komputer.domain.addresses import AddressRules
from komputer.domain.config import Config
from komputer.domain.ref import ObjectRef
from komputer.events.follow.notifier import Notifier
from komputer.events.follow.tail import Tail
from komputer.events.log import Log
from komputer.kube import AGENTS, CONFIGS, CONNECTORS, Cache, CacheChange, Cluster
from komputer.services.agents.agents import Agents
from komputer.services.agents.overlay import Overlay
from komputer.services.agents.secrets import SecretStore
from komputer.services.connectors.connectors import Connectors
from komputer.services.connectors.egress import EgressClient
from komputer.services.connectors.tools import ToolListings

ROUTERS = (
    agent_routes.router,
    connector_routes.router,
    costs.router,
    messages.router,
    namespaces.router,
    secret_routes.router,
    stream_routes.router,
)


async def _nothing() -> None:
    return None


@dataclass(frozen=True)
class ApiSettings:
    """What one API process is told."""

    default_namespace: str = names.DEFAULT_NAMESPACE
    """Of calls about one object that name no namespace."""
    create_status: int | None = None
    """What every accepted `POST /agents` is answered with, for published clients that take nothing but 200 for a
    success. None: 201 for a new agent, 200 for one that existed."""
    also_ready: Callable[[], Awaitable[None]] = _nothing
    """What else `/readyz` asks; raises `Unavailable`. The laptop's platform is ready when all its parts are."""
    readers: int = READERS
    """Streams that are open at once; one more is refused."""
    addresses: AddressRules = field(default_factory=AddressRules)
    """Where connectors may lead; the gateway's are the same."""
    auth: Literal["none", "kubernetes"] = "none"
    """Who may call: everybody who can, or bearers of a token that the Kubernetes API knows, what RBAC lets them do."""
    allowed_origins: tuple[str, ...] = ()
    """Of web pages that may call, such as `https://dashboard.example.com`. The API's own is one without being named."""
    requests_per_second: int | None = None
    """Of one caller, to one process; None: as many as it can."""
    audits: bool = False
    """Whether each request that is to change something has a line in the log."""
    token_audiences: tuple[str, ...] = ()
    """Of those tokens; empty: the Kubernetes API's own."""
    namespaces: tuple[str, ...] | None = None
    """Whose objects are served; None: all."""
    makes_namespaces: bool = False
    """Whether a namespace that is missing is made, for callers who may create namespaces."""
    loopback_only: bool = True
    """Whether only this machine's own programs may call, and no web page of another origin: there is no other guard."""


def app(settings: ApiSettings, cluster: Cluster, log: Log) -> FastAPI:
    """The app; its background work lives as long as its lifespan."""
    cache = Cache(cluster, AGENTS, namespaces=settings.namespaces)
    notifier = Notifier(log.notifications())
    overlay = Overlay(log, notifier, lambda: map(ObjectRef.of, cache.items()))
    connector_cache, configs = Cache(cluster, CONNECTORS, namespaces=settings.namespaces), Cache(cluster, CONFIGS)
    streams = EventStreams(Tail(log, notifier), settings.readers)
    outward, seen = EgressClient(settings.addresses), log.health()
    background = Background()

    def every_config() -> list[Config]:
        return Config.understood(configs.items())

    agents = Agents(cluster, cache, overlay, log, connector_cache, SecretStore(cluster, every_config))
    connectors = Connectors(cluster, connector_cache, cache, seen, settings.addresses, every_config)
    tools = ToolListings(cluster, outward, seen, every_config)

    def forget_deleted(change: CacheChange) -> None:
        if change.type == "DELETED":
            agents.forget(ObjectRef.of(change.manifest))

    async def live_after_sync() -> None:
        await cache.synced()
        await overlay.run()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        unsubscribe = [cache.subscribe(forget_deleted), cache.subscribe(streams.agent_changed)]
        await outward.start()
        async with background:
            for each in (cache, connector_cache, configs):
                background.run_forever(f"cache of {each.kind.plural}", each.run)
            background.run_forever("notifications of the event log", notifier.run)
            background.run_forever("live states of agents", live_after_sync)
            yield
            streams.drain()
            await streams.tail.close()
            for stop in unsubscribe:
                stop()
        await outward.close()

    made = FastAPIOffline(
        title="Komputer", version=__version__, lifespan=lifespan, redoc_url=None, redirect_slashes=False
    )
    made.state.cluster, made.state.caches = cluster, (cache, connector_cache, configs)
    made.state.settings, made.state.log, made.state.agents, made.state.overlay = settings, log, agents, overlay
    made.state.metrics, made.state.background = ApiMetrics(agents, streams, made.state.caches), background
    made.state.streams, made.state.connectors, made.state.tools = streams, connectors, tools
    access = Access(cluster, settings.token_audiences) if settings.auth == "kubernetes" else None
    made.state.access = access
    for router in ROUTERS:
        made.include_router(router, dependencies=[Depends(authorize), Depends(known_parameters)])
    made.include_router(stream_routes.sockets)
    made.include_router(health.router)
    made.include_router(index.router)
    if access is None:
        made.include_router(health.figures)
    errors.install(made)
    openapi.install(made)
    made.add_middleware(OncePerKey, requests=log.requests(), default_namespace=settings.default_namespace)
    # The last one added is the first to see a request.
    made.add_middleware(BodyLimit)
    if settings.audits:
        made.add_middleware(Audited)
    if settings.requests_per_second is not None:
        made.add_middleware(RateLimited, per_second=settings.requests_per_second)
    if access is not None:
        made.add_middleware(Authenticated, access=access)
    if settings.allowed_origins:
        made.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["ETag", "Retry-After"],
        )
    made.add_middleware(Counted, metrics=made.state.metrics)
    if settings.loopback_only:
        made.add_middleware(LoopbackOnly)
    else:
        made.add_middleware(KnownOrigins, allowed=settings.allowed_origins)
    return made
