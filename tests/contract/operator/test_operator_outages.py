"""The operator outlives its surroundings."""

import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from komputer.events.log import Log
from komputer.kube import NAMESPACES, PODS, Cluster
from tests.contract.operator.conftest import install
from tests.contract.operator.world import Operator, World
from tests.fixtures.valkey import LogServer, server_of


class ApiServer:
    """A local one at a fixed address, that can die and come back."""

    def __init__(self, folder: Path) -> None:
        self.kubeconfig = folder / "kubeconfig"
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "komputer.local.apiserver", "--database", str(self._folder / "objects.db")]
        options = ["--port", str(self._port), "--kubeconfig", str(self.kubeconfig)]
        with (self._folder / "log").open("ab") as output:
            self._process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=output, text=True)
        assert self._process.stdout
        assert self._process.stdout.readline(), (self._folder / "log").read_text()

    def kill(self) -> None:
        assert self._process
        self._process.kill()
        self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()


@pytest.fixture
def api_server(tmp_path: Path) -> Iterator[ApiServer]:
    found = ApiServer(tmp_path)
    found.start()
    yield found
    found.kill()


@pytest.fixture
def own_operator(api_server: ApiServer, valkey: LogServer, tmp_path: Path) -> Iterator[Operator]:
    found = Operator(api_server.kubeconfig, valkey.url, valkey.prefix(), tmp_path / "operator.log")
    yield found
    if found.is_running:
        found.kill()
    assert "Traceback" not in found.output.read_text(), found.output.read_text()


async def test_what_was_deleted_while_the_watches_were_broken_is_noticed(
    api_server: ApiServer, own_operator: Operator
) -> None:
    cluster = Cluster.connect(api_server.kubeconfig)
    log = Log.connect(own_operator.redis, prefix=own_operator.prefix)
    try:
        await install(cluster)
        await cluster.create(NAMESPACES, {"metadata": {"name": "team"}})
        world = World(cluster, log, "team")
        own_operator.start()
        await world.apply()
        first = await world.until(PODS, "ada-pod", lambda _: True)
        await world.until_pod_waits()
        assert own_operator.process
        own_operator.process.send_signal(signal.SIGSTOP)
        api_server.kill()
        api_server.start()
        await cluster.delete(PODS, "ada-pod", "team", grace_s=0)
        own_operator.process.send_signal(signal.SIGCONT)
        await world.until(PODS, "ada-pod", lambda m: bool(m["metadata"]["uid"] != first["metadata"]["uid"]))
        await world.apply("eve")
        await world.until(PODS, "eve-pod", lambda _: True)
    finally:
        await cluster.close()
        await log.close()


@pytest.fixture
def own_valkey() -> Iterator[LogServer]:
    """Below /tmp: a Unix socket's path is short."""
    with tempfile.TemporaryDirectory(prefix="komputer-op-", dir="/tmp") as folder:
        server = server_of("valkey", Path(folder) / "data")
        server.start()
        yield server
        server.stop()


async def test_agents_get_pods_while_the_log_is_away_and_are_accounted_when_it_is_back(
    api_server: ApiServer, own_valkey: LogServer, tmp_path: Path
) -> None:
    operator = Operator(api_server.kubeconfig, own_valkey.url, "away", tmp_path / "operator.log")
    cluster = Cluster.connect(api_server.kubeconfig)
    log = Log.connect(own_valkey.url, prefix="away")
    try:
        await install(cluster)
        await cluster.create(NAMESPACES, {"metadata": {"name": "team"}})
        world = World(cluster, log, "team")
        operator.start()
        own_valkey.kill()
        await world.apply()
        await world.until(PODS, "ada-pod", lambda _: True)
        task = await world.until_recorded()
        await world.change({"cancelTaskID": task})
        own_valkey.start()
        await world.until_accounted(task)
        assert [kind for kind, _ in await world.events()] == ["task_cancelled"]
    finally:
        if operator.is_running:
            operator.kill()
        await cluster.close()
        await log.close()
