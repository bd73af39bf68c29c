"""How soon events reach those who follow: WebSockets of a running platform, events written straight into its log.

Latency is counted from the event's own timestamp (the moment at which the log took it) to its arrival, on one clock.
"""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime

import aiohttp
import httpx
import psutil
import yaml

from benchmarks.measures import Row, crowd
from komputer.events import schema
from komputer.events.log import Log, LogKey, Numbered
from komputer.local import valkey
from tests.e2e.laptop import Laptop

NAMESPACE = "crowd"
RATE_HZ = 100
WITHIN_S = 60.0


class Writer:
    """A runtime's side of the log."""

    def __init__(self, log: Log, key: LogKey) -> None:
        self.log, self.key, self.term, self.n = log, key, 0, 0

    async def hello(self) -> None:
        self.term = (await self.log.hello(self.key, old_term=0, asked=[], floor=None)).term

    async def write(self, count: int = 1, text: str = "hello") -> None:
        events = [Numbered(self.n + i, schema.AgentText(task_id="bench", content=text)) for i in range(1, count + 1)]
        await self.log.append(self.key, self.term, events)
        self.n += count


class Bench:
    """A platform, its log, and agents without pods in it."""

    def __init__(self, laptop: Laptop, log: Log, http: aiohttp.ClientSession) -> None:
        self.laptop, self.log, self.http = laptop, log, http

    def kubernetes(self) -> tuple[httpx.Client, str]:
        """A client, and the path of the agents."""
        kubeconfig = yaml.safe_load((self.laptop.data_dir / "kubeconfig").read_text())
        server, token = kubeconfig["clusters"][0]["cluster"]["server"], kubeconfig["users"][0]["user"]["token"]
        path = f"{server}/apis/komputer.komputer.ai/v1alpha1/namespaces/{NAMESPACE}/komputeragents"
        return httpx.Client(headers={"Authorization": f"Bearer {token}"}, trust_env=False), path

    def all(self) -> list[Writer]:
        """Of all agents that there are."""
        client, path = self.kubernetes()
        with client:
            found = [agent["metadata"] for agent in client.get(path).json()["items"]]
        return [Writer(self.log, LogKey(NAMESPACE, metadata["name"], metadata["uid"])) for metadata in found]

    def writer(self, name: str) -> Writer:
        """Of a new agent."""
        client, path = self.kubernetes()
        kind = {"apiVersion": "komputer.komputer.ai/v1alpha1", "kind": "KomputerAgent"}
        spec = {"instructions": "Wait.", "templateRef": "none"}
        body = {**kind, "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}
        with client:
            found = client.post(path, json=body)
        while self.laptop.http.get(f"/agents/{name}", params={"namespace": NAMESPACE}).status_code != 200:
            time.sleep(0.01)
        return Writer(self.log, LogKey(NAMESPACE, name, found.json()["metadata"]["uid"]))

    @asynccontextmanager
    async def watching(self, name: str, count: int) -> AsyncIterator[list[aiohttp.ClientWebSocketResponse]]:
        url = f"{self.laptop.url}/api/v1/agents/{name}/ws?namespace={NAMESPACE}"
        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(self.http.ws_connect(url, max_msg_size=0)) for _ in range(count)]

    async def latencies(self, writer: Writer, readers: int, seconds: float) -> list[float]:
        """Of every event at every reader."""
        count = int(seconds * RATE_HZ)
        times: list[float] = []
        async with self.watching(writer.key.name, readers) as sockets, asyncio.timeout(WITHIN_S + seconds):
            reading = [asyncio.create_task(_taken(socket, count, times)) for socket in sockets]
            begun = time.monotonic()
            for n in range(count):
                await asyncio.sleep(max(0.0, begun + n / RATE_HZ - time.monotonic()))
                await writer.write()
            await asyncio.gather(*reading)
        return times


async def _taken(ws: aiohttp.ClientWebSocketResponse, count: int, times: list[float]) -> None:
    for _ in range(count):
        text = (await ws.receive_str())[:300]
        arrived = time.time()
        _, _, rest = text.partition('"timestamp":"')
        times.append(arrived - datetime.fromisoformat(rest[:26] + "+00:00").timestamp())


def streams(laptop: Laptop, idle: int, seconds: float) -> list[Row]:
    """All rows; `idle` agents with logs of their own stand beside those that are measured."""
    return asyncio.run(_streams(laptop, idle, seconds))


