"""The platform without a kubelet: a Kubernetes API (the local one, or that of `--kubeconfig`), a log, the operator in
its own process, API and gateway over loopback HTTP, and the test in the part of each agent's runtime."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from komputer import api
from komputer.domain.addresses import AddressRules
from komputer.events.log import Log
from komputer.kube import NAMESPACES, Cluster
from tests.contract.gateway.serving import Model, answers, serving
from tests.contract.gateway.world import World
from tests.contract.operator.conftest import cluster, kubernetes, log, operator, operator_process, prefix
from tests.contract.operator.world import Operator
from tests.openapi import checked
from tests.waiting import eventually

__all__ = ["cluster", "kubernetes", "log", "operator", "operator_process", "prefix"]


LOOPBACK = AddressRules(loopback=True, own_ports=frozenset({6443}))


@pytest.fixture
async def model() -> Model:
    return Model(answers(200, {"type": "message"}))


@pytest.fixture
async def world(cluster: Cluster, log: Log, operator: Operator, model: Model) -> AsyncIterator[World]:
    from komputer import gateway

    async with serving(model, lifespan="off") as model_url:
        settings = gateway.GatewaySettings(
            model_base_url=model_url, model_credential=gateway.always(None), addresses=LOOPBACK
        )
        app = gateway.app(settings, cluster, log)
        async with serving(app) as url, httpx.AsyncClient(timeout=30, verify=False) as http:
            world = World(cluster, log, app, url, model, http)
            await cluster.create(NAMESPACES, {"metadata": {"name": world.namespace}})
            yield world
            app.drain()
            await cluster.delete(NAMESPACES, world.namespace)


@asynccontextmanager
async def served(
    cluster: Cluster, log: Log, world: World, namespaces: tuple[str, ...] | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """A REST API that is ready; calls without a namespace go to the test's."""
    settings = api.ApiSettings(default_namespace=world.namespace, addresses=LOOPBACK, namespaces=namespaces)
    async with (
        serving(api.app(settings, cluster, log)) as url,
        httpx.AsyncClient(
            base_url=f"{url}/api/v1", timeout=30, verify=False, event_hooks={"response": [checked]}
        ) as client,
    ):

        async def is_ready() -> bool:
            return (await client.get(f"{url}/readyz")).status_code == 200

        await eventually(is_ready)
        yield client


@pytest.fixture
async def rest(cluster: Cluster, log: Log, world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with served(cluster, log, world) as client:
        yield client


@pytest.fixture
async def replica(cluster: Cluster, log: Log, world: World) -> AsyncIterator[httpx.AsyncClient]:
    """Another API as in a process of its own: it shares nothing with `rest` but Kubernetes and the log."""
    async with served(cluster, log, world) as client:
        yield client
