"""The REST API as one ASGI app."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware

from komputer import __version__
from komputer.api import errors, openapi
from komputer.api.agent_lists import AgentLists
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
from komputer.api.settings import ApiSettings
from komputer.api.state import AgentServices, ApiState, ConnectorServices, Readiness
from komputer.api.stream import EventStreams
from komputer.api.typos import known_parameters
from komputer.background import Background
from komputer.domain.config import Config
from komputer.domain.ref import ObjectRef
from komputer.events.follow.notifier import Notifier
from komputer.events.follow.tail import Tail
from komputer.events.log import Log
from komputer.kube import AGENTS, CONFIGS, CONNECTORS, Cache, CacheChange, Cluster
from komputer.services.access import AccessReviewer
from komputer.services.agents.agents import Agents
from komputer.services.agents.history import AgentHistory
from komputer.services.agents.overlay import Overlay
from komputer.services.agents.requests import AgentRequests
from komputer.services.agents.secrets import AgentSecrets
from komputer.services.connectors.connectors import Connectors
from komputer.services.connectors.egress import EgressClient
from komputer.services.connectors.reader import ConnectorReader
from komputer.services.connectors.secrets import ConnectorSecrets
from komputer.services.connectors.tools import ToolListings
from komputer.services.namespaces import NamespaceService
from komputer.services.secrets import SecretStore

ROUTERS = (
    agent_routes.router,
    connector_routes.router,
    costs.router,
    messages.router,
    namespaces.router,
    secret_routes.router,
    stream_routes.router,
)


def app(settings: ApiSettings, cluster: Cluster, log: Log) -> FastAPI:
    """Return the app. Its background work runs as long as its lifespan; its `state` is an `ApiState`."""
    agent_cache = Cache(cluster, AGENTS, namespaces=settings.namespaces)
    connector_cache = Cache(cluster, CONNECTORS, namespaces=settings.namespaces)
    config_cache = Cache(cluster, CONFIGS)
    caches = (agent_cache, connector_cache, config_cache)
    notifier = Notifier(log.notifications())
    overlay = Overlay(log, notifier, lambda: map(ObjectRef.of, agent_cache.items()))
    streams = EventStreams(Tail(log, notifier), settings.readers)
    egress, health_records, background = EgressClient(settings.addresses), log.health(), Background()

    def configs() -> list[Config]:
        return Config.understood(config_cache.items())

    namespaces = NamespaceService(cluster, creates_missing=settings.makes_namespaces)
    agents = Agents(cluster, agent_cache, overlay, log, AgentSecrets(cluster))
    secrets = SecretStore(cluster, agents, namespaces, configs)
    agent_services = AgentServices(
        agents=agents,
        requests=AgentRequests(agents, secrets, connector_cache, namespaces),
        lists=AgentLists(agent_cache, overlay),
        history=AgentHistory(agents, log),
    )
    connector_reader = ConnectorReader(connector_cache, agent_cache, health_records)
    connector_services = ConnectorServices(
        connectors=Connectors(
            cluster, connector_reader, ConnectorSecrets(cluster, configs), namespaces, settings.addresses
        ),
        reader=connector_reader,
        tools=ToolListings(cluster, egress, health_records, configs),
    )
    state = ApiState(
        settings=settings,
        access=AccessReviewer(cluster, settings.token_audiences) if settings.auth == "kubernetes" else None,
        cluster=cluster,
        agents=agent_services,
        connectors=connector_services,
        secrets=secrets,
        namespaces=namespaces,
        streams=streams,
        readiness=Readiness(caches, log, overlay, background, settings.also_ready),
        metrics=ApiMetrics(agents, streams, caches),
    )

    def forget_deleted(change: CacheChange) -> None:
        if change.type == "DELETED":
            ref = ObjectRef.of(change.manifest)
            agents.forget(ref)
            agent_services.lists.forget(ref)

    async def keep_overlay() -> None:
        await agent_cache.synced()
        await overlay.run()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        unsubscribe = [agent_cache.subscribe(forget_deleted), agent_cache.subscribe(streams.agent_changed)]
        await egress.start()
        async with background:
            for each in caches:
                background.run_forever(f"cache of {each.kind.plural}", each.run)
            background.run_forever("notifications of the event log", notifier.run)
            background.run_forever("live states of agents", keep_overlay)
            yield
            streams.drain()
            await streams.tail.close()
            for stop in unsubscribe:
                stop()
        await egress.close()

    api = FastAPIOffline(
        title="Komputer", version=__version__, lifespan=lifespan, redoc_url=None, redirect_slashes=False
    )
    api.state = state  # type: ignore[assignment]  # Starlette's own is an untyped namespace; see `state_of`
    _add_routes(api, state)
    errors.install(api)
    openapi.install(api)
    _add_middleware(api, state, log)
    return api


def _add_routes(api: FastAPI, state: ApiState) -> None:
    for router in ROUTERS:
        api.include_router(router, dependencies=[Depends(authorize), Depends(known_parameters)])
    api.include_router(stream_routes.sockets)
    api.include_router(health.router, dependencies=[Depends(known_parameters)])
    api.include_router(index.router)
    if state.access is None:
        api.include_router(health.figures)


def _add_middleware(api: FastAPI, state: ApiState, log: Log) -> None:
    """Add the middleware, innermost first: the one that is added last is the first to get a request."""
    settings = state.settings
    api.add_middleware(OncePerKey, requests=log.requests(), default_namespace=settings.default_namespace)
    api.add_middleware(BodyLimit)
    if settings.audits:
        api.add_middleware(Audited)
    if settings.requests_per_second is not None:
        api.add_middleware(RateLimited, per_second=settings.requests_per_second)
    if state.access is not None:
        api.add_middleware(Authenticated, access=state.access)
    if settings.allowed_origins:
        api.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["ETag", "Retry-After"],
        )
    api.add_middleware(Counted, metrics=state.metrics)
    if settings.loopback_only:
        api.add_middleware(LoopbackOnly)
    else:
        api.add_middleware(KnownOrigins, allowed=settings.allowed_origins)
