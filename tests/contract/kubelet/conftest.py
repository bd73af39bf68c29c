"""A kubelet in this process with an API server in another. Pods are shell scripts."""

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from komputer.domain.errors import KomputerError, NotFound
from komputer.kube import PODS, PVCS, Cluster, Manifest
from komputer.local.kubelet import Kubelet, Sandbox
from tests.waiting import eventually


class Machine:
    """The API server and the kubelet of one machine; either can be stopped and started."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.data = data
        self.cluster: Cluster
        self.kubeconfig = folder / "kubeconfig"
        self.database = folder / "objects.db"
        self._log = folder / "log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._server: subprocess.Popen[str] | None = None
        self._stop: asyncio.Event | None = None
        self._kubelet: asyncio.Task[None] | None = None

    def start_server(self) -> None:
        command = [sys.executable, "-m", "komputer.local.apiserver", "--database", str(self.database)]
        options = ["--port", str(self._port), "--kubeconfig", str(self.kubeconfig)]
        with self._log.open("ab") as output:
            self._server = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=output, text=True)
        assert self._server.stdout
        assert self._server.stdout.readline(), self._log.read_text()

    def lose_objects(self) -> None:
        """Restart the server with an empty database."""
        self.stop_server(signal.SIGKILL)
        for file in self.database.parent.glob("objects.db*"):
            file.unlink()
        self.start_server()

    def stop_server(self, number: int = signal.SIGTERM) -> None:
        if self._server:
            self._server.send_signal(number)
            self._server.wait(20)
            assert self._server.stdout
            self._server.stdout.close()

    async def start_kubelet(self) -> None:
        self._stop, ready = asyncio.Event(), asyncio.Event()
        images = {"shell": ["/bin/sh", "-c"]}
        kubelet = Kubelet(self.cluster, self.data, sandbox=Sandbox.NONE, images=images)
        self._kubelet = asyncio.create_task(kubelet.run(self._stop, ready.set))
        async with asyncio.timeout(30):
            await ready.wait()

    async def stop_kubelet(self) -> None:
        if self._kubelet and self._stop:
            self._stop.set()
            async with asyncio.timeout(30):
                await self._kubelet
            self._kubelet = None

    # ---- objects ----
    async def make_claim(self, name: str = "disk") -> Manifest:
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        return await self.cluster.create(PVCS, {"metadata": {"name": name, "namespace": "default"}, "spec": spec})

    async def make_pod(self, script: str, name: str = "pod") -> Manifest:
        """Create a pod. If the claim `disk` exists, its volume is at $DISK."""
        spec: dict[str, Any] = {"containers": [{"name": "main", "image": "shell", "args": [script]}]}
        with contextlib.suppress(NotFound):
            await self.cluster.get(PVCS, "disk", "default")
            spec["volumes"] = [{"name": "disk", "persistentVolumeClaim": {"claimName": "disk"}}]
            spec["containers"][0]["volumeMounts"] = [{"name": "disk", "mountPath": "/disk"}]
            spec["containers"][0]["env"] = [{"name": "DISK", "value": "/disk"}]
        return await self.cluster.create(PODS, {"metadata": {"name": name, "namespace": "default"}, "spec": spec})

    async def container(self, name: str = "pod") -> Manifest:
        pod = await self.cluster.get(PODS, name, "default")
        return next(iter((pod.get("status") or {}).get("containerStatuses", ())), {})

    async def until(self, holds: Callable[[Manifest], object], name: str = "pod") -> Manifest:
        """Wait until `holds` is true of the pod's container."""

        async def found() -> bool:
            with contextlib.suppress(KomputerError):
                return bool(holds(await self.container(name)))
            return False

        await eventually(found)
        return await self.container(name)

    async def until_gone(self, kind: Any, name: str) -> None:
        async def gone() -> bool:
            try:
                await self.cluster.get(kind, name, "default")
            except NotFound:
                return True
            return False

        await eventually(gone)

    def volume(self) -> Path | None:
        found = [path for path in (self.data / "volumes").iterdir() if not path.name.startswith(".")]
        return found[0] if found else None

    def text(self, name: str = "pod") -> str:
        return "".join(path.read_text() for path in (self.data / "logs" / "pods").glob(f"default_{name}_*/main.log"))


def is_running(container: Manifest) -> bool:
    return "running" in container.get("state", {})


def waits(container: Manifest) -> str:
    """Return reason and message of a waiting container; empty for any other."""
    waiting = container.get("state", {}).get("waiting") or {}
    return f"{waiting.get('reason', '')}: {waiting.get('message', '')}" if waiting else ""


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    found = Machine(tmp_path, tmp_path / "data")
    async for each in run(found):
        yield each


async def run(machine: Machine) -> AsyncIterator[Machine]:
    machine.start_server()
    machine.cluster = Cluster.connect(machine.kubeconfig)
    await machine.start_kubelet()
    yield machine
    await machine.stop_kubelet()
    await machine.cluster.close()
    machine.stop_server()
