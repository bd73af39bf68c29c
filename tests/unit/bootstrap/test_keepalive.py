"""Both ends of a connection without a time limit notice a peer that disappeared."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from komputer.bootstrap.server import Endpoint, serve
from komputer.domain.addresses import AddressRules
from komputer.gateway import GatewaySettings, always
from komputer.gateway.model.upstream import Upstream
from komputer.kube.connection import open_connection
from komputer.runtime.gateway_client import GatewayClient
from komputer.services.connectors.egress import EgressClient
from tests.unit.kube.server import config

OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
)
WITHIN_A_MINUTE = [1, 30, 10, 3, 60_000]
Meanwhile = Callable[[], None]


async def begins_and_waits(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


@asynccontextmanager
async def served() -> AsyncIterator[int]:
    """The port of an app that is served as api and gateway are."""
    is_ready = asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        running = asyncio.create_task(serve(begins_and_waits, Endpoint(listening, is_ready.set)))
        await is_ready.wait()
        try:
            yield listening.getsockname()[1]
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            await running


def ends(port: int) -> tuple[list[int], list[int]]:
    """The options of the one connection to `port`: of its client's socket, and of its server's. Both are ours."""
    found: dict[str, list[int]] = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            one = socket.socket(fileno=os.dup(int(name)))
        except OSError:  # no socket, or the directory's own descriptor
            continue
        with one:
            try:
                here, there = one.getsockname()[1], one.getpeername()[1]
            except (OSError, IndexError):  # a listening one, or no address of the internet
                continue
            if port in (here, there):
                assert found.setdefault("server" if here == port else "client", options(one)) == options(one)
    return found["client"], found["server"]


def options(one: socket.socket) -> list[int]:
    return [one.getsockopt(*option) for option in OPTIONS]


async def a_runtime_asks(port: int, meanwhile: Meanwhile, folder: Path) -> None:
    door = GatewayClient(f"http://127.0.0.1:{port}", folder / "token")
    async with door.http.stream("GET", "/"):
        meanwhile()
    await door.close()


async def a_connector_is_called(port: int, meanwhile: Meanwhile, _: Path) -> None:
    outward = EgressClient(AddressRules(loopback=True))
    await outward.start()
    async with outward.request("GET", f"http://127.0.0.1:{port}/", [], None):
        meanwhile()
    await outward.close()


async def the_model_is_asked(port: int, meanwhile: Meanwhile, _: Path) -> None:
    settings = GatewaySettings(model_base_url=f"http://127.0.0.1:{port}", model_credential=always(None))
    upstream = Upstream(settings)
    await upstream.start()
    async with upstream.post("/", "", [], b""):
        meanwhile()
    await upstream.close()


@pytest.mark.parametrize("call", [a_runtime_asks, a_connector_is_called, the_model_is_asked])
async def test_both_ends_notice_within_a_minute_that_the_other_is_gone(
    call: Callable[[int, Meanwhile, Path], Awaitable[None]], tmp_path: Path
) -> None:
    seen: list[tuple[list[int], list[int]]] = []
    async with served() as port, asyncio.timeout(20):
        await call(port, lambda: seen.append(ends(port)), tmp_path)
    assert seen == [(WITHIN_A_MINUTE, WITHIN_A_MINUTE)]


async def test_a_watch_notices_within_half_a_minute_that_the_server_is_gone(tmp_path: Path) -> None:
    async with served() as port, asyncio.timeout(20):
        (tmp_path / "kubeconfig").write_text(json.dumps(config(f"http://127.0.0.1:{port}")))
        async with open_connection(tmp_path / "kubeconfig") as http, http.stream("GET", "/"):
            client, _ = ends(port)
    assert client == [1, 15, 5, 3, 30_000]
