"""The platform without a kubelet: a Kubernetes API (the local one, or that of `--kubeconfig`), a log, the operator in
its own process, API and gateway over loopback HTTP, and the test in the part of each agent's runtime."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from komputer import api
from komputer.connectors.addresses import AddressRules
from komputer.events.log import Log
from komputer.kube import NAMESPACES, Cluster
from tests.contract.gateway.serving import WITHIN_S, Model, answers, serving
from tests.contract.gateway.world import World
from tests.contract.operator.conftest import cluster, kubernetes, log, operator, operator_process, prefix
from tests.contract.operator.world import Operator

__all__ = ["cluster", "kubernetes", "log", "operator", "operator_process", "prefix"]


LOOPBACK = AddressRules(loopback=True, own_ports=frozenset({6443}))


@pytest.fixture
async def model() -> Model:
    return Model(answers(200, {"type": "message"}))


@pytest.fixture
async def world(cluster: Cluster, log: Log, operator: Operator, model: Model) -> AsyncIterator[World]:
    from komputer import gateway

    async with serving(model, lifespan="off") as model_url:
        settings = gateway.Settings(model_base_url=model_url, model_credential=None, addresses=LOOPBACK)
        app = gateway.app(settings, cluster, log)
        async with serving(app) as url, httpx.AsyncClient(timeout=30) as http:
            world = World(cluster, log, app, url, model, http)
            await cluster.create(NAMESPACES, {"metadata": {"name": world.namespace}})
            yield world
            app.drain()
            await cluster.delete(NAMESPACES, world.namespace)


@pytest.fixture
async def rest(cluster: Cluster, log: Log, world: World) -> AsyncIterator[httpx.AsyncClient]:
    """The REST API; calls without a namespace go to the test's."""
    settings = api.Settings(default_namespace=world.namespace, addresses=LOOPBACK)
    async with (
        serving(api.app(settings, cluster, log)) as url,
        httpx.AsyncClient(base_url=f"{url}/api/v1", timeout=30) as client,
    ):
        async with asyncio.timeout(WITHIN_S):
            while (await client.get(f"{url}/readyz")).status_code != 200:  # noqa: ASYNC110 - nobody tells when
                await asyncio.sleep(0.02)
        yield client
