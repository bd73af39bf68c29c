"""A Kubernetes API (the local one, or that of `--kubeconfig`), a log server, and the real operator between them."""

import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from komputer.domain import crds, names
from komputer.domain.errors import Conflict
from komputer.events.log import Log
from komputer.kube import CLUSTER_TEMPLATES, CONFIGS, CRDS, NAMESPACES, Cluster
from tests.contract.operator.world import Operator, World
from tests.fixtures.valkey import LogServer

INSTALLED: set[Path] = set()
"""API servers that have our definitions and the defaults: installing costs 0.1 s, too much for every test."""


@pytest.fixture(scope="session")
def kubernetes(kubeconfig: Path) -> Path:
    """The kubeconfig of the API server that all contract tests share. Agents of other packages are deleted, and no
    operator runs during their tests: `operator_process` ends with its package."""
    return kubeconfig


@pytest.fixture(scope="session")
def prefix() -> str:
    return f"operator-{uuid4().hex[:8]}"


@pytest.fixture
async def cluster(kubernetes: Path) -> AsyncIterator[Cluster]:
    found = Cluster.connect(kubernetes)
    try:
        if kubernetes not in INSTALLED:
            await install(found)
            INSTALLED.add(kubernetes)
        yield found
    finally:
        await found.close()


@pytest.fixture
async def log(valkey: LogServer, prefix: str) -> AsyncIterator[Log]:
    found = Log.connect(valkey.url, prefix=prefix)
    yield found
    await found.close()


@pytest.fixture
async def world(cluster: Cluster, log: Log) -> World:
    namespace = f"op-{uuid4().hex[:8]}"
    await cluster.create(NAMESPACES, {"metadata": {"name": namespace}})
    return World(cluster, log, namespace)


@pytest.fixture(scope="package")
def operator_process(
    kubernetes: Path, valkey: LogServer, prefix: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """Ends with its package: another, with a log of its own, would account the same agents on the API server of
    `--kubeconfig`."""
    found = Operator(kubernetes, valkey.url, prefix, tmp_path_factory.mktemp("operator") / "log")
    yield found
    if found.is_running:
        assert found.stop() == 0, found.output.read_text()[-3000:]
    said = found.output.read_text()
    assert "Traceback" not in said, said


@pytest.fixture
def operator(operator_process: Operator, cluster: Cluster) -> Operator:
    """Running, whatever the test before did to it."""
    if not operator_process.is_running:
        operator_process.start()
    return operator_process


async def install(cluster: Cluster) -> None:
    """What a chart brings."""
    known = {crd["metadata"]["name"] for crd in (await cluster.list(CRDS)).items}
    for definition in crds.manifests():
        if definition["metadata"]["name"] not in known:
            await cluster.create(CRDS, definition)
    for definition in crds.manifests():
        await _established(cluster, definition["metadata"]["name"])
    pod_spec = {"containers": [{"name": "agent", "image": "komputer-agent"}]}
    template = {"metadata": {"name": names.DEFAULT_TEMPLATE}, "spec": {"podSpec": pod_spec}}
    config = {
        "metadata": {"name": names.CONFIG_NAME},
        "spec": {"redis": {"address": "unused"}, "gatewayURL": "http://gateway:8081"},
    }
    for kind, manifest in ((CLUSTER_TEMPLATES, template), (CONFIGS, config)):
        with contextlib.suppress(Conflict):
            await cluster.create(kind, manifest)


async def _established(cluster: Cluster, name: str) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        found = await cluster.get(CRDS, name)
        conditions = found.get("status", {}).get("conditions", [])
        if any(c["type"] == "Established" and c["status"] == "True" for c in conditions):
            return
    raise TimeoutError(name)
