"""python -m benchmarks.kubernetes KUBECONFIG AUDIT_LOG: the parts as processes against a real kube-apiserver without
nodes, as `make bench-kubernetes` starts it; writes `benchmarks/KUBERNETES.md`.

Pods are made and stay Pending: what is measured is ours and the API server's, not a kubelet's.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.measures import Row, machine, milliseconds
from komputer.kube import AGENTS, CLUSTER_TEMPLATES, CONFIGS, CRDS, NAMESPACES, PODS, Cluster
from komputer.resources import crds
from komputer.resources.errors import Conflict
from tests.fixtures.valkey import LogServer, engines

PARTS = ("api", "gateway", "operator")
BURST = 200
IDLE = (0, 100, 1000)
IDLE_S = 60.0
WRITES = ("create", "patch", "update", "delete")
PAGE = Path(__file__).with_name("KUBERNETES.md")
BOUNDS = """
## What bounds it

- **200 agents at once.** Each needs a disk, settings and a pod, then a status: four writes, each some milliseconds of
  etcd's. The API server, etcd and the operator share two cores here; the operator works on 32 agents side by side.
- **One agent.** The watch tells the operator, which writes disk and settings side by side, and then the pod.
- **Idle.** The parts watch; nothing polls. What is asked for each hour besides: renewals of the watches (one each two
  minutes), the operator's comparison of whole lists every five minutes, and its Lease every two seconds, whatever the
  number of agents.
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


async def install(cluster: Cluster) -> None:
    template = {"podSpec": {"containers": [{"name": "agent", "image": "none.invalid/agent"}]}}
    config = {"redis": {"address": "unix"}, "gatewayURL": "http://127.0.0.1:1"}
    wanted = [*((CRDS, crd) for crd in crds.manifests())]
    wanted += [(CLUSTER_TEMPLATES, {"metadata": {"name": "default"}, "spec": template})]
    wanted += [(CONFIGS, {"metadata": {"name": "default"}, "spec": config})]
    for kind, manifest in wanted:
        for _ in range(100):
            try:
                await cluster.create(kind, manifest)
            except Conflict:
                pass
            except Exception:  # border: the definition before it is not served yet
                await asyncio.sleep(0.1)
                continue
            break


@contextmanager
def running(kubeconfig: Path, redis: str) -> Iterator[dict[str, psutil.Process]]:
    """The three parts, ready."""
    ports = {part: free_port() for part in PARTS}
    environment = {**os.environ, "KOMPUTER_REDIS_URL": redis, "KUBECONFIG": str(kubeconfig)}
    environment |= {"KOMPUTER_AUTH": "none", "KOMPUTER_MODEL_BASE_URL": "http://127.0.0.1:1"}
    environment |= {"KOMPUTER_LOG_LEVEL": "warning", "KOMPUTER_LEASE": "default/bench"}
    processes = {
        part: subprocess.Popen(
            [sys.executable, "-m", "komputer.serve", part],
            env={**environment, "KOMPUTER_PORT": str(ports[part])},
        )
        for part in PARTS
    }
    try:
        for port in ports.values():
            deadline = time.monotonic() + 60
            while True:
                try:
                    if httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield {part: psutil.Process(each.pid) for part, each in processes.items()}
    finally:
        for each in processes.values():
            each.terminate()
        for each in processes.values():
            each.wait(30)


def agent(name: str, namespace: str) -> dict[str, Any]:
    spec = {"instructions": "Say hello.", "model": "claude-sonnet-4-6"}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


async def until_pods(cluster: Cluster, namespace: str, made: dict[str, float], count: int) -> list[float]:
    """From each agent's creation to its Pod object, as a watch tells it."""
    seen: dict[str, float] = {}
    listed = await cluster.list(PODS, namespace)
    async for event in cluster.watch(PODS, namespace, resource_version=listed.resource_version, timeout_s=300):
        if event.type == "ADDED":
            seen[event.manifest["metadata"]["name"].removesuffix("-pod")] = time.monotonic()
            if len(seen) == count:
                break
    return [seen[name] - made[name] for name in seen]


async def burst(cluster: Cluster, namespace: str, prefix: str, count: int) -> list[float]:
    made: dict[str, float] = {}
    waiting = asyncio.create_task(until_pods(cluster, namespace, made, count))
    await asyncio.sleep(0.5)

    async def create(n: int) -> None:
        name = f"{prefix}-{n}"
        made[name] = time.monotonic()
        await cluster.create(AGENTS, agent(name, namespace))

    await asyncio.gather(*(create(n) for n in range(count)))
    return await asyncio.wait_for(waiting, 300)


