"""The API as one ASGI app, made of explicit parts."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from komputer import __version__
from komputer.agents.agents import Agents
from komputer.agents.overlay import Overlay
from komputer.api import errors, openapi
from komputer.api.border import BodyLimit, LoopbackOnly
from komputer.api.routes import agents as agent_routes
from komputer.api.routes import costs, health, messages
from komputer.events.bell import Bell
from komputer.events.log import Log
from komputer.kube import AGENTS, Cache, Change, Cluster
from komputer.resources import names


async def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Settings:
    """What one API process is told."""

    default_namespace: str = names.DEFAULT_NAMESPACE
    """Of calls about one object that name no namespace."""
    also_ready: Callable[[], Awaitable[None]] = _nothing
    """What else `/readyz` asks; raises `Unavailable`. The laptop's platform is ready when all its parts are."""


def app(settings: Settings, cluster: Cluster, log: Log) -> FastAPI:
    """The app; its background work lives as long as its lifespan."""
    cache = Cache(cluster, AGENTS)
    bell = Bell(log.bell())
    overlay = Overlay(log, bell, lambda: ((m["metadata"]["namespace"], m["metadata"]["name"]) for m in cache.items()))
    agents = Agents(cluster, cache, overlay)

    def forget_deleted(change: Change) -> None:
        if change.type == "DELETED":
            agents.forget((change.manifest["metadata"]["namespace"], change.manifest["metadata"]["name"]))

    async def live_after_sync() -> None:
        await cache.synced()
        await overlay.fill()
        await overlay.run()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        unsubscribe = cache.subscribe(forget_deleted)
        async with asyncio.TaskGroup() as group:
            running = [
                group.create_task(cache.run()),
                group.create_task(bell.run()),
                group.create_task(live_after_sync()),
            ]
            yield
            unsubscribe()
            for task in running:
                task.cancel()

    made = FastAPIOffline(
        title="Komputer", version=__version__, lifespan=lifespan, redoc_url=None, redirect_slashes=False
    )
    made.state.settings, made.state.log, made.state.cache, made.state.agents = settings, log, cache, agents
    made.include_router(agent_routes.router)
    made.include_router(messages.router)
    made.include_router(costs.router)
    made.include_router(health.router)
    errors.install(made)
    openapi.install(made)
    made.add_middleware(BodyLimit)
    made.add_middleware(LoopbackOnly)
    return made
