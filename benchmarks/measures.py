"""What is measured, each as rows of (what, figure, bound). Every load is bounded and goes to loopback only."""

import asyncio
import os
import platform
import socket
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil
import yaml
from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient

from tests.e2e.laptop import Laptop
from tests.e2e.platform import script

TASK = script({"say": "Done."})
CLIENTS = 8
QUIET_S = 3.0
"""How long a list must not have changed before it is measured."""


class Row(NamedTuple):
    what: str
    figure: str
    target: str


def milliseconds(values: list[float]) -> str:
    ordered = sorted(values)
    p50, p99 = statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    digits = 1 if p50 < 0.01 else 0
    return f"p50 {p50 * 1000:.{digits}f} ms, p99 {p99 * 1000:.{digits}f} ms (n={len(ordered)})"


def timed(work: Callable[[], object]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def starts(folder: Path, times: int) -> list[Row]:
    """From the command to the line `ready:`; the interpreter's own start included."""
    cold, warm = [], []
    for n in range(times):
        laptop = Laptop(folder / f"start{n}")
        cold.append(timed(laptop.start))
        laptop.stop()
        warm.append(timed(laptop.start))
        laptop.stop()
    return [
        Row("`up` to ready, new data directory", milliseconds(cold), ""),
        Row("`up` to ready, existing data directory", milliseconds(warm), "< 2 s"),
    ]


def moment(event: dict[str, object]) -> float:
    from datetime import datetime

    return datetime.fromisoformat(str(event["timestamp"])).timestamp()


def tasks(laptop: Laptop, times: int) -> list[Row]:
    """POST to the events' own timestamps (one clock, one machine), against the bare SDK on the same task and model."""
    created, first_start, first_end, assigned, warm_start, warm_end = ([] for _ in range(6))
    bare_first, bare_next = asyncio.run(bare(laptop, times))
    for n in range(times):
        begun = time.time()
        created.append(timed(lambda name=f"new-{n}": laptop.assign(name, TASK, role="worker")))  # type: ignore[misc]
        first_end.append(moment(laptop.end(f"new-{n}")) - begun)
        first_start.append(moment(laptop.event(f"new-{n}", "task_started")) - begun)
    for n in range(times):
        begun = time.time()
        assigned.append(timed(lambda: laptop.assign("new-0", TASK)))
        warm_end.append(moment(laptop.end("new-0", n + 2)) - begun)
        warm_start.append(moment(laptop.event("new-0", "task_started", n + 2)) - begun)
    laptop.http.patch("/agents/new-0", json={"role": "manager"}).raise_for_status()
    manager_end = []
    for n in range(times, 2 * times):
        begun = time.time()
        laptop.assign("new-0", TASK)
        manager_end.append(moment(laptop.end("new-0", n + 2)) - begun)
    over = statistics.median(warm_end) - statistics.median(bare_next)
    return [
        Row("POST → 201, new agent", milliseconds(created), "the Go version: p50 100 ms"),
        Row("POST → `task_started`, new agent", milliseconds(first_start), ""),
        Row("POST → `task_completed`, new agent", milliseconds(first_end), ""),
        Row("bare SDK, new session: start to result", milliseconds(bare_first), ""),
        Row("POST → 200, warm agent", milliseconds(assigned), ""),
        Row("POST → `task_started`, warm agent", milliseconds(warm_start), "p50 < 50 ms"),
        Row("POST → `task_completed`, warm agent", milliseconds(warm_end), "≤ 0.1 s above the bare SDK"),
        Row("bare SDK, resumed session: start to result", milliseconds(bare_next), ""),
        Row("warm task above the bare SDK (medians)", f"{over * 1000:+.0f} ms", "≤ +100 ms"),
        Row("POST → `task_completed`, warm manager", milliseconds(manager_end), ""),
    ]


async def bare(laptop: Laptop, times: int) -> tuple[list[float], list[float]]:
    """The same task by the SDK alone, with the options that the runtime uses where they cost time."""
    home = laptop.data_dir / "bare"
    home.mkdir()
    environment = {
        "ANTHROPIC_BASE_URL": laptop.address("model"),
        "ANTHROPIC_API_KEY": "none",
        "IS_SANDBOX": "1",
        "HOME": str(home),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    first: list[float] = []
    following: list[float] = []
    session: str | None = None
    for n in range(2 * times):
        resume = session if n >= times else None
        options = ClaudeAgentOptions(
            cwd=home,
            env=environment,
            model="claude-sonnet-4-6",
            permission_mode="bypassPermissions",
            setting_sources=[],
            tools=["Bash", "Read", "Write", "Edit"],
            resume=resume,
        )
        begun = time.monotonic()
        async with ClaudeSDKClient(options) as client:
            await client.query(TASK)
            async for message in client.receive_response():
                session = getattr(message, "session_id", session)
            (following if resume else first).append(time.monotonic() - begun)
    return first, following


def crowd(laptop: Laptop, count: int) -> None:
    """Create agents without a pod, up to `count`, and wait until their statuses are written.

    Their template does not exist, so the operator writes a condition and then leaves them alone.
    """
    kubeconfig = yaml.safe_load((laptop.data_dir / "kubeconfig").read_text())
    server, token = kubeconfig["clusters"][0]["cluster"]["server"], kubeconfig["users"][0]["user"]["token"]
    path = f"{server}/apis/komputer.komputer.ai/v1alpha1/namespaces/crowd/komputeragents"
    with httpx.Client(headers={"Authorization": f"Bearer {token}"}, trust_env=False) as client:
        known = len(laptop.http.get("/agents", params={"namespace": "crowd"}).json()["agents"])
        for n in range(known, count):
            spec = {"instructions": "Wait for a template that never comes. " * 4, "templateRef": "none"}
            metadata = {"name": f"idle-{n:04}", "namespace": "crowd"}
            kind = {"apiVersion": "komputer.komputer.ai/v1alpha1", "kind": "KomputerAgent"}
            client.post(path, json={**kind, "metadata": metadata, "spec": spec}).raise_for_status()
    shown, since = b"", time.monotonic()
    while time.monotonic() - since < QUIET_S or shown.count(b'"name"') < count:
        now = laptop.http.get("/agents", params={"namespace": "crowd"}).content
        if now != shown:
            shown, since = now, time.monotonic()
        time.sleep(0.2)


def _reader(port: int, deadline: float, times: list[float]) -> None:
    """One connection that asks again and again; reads bytes and parses nothing, so that it costs little."""
    ask = b"GET /api/v1/agents?namespace=crowd HTTP/1.1\r\nHost: localhost\r\n\r\n"
    buffer = memoryview(bytearray(1024 * 1024))
    with socket.create_connection(("127.0.0.1", port)) as connection:
        while time.monotonic() < deadline:
            begun = time.monotonic()
            connection.sendall(ask)
            got = connection.recv_into(buffer)
            head, _, _ = bytes(buffer[:1024]).partition(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            left = next(int(line[15:]) for line in lines if line.startswith(b"content-length:")) + len(head) + 4 - got
            while left > 0:
                left -= connection.recv_into(buffer)
            times.append(time.monotonic() - begun)


def lists(laptop: Laptop, counts: tuple[int, ...], seconds: float) -> list[Row]:
    """`GET /agents`, eight at once, while the agents stand still."""
    rows = []
    port = int(laptop.url.rsplit(":", 1)[1])
    api = laptop.part("api")
    for count in counts:
        crowd(laptop, count)
        time.sleep(3)
        size = len(laptop.http.get("/agents", params={"namespace": "crowd"}).content)
        times: list[float] = []
        used = api.cpu_times()
        with ThreadPoolExecutor(CLIENTS) as pool:
            deadline = time.monotonic() + seconds
            for done in [pool.submit(_reader, port, deadline, times) for _ in range(CLIENTS)]:
                done.result()
        after = api.cpu_times()
        share = (after.user + after.system - used.user - used.system) / seconds
        target = "≥ 300/s, p99 < 60 ms" if count == 1000 else ""
        rate = f"{len(times) / seconds:.0f} requests/s, {milliseconds(times)}"
        figure = f"{rate}, api {share:.0%} of a core, {size // 1000} kB"
        rows.append(Row(f"`GET /agents`, {count} agents, 8 at once", figure, target))
    return rows


def idle(laptop: Laptop, agents: int, seconds: float) -> list[Row]:
    """CPU and memory (PSS, MiB) of every part, and of the idle agents together."""
    for n in range(agents):
        laptop.assign(f"idle-{n}", TASK)
    for n in range(agents):
        laptop.end(f"idle-{n}", within_s=180)
    time.sleep(2)
    rows = []
    for part in ("valkey", "kubernetes", "model", "gateway", "api", "operator", "kubelet"):
        process = laptop.part(part)
        family = [process, *(process.children(recursive=True) if part == "valkey" else [])]
        rows.append(_used(f"{part}, {agents} idle agents", family, seconds))
    if agents:
        family = laptop.part("kubelet").children(recursive=True)
        together = _used(f"the {agents} idle agents together", family, seconds)
        memory = sum(process.memory_full_info().pss for process in family if process.is_running())
        rows.append(together._replace(figure=f"{together.figure}, {memory / 2**20 / agents:.0f} MiB each"))
    return rows


def _used(what: str, family: list[psutil.Process], seconds: float) -> Row:
    def spent() -> float:
        return sum(sum(process.cpu_times()[:2]) for process in family if process.is_running())

    before = spent()
    time.sleep(seconds)
    share = (spent() - before) / seconds
    memory = sum(process.memory_full_info().pss for process in family if process.is_running())
    return Row(what, f"{share:.1%} of a core, {memory / 2**20:.0f} MiB", "")


def machine() -> str:
    with open("/proc/cpuinfo") as file:
        name = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "unknown")
    memory = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} × {name}, {memory:.0f} GiB, Python {platform.python_version()}"
