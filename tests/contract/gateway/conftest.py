"""The local Kubernetes API (or one that `--kubeconfig` names), Valkey, and a gateway of each test's own."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from komputer import gateway
from komputer.domain import crds
from komputer.domain.addresses import AddressRules
from komputer.events.log import Log
from komputer.kube import Cluster
from tests.contract.gateway.serving import Model, answers, serving
from tests.contract.gateway.world import CREDENTIAL, OWN_PORT, World, installed
from tests.fixtures.valkey import LogServer

INSTALLED: set[Path] = set()
"""API servers that have our definitions."""


@pytest.fixture
async def cluster(kubeconfig: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster.connect(kubeconfig)
    try:
        if kubeconfig not in INSTALLED:
            await installed(cluster, crds.manifests())
            INSTALLED.add(kubeconfig)
        yield cluster
    finally:
        await cluster.close()


@pytest.fixture
async def log(valkey: LogServer) -> AsyncIterator[Log]:
    log = Log.connect(valkey.url, prefix=valkey.prefix())
    yield log
    await log.close()


@pytest.fixture
async def model() -> Model:
    return Model(answers(200, {"type": "message"}))


@pytest.fixture
def heartbeat_s() -> float:
    return 10.0


@pytest.fixture
def vertex() -> gateway.Vertex | None:
    return None


@pytest.fixture
def limits() -> dict[str, Any]:
    """Of what is under way at once, where they are not the product's."""
    return {}


@pytest.fixture
async def world(
    cluster: Cluster,
    log: Log,
    model: Model,
    heartbeat_s: float,
    vertex: gateway.Vertex | None,
    limits: dict[str, Any],
) -> AsyncIterator[World]:
    """Reviewed tokens are trusted for as long as the product does."""
    async with serving(model, lifespan="off") as model_url:
        settings = gateway.GatewaySettings(
            model_base_url=model_url,
            model_credential=gateway.always(gateway.ModelCredential(kind="api_key", value=CREDENTIAL)),
            vertex=vertex,
            heartbeat_s=heartbeat_s,
            token_refused_for=timedelta(0),
            addresses=AddressRules(loopback=True, own_ports=frozenset({OWN_PORT})),
        )
        app = gateway.app(replace(settings, **limits), cluster, log)
        async with serving(app) as url, httpx.AsyncClient(timeout=30, verify=False) as http:
            world = World(cluster, log, app, url, model, http)
            await world.open()
            yield world
            app.drain()
            await world.close()
