"""A platform that the chart has installed on the node of `hack/kubernetes/node.sh`. Runs within the node's network."""

import json
import os
import signal
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.e2e.platform import Json, Platform, files_below, until
from tests.openapi import checked_sync

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "komputer"
VALUES = ROOT / "hack" / "kubernetes" / "node" / "values.yaml"
NAMESPACE = "komputer"
TINI = "/usr/bin/tini"
PROCESSES = {
    "api": "-m komputer.serve api",
    "gateway": "-m komputer.serve gateway",
    "operator": "-m komputer.serve operator",
    "valkey": "valkey-server",
}


class Cluster(Platform):
    """`node` is the folder that the node was started in; `token` lets its bearer do everything through the API."""

    ip = "10.88.0.1"

    def __init__(self, node: Path, token: str | None) -> None:
        self.node = node
        self.token = token
        self.kubeconfig = node / "controlplane" / "admin.kubeconfig"
        service = json.loads(self.kubectl("-n", NAMESPACE, "get", "service", "komputer-api", "-o", "json"))
        address = f"http://{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}"
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.http = httpx.Client(
            base_url=f"{address}/api/v1",
            timeout=30,
            trust_env=False,
            headers=headers,
            event_hooks={"response": [checked_sync]},
        )

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        command = ["kubectl", f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def upgrade(self, *options: str) -> None:
        """The chart anew, with the node's values and these options."""
        command = [os.environ["HELM"], "--kubeconfig", str(self.kubeconfig), "upgrade", "komputer", str(CHART)]
        command += ["-n", NAMESPACE, "-f", str(VALUES), "--wait", "--timeout", "180s", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr

    # ---- processes: containers are processes of this machine --------------------------------------------------------
    def part_processes(self, part: str) -> list[psutil.Process]:
        found = [each for each in _in_pods() if PROCESSES[part] in _command(each)]
        return [each for each in found if not _command(each).startswith(TINI)]

    def kill_part(self, part: str, number: int = signal.SIGKILL) -> None:
        if part == "kubernetes":
            self._restart_apiserver(number)
            return
        for process in self.part_processes(part):
            with suppress(psutil.NoSuchProcess):  # its parent took it along
                process.send_signal(number)

    def kill(self) -> None:
        for part in PROCESSES:
            self.kill_part(part)

    def start(self) -> "Cluster":
        """Pods count as ready for a moment after they were killed, and a Service forgets them later still."""
        until(lambda: all(self._api_answers() for _ in range(10)), "the API answers")
        self.ready()
        return self

    def connected(self) -> httpx.Client:
        """A connection of its own: to one replica or another."""
        return httpx.Client(base_url=self.http.base_url, headers=self.http.headers, trust_env=False)

    def _api_answers(self) -> bool:
        try:
            with self.connected() as http:
                return http.get("/agents", params={"limit": 1}).status_code == 200
        except httpx.TransportError:
            return False

    def _restart_apiserver(self, number: int) -> None:
        with self.without_apiserver(number):
            pass

    @contextmanager
    def without_apiserver(self, number: int = signal.SIGKILL) -> Iterator[None]:
        """Nobody else starts it again here. Controllers and scheduler are started anew with it, as they do themselves
        where they have lost their lease: one that goes on may wait for minutes before it looks at anything again. So
        may the provisioner of disks."""
        command = self._stop("kube-apiserver", number)
        try:
            yield
        finally:
            self._start("kube-apiserver", command)
            until(lambda: self._answers(), "the API server answers", 60)
            for part in ("kube-controller-manager", "kube-scheduler"):
                self._start(part, self._stop(part, signal.SIGKILL))
            self.kubectl(
                "-n", "local-path", "delete", "pod", "-l", "app=provisioner", "--grace-period=1", "--wait=false"
            )

    @contextmanager
    def paused(self, part: str) -> Iterator[None]:
        """A part of the control plane that stands still."""
        process = psutil.Process(int((self.kubeconfig.parent / f"{part}.pid").read_text()))
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def _stop(self, part: str, number: int) -> list[str]:
        """Its command."""
        process = psutil.Process(int((self.kubeconfig.parent / f"{part}.pid").read_text()))
        command = process.cmdline()
        process.send_signal(number)
        psutil.wait_procs([process], 20)
        return command

    def _start(self, part: str, command: list[str]) -> None:
        folder = self.kubeconfig.parent
        with (folder / f"{part}.log").open("ab") as output:
            started = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        (folder / f"{part}.pid").write_text(f"{started.pid}\n")
        _ours.append(started)

    def _answers(self) -> bool:
        try:
            return self.kubernetes("GET", "/api/v1/namespaces/default") is not None
        except httpx.TransportError:
            return False

    def pod_processes(self) -> list[psutil.Process]:
        """Without those that only look after another."""
        found = [(each, _command(each)) for each in _in_pods()]
        return [each for each, command in found if "komputer.serve" not in command and not command.startswith(TINI)]

    # ---- traces -----------------------------------------------------------------------------------------------------
    def workspace(self, agent: str) -> Path | None:
        return next((self.node / "volumes").glob(f"*_{agent}-pvc"), None)

    def logs(self) -> str:
        files = sorted((self.node / "pod-logs").glob("*/*/*.log"))
        return "\n".join(f"--- {file.parent.parent.name}\n{file.read_text(errors='replace')[-3000:]}" for file in files)

    def traces(self) -> str:
        """Logs, agents' disks, and what stands in etcd but for Secrets; Redis' file."""
        files = [found for top in ("pod-logs", "volumes") for found in files_below(self.node / top)]
        texts = [content.decode("latin-1") for _, content in files]
        kinds = "pods,configmaps,persistentvolumeclaims,events,komputeragents,komputerconnectors,komputerconfigs"
        return "\n".join([*texts, self.kubectl("get", kinds, "-A", "-o", "json")])

    # ---- the Kubernetes API -----------------------------------------------------------------------------------------
    def kubernetes_url(self) -> str:
        config = json.loads(self.kubeconfig.read_text())
        return str(config["clusters"][0]["cluster"]["server"])

    def kubernetes(self, method: str, path: str, body: Json | None = None, status: int = 200) -> Json | None:
        folder = self.kubeconfig.parent
        trust = ssl.create_default_context(cafile=folder / "ca.crt")
        trust.load_cert_chain(folder / "admin.crt", folder / "admin.key")
        with httpx.Client(verify=trust, trust_env=False) as client:
            answer = client.request(method, self.kubernetes_url() + path, json=body)
        return dict(answer.json()) if answer.status_code == status else None

    def emptied(self) -> None:
        """No agents, connectors and secrets of tests before."""
        for kind in ("komputeragents", "komputerconnectors"):
            self.kubectl("delete", kind, "--all", "--all-namespaces", "--wait", "--timeout=60s")
        self.kubectl("delete", "secrets", "--all-namespaces", "-l", "komputer.ai/managed-by=komputer-ai")

    def ready(self) -> None:
        """Waits until every pod of the platform is ready."""

        def is_ready() -> bool:
            pods: list[Any] = json.loads(self.kubectl("-n", NAMESPACE, "get", "pods", "-l", LABEL, "-o", "json"))[
                "items"
            ]
            conditions = [{c["type"]: c["status"] for c in pod["status"].get("conditions", ())} for pod in pods]
            return bool(pods) and all(each.get("Ready") == "True" for each in conditions)

        until(is_ready, "all pods are ready", 120)


LABEL = "app.kubernetes.io/part-of=komputer"
_ours: list[subprocess.Popen[bytes]] = []


def _in_pods() -> list[psutil.Process]:
    """Processes of this machine that run in a pod, by their cgroup."""
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal():
            continue
        try:
            if "/kubepods/" in Path(entry.path, "cgroup").read_text():
                found.append(psutil.Process(int(entry.name)))
        except (OSError, psutil.Error):
            continue
    return found


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
