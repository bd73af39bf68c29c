"""API processes, agents and their logs, and readers that follow them."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp

from komputer.events.log import Log, LogKey
from komputer.kube import AGENTS, NAMESPACES, Cluster
from tests.contract.log.events import Producer, said
from tests.waiting import eventually

WITHIN_S = 60.0
Json = dict[str, Any]


class Api:
    """One API process on a port of its own; may be stopped, killed and started again there."""

    def __init__(self, kubeconfig: Path, log_url: str, prefix: str, output: Path, **environment: str) -> None:
        self._arguments = [str(kubeconfig), log_url, prefix]
        self._output = output
        self._environment = environment
        self.port = 0
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> "Api":
        command = [sys.executable, "-m", "tests.contract.stream.serve", *self._arguments, str(self.port)]
        with self._output.open("ab") as output:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=output, text=True, env={**os.environ, **self._environment}
            )
        assert self.process.stdout
        self.port = int(self.process.stdout.readline() or self._failed())
        return self

    def _failed(self) -> int:
        raise AssertionError(self._output.read_text()[-3000:])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1"

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self._wait()

    def stop(self) -> None:
        assert self.process
        if self.process.poll() is None:
            self.process.terminate()
            self._wait()

    def check(self) -> None:
        """It had no trouble that it did not expect."""
        said_so = self._output.read_text()
        assert "Traceback" not in said_so, said_so[-4000:]

    def _wait(self) -> None:
        assert self.process
        assert self.process.stdout
        self.process.wait(20)
        self.process.stdout.close()


@dataclass
class World:
    """One test's: namespaces, a log with a prefix of its own, an API process, a client."""

    cluster: Cluster
    log: Log
    api: Api
    http: aiohttp.ClientSession
    namespace: str = field(default_factory=lambda: f"st-{uuid4().hex[:8]}")

    async def open(self) -> None:
        await self.cluster.create(NAMESPACES, {"metadata": {"name": self.namespace}})
        await self.answers("/readyz", self.api.url.removesuffix("/api/v1"))

    async def answers(self, path: str, base: str) -> None:
        """Waits until it does, with 200."""

        async def is_there() -> bool:
            return await self.status(path, base) == 200

        await eventually(is_there)

    async def status(self, path: str, base: str | None = None) -> int:
        try:
            async with self.http.get((base or self.api.url) + path) as answer:
                return answer.status
        except aiohttp.ClientError:
            return 0

    async def agent(self, name: str = "ada", namespace: str | None = None, api: Api | None = None) -> Producer:
        """A new agent that the API knows, and the one who writes its log (without a hello yet)."""
        where = namespace or self.namespace
        metadata = {"name": name, "namespace": where}
        made = await self.cluster.create(AGENTS, {"metadata": metadata, "spec": {"instructions": "x", "model": "m"}})
        uid = made["metadata"]["uid"]
        base = (api or self.api).url
        await self.answers(f"/agents/{name}?namespace={where}", base)
        return Producer(self.log, LogKey(where, name, uid))

    async def writer(self, name: str = "ada", namespace: str | None = None) -> Producer:
        made = await self.agent(name, namespace)
        await made.hello()
        return made

    async def get(self, path: str, **query: str) -> Json:
        async with self.http.get(self.api.url + path, params=query) as answer:
            assert answer.status == 200, await answer.text()
            found: Json = await answer.json()
            return found

    async def rest(self, name: str = "ada", **query: str) -> Json:
        asked = {"namespace": self.namespace, **query}
        async with self.http.get(f"{self.api.url}/agents/{name}/events", params=asked) as answer:
            found: Json = await answer.json()
            return found

    @asynccontextmanager
    async def ws(self, name: str = "ada", api: Api | None = None, **query: str) -> AsyncIterator["Socket"]:
        asked = {"namespace": self.namespace, **query}
        url = f"{(api or self.api).url}/agents/{name}/ws"
        asked = {key: value for key, value in asked.items() if value}
        async with self.http.ws_connect(url, params=asked, max_msg_size=0) as socket:
            yield Socket(socket)

    @asynccontextmanager
    async def sse(self, path: str, last: str | None = None, **query: str) -> AsyncIterator["Sse"]:
        headers = {"Last-Event-ID": last} if last else {}
        timeout = aiohttp.ClientTimeout(total=None)
        asked: Json = {"params": query, "headers": headers, "timeout": timeout, "read_bufsize": 2**20}
        async with self.http.get(self.api.url + path, **asked) as answer:
            assert answer.status == 200, await answer.text()
            assert answer.headers["content-type"].startswith("text/event-stream")
            yield Sse(answer)


@dataclass
class Socket:
    ws: aiohttp.ClientWebSocketResponse

    async def next(self) -> Json:
        async with asyncio.timeout(WITHIN_S):
            message = await self.ws.receive()
        assert message.type is aiohttp.WSMsgType.TEXT, (message, self.ws.close_code)
        found: Json = json.loads(message.data)
        return found

    async def take(self, count: int) -> list[Json]:
        return [await self.next() for _ in range(count)]

    async def code(self) -> int | None:
        """Of the close frame; frames before it are read and dropped."""
        return (await self.end())[0]

    async def end(self) -> tuple[int | None, str]:
        """Code and reason of the close frame."""
        async with asyncio.timeout(WITHIN_S):
            while (message := await self.ws.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
        return self.ws.close_code, str(message.extra or "")


@dataclass
class Sse:
    answer: aiohttp.ClientResponse
    last: str | None = None

    async def next(self) -> Json:
        """The next event with data; `last` is what a browser would come back with."""
        data: str | None = None
        async with asyncio.timeout(WITHIN_S):
            while raw := await self.answer.content.readline():
                line = raw.decode().rstrip("\n")
                if line.startswith("id: "):
                    self.last = line[4:]
                elif line.startswith("data: "):
                    data = line[6:]
                elif not line and data is not None:
                    found: Json = json.loads(data)
                    return found
        raise EOFError("the stream has ended")

    async def end(self) -> str:
        """The data of the message `end`, behind which nothing may come."""
        async with asyncio.timeout(WITHIN_S):
            rest = (await self.answer.content.read()).decode()
        _, _, data = rest.partition("event: end\ndata: ")
        assert data.endswith("\n\n"), rest
        return data.strip()

    async def take(self, count: int) -> list[Json]:
        return [await self.next() for _ in range(count)]


async def publish(writer: Producer, first: int, count: int, *, size: int = 0, batch: int = 10) -> None:
    """Texts `first`, `first + 1` …, through whatever happens to the log meanwhile."""
    sent = 0
    while sent < count:
        size_now = min(batch, count - sent)
        texts = [f"{first + sent + i}" + "x" * size for i in range(size_now)]
        assert await writer.post(*(said("t", text) for text in texts)) == ["ok"] * size_now
        sent += size_now


def numbers(events: list[Json]) -> list[int]:
    return [int(event["payload"]["content"].rstrip("x")) for event in events]


def stop_reading(ws: aiohttp.ClientWebSocketResponse) -> None:
    """Stop reading, as a program that hangs."""
    ws._reader._protocol.pause_reading()


def go_on_reading(ws: aiohttp.ClientWebSocketResponse) -> None:
    ws._reader._protocol.resume_reading()


def cut(ws: aiohttp.ClientWebSocketResponse) -> None:
    """Close the connection, as a program that is killed."""
    transport = ws._reader._protocol.transport
    assert transport
    transport.abort()


def narrow(_: object) -> socket.socket:
    """A connection that holds little."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    made.setblocking(False)
    return made