async def _streams(laptop: Laptop, idle: int, seconds: float) -> list[Row]:
    crowd(laptop, idle)
    log = Log.connect(valkey.url(laptop.data_dir / "valkey"))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        bench = Bench(laptop, log, http)
        try:
            others = bench.all()[:idle]
            rows = [await _memory(bench, 200)]
            ada = bench.writer("bench-ada")
            await ada.hello()
            for readers, target in ((1, "p99 < 5 ms"), (50, "p99 < 10 ms")):
                figure = finer(await bench.latencies(ada, readers, seconds))
                rows.append(Row(f"event → WebSocket, {RATE_HZ}/s, {readers} readers", figure, target))
            for other in others:
                await other.hello()
            for readers, target in ((1, "p99 < 5 ms"), (50, "p99 < 10 ms")):
                figure = finer(await bench.latencies(ada, readers, seconds))
                what = f"event → WebSocket, {RATE_HZ}/s, {readers} readers, {len(others)} idle logs"
                rows.append(Row(what, figure, target))
            rows.append(await _stuck(bench, seconds))
            rows.append(await _first(bench, 10))
            rows += [await _burst(bench, n) for n in (1, 50)]
            rows.append(await _page(bench))
            return rows
        finally:
            await log.close()


def finer(times: list[float]) -> str:
    ordered = sorted(times)
    p50, p99 = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms (n={len(ordered)})"


async def _memory(bench: Bench, count: int) -> Row:
    api = bench.laptop.part("api")
    writer = bench.writer("bench-memory")
    await writer.hello()

    def used() -> int:
        return int(psutil.Process(api.pid).memory_full_info().uss)

    async with bench.watching("bench-memory", 5):
        await writer.write()
    before = used()
    async with bench.watching("bench-memory", count):
        await writer.write()
        await asyncio.sleep(0.5)
        after = used()
    return Row(
        f"memory of the API per watcher ({count} of one agent)", f"{(after - before) / count / 1024:.0f} KiB", ""
    )


async def _stuck(bench: Bench, seconds: float) -> Row:
    """One takes nothing while events of 16 kB fill all that lies between."""
    ada = bench.writer("bench-stuck")
    await ada.hello()
    without = await bench.latencies(ada, 10, seconds)

    def narrow(_: object) -> socket.socket:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        made.setblocking(False)
        return made

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(socket_factory=narrow, limit=0)) as slow:
        url = f"{bench.laptop.url}/api/v1/agents/bench-stuck/ws?namespace={NAMESPACE}"
        async with slow.ws_connect(url) as ws:
            ws._reader._protocol.pause_reading()
            await ada.write(400, "x" * 16_000)
            times = await bench.latencies(ada, 10, seconds)
            ws._reader._protocol.resume_reading()
    figure = f"{finer(times)}; without it {finer(without)}"
    return Row("the same, 10 readers, beside one that takes nothing", figure, "as without it")


async def _first(bench: Bench, times: int) -> Row:
    got: list[float] = []
    for n in range(times):
        new = bench.writer(f"bench-new-{time.time_ns()}-{n}")
        async with bench.watching(new.key.name, 1) as (ws,), asyncio.timeout(WITHIN_S):
            await new.hello()
            await new.write()
            await _taken(ws, 1, got)
    return Row("first event of a new agent → WebSocket", finer(got), "< 50 ms")


async def _burst(bench: Bench, readers: int) -> Row:
    """5000 events as fast as the log takes them."""
    writer = bench.writer(f"bench-burst-{time.time_ns()}")
    await writer.hello()
    times: list[float] = []
    async with bench.watching(writer.key.name, readers) as sockets, asyncio.timeout(WITHIN_S):
        reading = [asyncio.create_task(_taken(ws, 5000, times)) for ws in sockets]
        begun = time.monotonic()
        for _ in range(50):
            await writer.write(100)
        written = time.monotonic() - begun
        await asyncio.gather(*reading)
        read = time.monotonic() - begun
    figure = f"written in {written:.2f} s, all read in {read:.2f} s, {len(times)} of {5000 * readers}"
    return Row(f"burst of 5000 events, {readers} readers", figure, "nothing lost")


async def _page(bench: Bench) -> Row:
    writer = bench.writer("bench-page")
    await writer.hello()
    for _ in range(100):
        await writer.write(100)
    times = []
    for _ in range(200):
        begun = time.monotonic()
        page = bench.laptop.http.get("/agents/bench-page/events", params={"namespace": NAMESPACE, "limit": 200})
        times.append(time.monotonic() - begun)
        assert len(page.json()["events"]) == 200
    return Row("`GET …/events?limit=200` of 10 000", finer(times), "p99 < 10 ms")
