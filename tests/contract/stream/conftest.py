"""The real API in a process of its own, over the local Kubernetes API and every log server that this machine has."""

from collections.abc import AsyncIterator, Callable, Iterator
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


@pytest.fixture
def prefix(server: LogServer) -> str:
    return server.prefix()


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
async def world(cluster: Cluster, log: Log, api_process: Callable[..., Api]) -> AsyncIterator[World]:
    async with aiohttp.ClientSession() as http:
        world = World(cluster, log, api_process(), http)
        await world.open()
        yield world
        await cluster.delete(NAMESPACES, world.namespace)
