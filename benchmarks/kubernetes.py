"""python -m benchmarks.kubernetes KUBECONFIG AUDIT_LOG: the parts as processes against a real kube-apiserver without
nodes, as `make bench-kubernetes` starts it; writes `benchmarks/KUBERNETES.md`.

There is no kubelet: this program says that Pods run, and starts and ends tasks, so that what is measured is ours and
the API server's.
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
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.measures import Row, machine, milliseconds
from komputer.domain import crds
from komputer.domain.agent import Agent
from komputer.domain.errors import Conflict
from komputer.events.log import Log, LogKey
from komputer.kube import AGENTS, CLUSTER_TEMPLATES, CONFIGS, CRDS, NAMESPACES, PODS, Cluster
from tests.contract.log.events import completed, producer, started
from tests.contract.operator.world import running as running_pod
from tests.fixtures.valkey import server_of

PARTS = ("api", "gateway", "operator")
BURST = 200
IDLE = (0, 100, 1000)
IDLE_S = 60.0
WRITES = ("create", "patch", "update", "delete")
PAGE = Path(__file__).with_name("KUBERNETES.md")
BOUNDS = """
## What bounds it

- **200 agents at once.** Each takes six writes: disk, settings, pod, and the status and Kubernetes Events that tell of
  them, each some milliseconds of etcd's. The API server, etcd and the operator share two cores here; the operator works
  on 32 agents side by side.
- **One agent.** The watch tells the operator, which writes disk and settings side by side, and then the pod.
- **Idle.** The parts watch; nothing polls. What is asked for besides, whatever the number of agents: renewals of the
  watches (one each two minutes), and the operator's Lease every two seconds.
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
def running(kubeconfig: Path, redis: str) -> Iterator[tuple[dict[str, psutil.Process], dict[str, int]]]:
    """The three parts, ready, and their ports; as `metrics` that of the operator's figures."""
    metrics, ports = free_port(), {part: free_port() for part in PARTS}
    environment = {**os.environ, "KOMPUTER_REDIS_URL": redis, "KUBECONFIG": str(kubeconfig)}
    environment |= {"KOMPUTER_AUTH": "none", "KOMPUTER_MODEL_BASE_URL": "http://127.0.0.1:1"}
    environment |= {"KOMPUTER_LOG_LEVEL": "warning", "KOMPUTER_LEASE": "default/bench"}
    processes = {
        part: subprocess.Popen(
            [sys.executable, "-m", "komputer.serve", part],
            env={
                **environment,
                "KOMPUTER_PORT": str(ports[part]),
                "KOMPUTER_METRICS_PORT": str(metrics if part == "operator" else 0),
            },
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
        yield {part: psutil.Process(each.pid) for part, each in processes.items()}, ports | {"metrics": metrics}
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


async def settled(cluster: Cluster, log: Log, namespace: str) -> None:
    """Every agent there is idle: its Pod runs, its first task has been done and is accounted."""
    done: set[str] = set()
    at_once = asyncio.Semaphore(16)

    async def work(name: str, uid: str, task: str) -> None:
        async with at_once:
            await cluster.merge_patch(PODS, f"{name}-pod", namespace, {"status": running_pod()}, "status")
            runtime = await producer(log, LogKey(namespace, name, uid))
            await runtime.post(started(task), completed(task))
            done.add(name)

    deadline = time.monotonic() + 300
    while True:
        assert time.monotonic() < deadline
        agents = [Agent.model_validate(each) for each in (await cluster.list(AGENTS, namespace)).items]
        new = [each for each in agents if each.metadata.name not in done]
        await asyncio.gather(
            *(
                work(each.metadata.name, each.metadata.uid, each.status.manifest_task.id)
                for each in new
                if each.status.manifest_task
            )
        )
        if all(each.status.ended_tasks and each.status.phase == "Running" for each in agents):
            return
        await asyncio.sleep(0.5)


async def emptied(cluster: Cluster) -> None:
    """All agents are gone, and all their Pods."""
    for _ in range(600):
        if not ((await cluster.list(AGENTS)).items or (await cluster.list(PODS)).items):
            return
        await asyncio.sleep(0.5)
    raise TimeoutError("agents are still there after 5 minutes")


def turns(port: int) -> dict[str, float]:
    """The operator's own figures of its turns: how many were shorter than each bound, how many there were."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text):
        if family.name == "controller_runtime_reconcile_time_seconds":
            for sample in family.samples:
                if sample.labels["controller"] == "komputeragent" and sample.name.endswith("_bucket"):
                    found[sample.labels["le"]] = sample.value
    return found


def bound(before: dict[str, float], after: dict[str, float], share: float) -> str:
    """The smallest bound of the histogram that so many turns are within."""
    count = after["+Inf"] - before["+Inf"]
    return next(f"{float(le) * 1000:.0f} ms" for le in after if after[le] - before[le] >= share * count)


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
    server = server_of("valkey", Path(tempfile.mkdtemp()) / "valkey").start()
    log = Log.connect(server.url)
    with running(kubeconfig, server.url) as (processes, ports):
        for namespace in ("single", "burst", "idle"):
            await cluster.create(NAMESPACES, {"metadata": {"name": namespace}})
        singles = []
        for n in range(20):
            singles += await burst(cluster, "single", f"one{n}", 1)
        rows.append(
            Row("KomputerAgent created → its Pod exists, one", milliseconds(singles), "the Go version: p50 37 ms")
        )
        begun, wall, before = time.time(), time.monotonic(), turns(ports["metrics"])
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
        after = turns(ports["metrics"])
        figure = f"p50 within {bound(before, after, 0.5)}, p99 within {bound(before, after, 0.99)}"
        rows.append(Row(f"the operator's turns meanwhile ({after['+Inf'] - before['+Inf']:.0f})", figure, ""))
        calls = asked(audit, begun)
        writes = sum(
            count for what, count in calls.items() if what.split()[0] in ("create", "patch", "update", "delete")
        )
        rows.append(Row("API calls per agent until then", f"{(writes - BURST) / BURST:.1f} writes by the operator", ""))
        for namespace in ("single", "burst"):
            await cluster.delete(NAMESPACES, namespace)
        await emptied(cluster)
        have = 0
        for count in IDLE:
            await asyncio.gather(*(cluster.create(AGENTS, agent(f"idle-{n}", "idle")) for n in range(have, count)))
            have = count
            await settled(cluster, log, "idle")
            await asyncio.sleep(20 if count else 2)
            begun = time.time()
            figures = await asyncio.to_thread(load, processes, IDLE_S)
            for part, (percent, mib) in figures.items():
                rows.append(Row(f"{part}, {count} idle agents", f"{percent:.1f}% of a core, {mib:.0f} MiB", ""))
            calls = asked(audit, begun)
            about = [what for what in calls if not what.startswith(("watch", "list")) and not what.endswith(" leases")]
            each = sum(calls[what] for what in about) / max(count, 1) * 3600 / IDLE_S
            every = ", ".join(f"{n} × {what}" for what, n in sorted(calls.items())) or "none"
            figure = f"{each:.2f} beyond watches, lists and the Lease; in {IDLE_S:.0f} s: {every}"
            rows.append(Row(f"requests per agent and hour, {count} idle", figure, "0"))
    await log.close()
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
