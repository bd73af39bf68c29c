"""The real API in a process of its own, over the local Kubernetes API and every log server that this machine has.

Tests share one API process per log server. Each test uses a namespace of its own. A test that stops or kills the API
starts its own with `api_process`.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from komputer.events.log import Log
from komputer.kube import NAMESPACES, Cluster
from tests.contract.operator.conftest import cluster, kubernetes
from tests.contract.stream.world import Api, World
from tests.fixtures.valkey import LogServer, engines, running

__all__ = ["cluster", "kubernetes"]


@pytest.fixture(scope="session", params=engines())
def server(request: pytest.FixtureRequest) -> Iterator[LogServer]:
    yield from running(request.param)


@pytest.fixture(scope="session")
def prefix(server: LogServer) -> str:
    return server.prefix()


@pytest.fixture(scope="session")
def shared_api(
    kubernetes: Path, server: LogServer, prefix: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Api]]:
    """Returns the shared API process. It is started on the first call, when the definitions are installed."""
    api = Api(kubernetes, server.url, prefix, tmp_path_factory.mktemp("api") / "api.log")

    def running() -> Api:
        return api if api.process else api.start()

    yield running
    if api.process:
        api.stop()
        api.check()


@pytest.fixture
async def log(server: LogServer, prefix: str) -> AsyncIterator[Log]:
    found = Log.connect(server.url, prefix=prefix)
    yield found
    await found.close()


@pytest.fixture
def api_process(
    kubernetes: Path, server: LogServer, prefix: str, tmp_path: Path, cluster: Cluster
) -> Iterator[Callable[..., Api]]:
    """Starts API processes on the test's log."""
    made: list[Api] = []

    def start(**environment: str) -> Api:
        api = Api(kubernetes, server.url, prefix, tmp_path / f"api-{len(made)}.log", **environment)
        made.append(api.start())
        return api

    yield start
    for api in made:
        api.stop()
    for api in made:
        api.check()


@pytest.fixture
async def world(cluster: Cluster, log: Log, shared_api: Callable[[], Api]) -> AsyncIterator[World]:
    async with opened(cluster, log, shared_api()) as world:
        yield world


@pytest.fixture
async def own_world(cluster: Cluster, log: Log, api_process: Callable[..., Api]) -> AsyncIterator[World]:
    """A world whose API process the test may stop and kill."""
    async with opened(cluster, log, api_process()) as world:
        yield world


@asynccontextmanager
async def opened(cluster: Cluster, log: Log, api: Api) -> AsyncIterator[World]:
    async with aiohttp.ClientSession() as http:
        world = World(cluster, log, api, http)
        await world.open()
        yield world
        await cluster.delete(NAMESPACES, world.namespace)
