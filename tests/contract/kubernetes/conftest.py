"""The server under test, the kinds of the tests, and a namespace for each test."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.contract.kubernetes.cluster import Api, answered, eventually, read_kubeconfig
from tests.contract.kubernetes.room import CRDS, NAMESPACES, Room, established
from tests.contract.kubernetes.widgets import gadgets, widgets


@pytest.fixture(scope="session")
def kubeconfig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The kubeconfig of the server under test. A local one is stopped at the end, and must have run until then."""
    if given := request.config.getoption("kubeconfig", default=None):
        yield given.resolve()
        return
    folder = tmp_path_factory.mktemp("apiserver")
    path, log = folder / "kubeconfig", folder / "log"
    command = [sys.executable, "-m", "komputer.local.apiserver"]
    options = ["--database", str(folder / "objects.db"), "--port", "0", "--kubeconfig", str(path)]
    with log.open("wb") as output, subprocess.Popen([*command, *options], stdout=output, stderr=output) as server:
        try:
            eventually(lambda: path.exists() or server.poll() is not None, bool)
            assert server.poll() is None, log.read_text()
            _wait_until_ready(path)
            yield path
            assert server.poll() is None, log.read_text()
        finally:
            server.terminate()
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                server.kill()
    assert "Traceback" not in log.read_text(), log.read_text()


def _wait_until_ready(kubeconfig: Path) -> None:
    end = time.monotonic() + 30
    while True:
        api = Api(read_kubeconfig(kubeconfig))
        try:
            if api.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        finally:
            api.close()
        assert time.monotonic() < end, "the local API server was not ready within 30 s"
        time.sleep(0.05)


@pytest.fixture(scope="session")
def api(kubeconfig: Path) -> Iterator[Api]:
    """The administrator's connection."""
    api = Api(read_kubeconfig(kubeconfig))
    yield api
    api.close()


@pytest.fixture(scope="session")
def group(api: Api) -> Iterator[str]:
    """An API group for this session, with Widget and Gadget served in version v1; removed at the end."""
    group = f"c{uuid4().hex[:8]}.contract.komputer.ai"
    definitions = [widgets(group), gadgets(group)]
    for definition in definitions:
        answered(api.post(CRDS, definition), 201)
    for definition in definitions:
        established(api, definition["metadata"]["name"])
    yield group
    for definition in definitions:
        api.delete(f"{CRDS}/{definition['metadata']['name']}")


@pytest.fixture
def room(api: Api, group: str) -> Iterator[Room]:
    """A namespace for this test. Its removal is requested at the end but not awaited."""
    namespace = f"contract-{uuid4().hex[:12]}"
    answered(api.post(NAMESPACES, {"metadata": {"name": namespace}}), 201)
    yield Room(api=api, namespace=namespace, group=group)
    api.delete(f"{NAMESPACES}/{namespace}")