def asked(audit: Path, since: float) -> Counter[str]:
    """Requests of our parts since then, by verb and resource; the log names everybody as the kubeconfig's user."""
    found: Counter[str] = Counter()
    with audit.open() as lines:
        for entry in map(json.loads, lines):
            at = datetime.fromisoformat(entry["requestReceivedTimestamp"]).timestamp()
            agent_of = entry.get("userAgent", "")
            if at >= since and ("komputer" in agent_of or "kopf" in agent_of):
                about = entry.get("objectRef") or {}
                found[f"{entry['verb']} {about.get('resource', '-')}"] += 1
    return found


def load(processes: dict[str, psutil.Process], seconds: float) -> dict[str, tuple[float, float]]:
    """Per cent of a core, and MiB, of each part."""
    before = {part: sum(process.cpu_times()[:2]) for part, process in processes.items()}
    time.sleep(seconds)
    return {
        part: (
            (sum(process.cpu_times()[:2]) - before[part]) / seconds * 100,
            process.memory_info().rss / 2**20,
        )
        for part, process in processes.items()
    }


async def measured(kubeconfig: Path, audit: Path) -> list[Row]:
    rows: list[Row] = []
    cluster = Cluster.connect(kubeconfig)
    await install(cluster)
    server = LogServer(engines()[0], Path(tempfile.mkdtemp()) / "valkey").start()
    with running(kubeconfig, server.url) as processes:
        for namespace in ("single", "burst", "idle"):
            await cluster.create(NAMESPACES, {"metadata": {"name": namespace}})
        singles = []
        for n in range(20):
            singles += await burst(cluster, "single", f"one{n}", 1)
        rows.append(
            Row("KomputerAgent created → its Pod exists, one", milliseconds(singles), "the Go version: p50 37 ms")
        )
        begun, wall = time.time(), time.monotonic()
        times = await burst(cluster, "burst", "many", BURST)
        took = time.monotonic() - wall - 0.5
        rows.append(
            Row(
                f"{BURST} at once → all Pods exist",
                f"{took:.1f} s; each {milliseconds(times)}",
                "the Go version: 12 s, p50 5.4 s, p99 11 s",
            )
        )
        await asyncio.sleep(6)
        calls = asked(audit, begun)
        writes = sum(
            count for what, count in calls.items() if what.split()[0] in ("create", "patch", "update", "delete")
        )
        rows.append(Row("API calls per agent until then", f"{(writes - BURST) / BURST:.1f} writes by the operator", ""))
        have = 0
        for count in IDLE:
            await asyncio.gather(*(cluster.create(AGENTS, agent(f"idle-{n}", "idle")) for n in range(have, count)))
            have = count
            await asyncio.sleep(20 if count else 2)
            begun = time.time()
            figures = await asyncio.to_thread(load, processes, IDLE_S)
            for part, (percent, mib) in figures.items():
                rows.append(
                    Row(f"{part}, {count} more agents that wait", f"{percent:.1f}% of a core, {mib:.0f} MiB", "")
                )
            calls = asked(audit, begun)
            about = [what for what in calls if not what.startswith(("watch", "list")) and not what.endswith(" leases")]
            each = sum(calls[what] for what in about) / max(count, 1) * 3600 / IDLE_S
            every = ", ".join(f"{n} × {what}" for what, n in sorted(calls.items())) or "none"
            figure = f"{each:.2f} beyond watches, lists and the Lease; in {IDLE_S:.0f} s: {every}"
            rows.append(Row(f"requests per agent and hour, {count} more that wait", figure, "0"))
    server.kill()
    await cluster.close()
    return rows


def main(arguments: list[str]) -> int:
    rows = asyncio.run(measured(Path(arguments[0]), Path(arguments[1])))
    made = f"Made by `make bench-kubernetes` on {datetime.now(UTC):%Y-%m-%d}: {machine()}."
    head = f"# Against a real control plane\n\n{made}\n\n"
    lines = ["| what | measured | target |", "|---|---|---|"]
    lines += [f"| {row.what} | {row.figure} | {row.target} |" for row in rows]
    text = head + "kube-apiserver, etcd and the parts share the cores.\n\n" + "\n".join(lines) + "\n" + BOUNDS
    PAGE.write_text(text, "utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
