"""The HTTP servers that clients and agents reach, each in a thread, with limits short enough to wait for in a test."""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from komputer import api, gateway
from komputer.bootstrap.server import UvicornServer
from komputer.events.log import Log
from komputer.http import server as http
from komputer.http.limits import Limits
from komputer.http.refusals import as_error
from komputer.kube import Cluster
from komputer.local.apiserver import ApiServer, ServerCredentials, as_status
from komputer.runtime.gateway_client import GatewayClient
from komputer.runtime.proxy import Forwarder

LIMITS = Limits(
    head_s=1.0,
    idle_s=1.5,
    body_window_s=1.0,
    drain_s=1.0,
    linger_s=1.0,
    connections=24,
    connections_per_address=16,
)
WITHIN_S = 30.0
NAMES = ("api", "gateway", "kubernetes", "forwarder")
Served = AsyncIterator[int]


@dataclass(frozen=True)
class Server:
    """A running server. `path` is answered with `status` without authentication."""

    name: str
    port: int
    path: str
    status: int

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=WITHIN_S)

    def ask(self, sent: bytes) -> bytes:
        """Send bytes and return everything that is received until the server closes the connection."""
        with self.connect() as connection:
            # The server may refuse and close the connection before everything is sent.
            sending = threading.Thread(target=_send, args=(connection, sent))
            sending.start()
            try:
                return everything(connection)
            finally:
                sending.join(WITHIN_S)

    def head(self, method: str = "GET", path: str | None = None, *fields: str) -> bytes:
        lines = [f"{method} {path or self.path} HTTP/1.1", "Host: 127.0.0.1", *fields, "", ""]
        return "\r\n".join(lines).encode()

    def answers(self) -> bool:
        status, _, _ = parsed(self.ask(self.head("GET", None, "Connection: close")))
        return status == self.status

    def code(self, body: bytes) -> str:
        """Return the code of an error that was refused below the application."""
        error = json.loads(body)
        if self.name == "kubernetes":
            return str(error["details"]["causes"][0]["reason"])
        return str(error["code"])


def _send(connection: socket.socket, sent: bytes) -> None:
    try:
        connection.sendall(sent)
    except OSError:
        return


def everything(connection: socket.socket) -> bytes:
    got = bytearray()
    try:
        while chunk := connection.recv(65536):
            got += chunk
    except ConnectionResetError:
        pass
    return bytes(got)


def parsed(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """Return status, header fields and body of one response."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split(" ")[1]), fields, body


@contextmanager
def served(name: str, kubeconfig: Path, redis: str, folder: Path) -> Iterator[Server]:
    """Return the server of that name, with the other services that it needs for the test."""
    ready, stop = threading.Event(), threading.Event()
    found: list[int] = []

    async def run() -> None:
        async with MAKERS[name](kubeconfig, redis, folder) as port:
            found.append(port)
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    try:
        assert ready.wait(WITHIN_S), f"the {name} server did not start"
        yield Server(name, found[0], "/healthz", 401 if name == "forwarder" else 200)
    finally:
        stop.set()
        thread.join(WITHIN_S)


@asynccontextmanager
async def _api(kubeconfig: Path, redis: str, folder: Path) -> Served:
    async with _parts(kubeconfig, redis) as (cluster, log):
        made = api.app(api.ApiSettings(), cluster, log)
        async with _running(made, as_error, made.state.streams.drain, ws=api.WebSocketProtocol) as port:
            yield port


@asynccontextmanager
async def _gateway(kubeconfig: Path, redis: str, folder: Path) -> Served:
    async with _parts(kubeconfig, redis) as (cluster, log):
        settings = gateway.GatewaySettings(model_base_url="http://127.0.0.1:1", model_credential=gateway.always(None))
        made = gateway.app(settings, cluster, log)
        async with _running(made, as_error, made.drain) as port:
            yield port


@asynccontextmanager
async def _kubernetes(kubeconfig: Path, redis: str, folder: Path) -> Served:
    made = ApiServer(folder / "objects.db", ServerCredentials("admin"))
    async with _running(made.app(), as_status, made.stop_watches) as port:
        yield port


@asynccontextmanager
async def _forwarder(kubeconfig: Path, redis: str, folder: Path) -> Served:
    door = GatewayClient("http://127.0.0.1:1", folder / "token")
    forwarder = Forwarder(door, LIMITS)
    await forwarder.start()
    try:
        yield int(forwarder.url.rsplit(":", 1)[1])
    finally:
        await forwarder.close()
        await door.close()


MAKERS: dict[str, Callable[[Path, str, Path], Any]] = {
    "api": _api,
    "gateway": _gateway,
    "kubernetes": _kubernetes,
    "forwarder": _forwarder,
}


@asynccontextmanager
async def _parts(kubeconfig: Path, redis: str) -> AsyncIterator[tuple[Cluster, Log]]:
    cluster, log = Cluster.connect(kubeconfig), Log.connect(redis, prefix="http")
    try:
        yield cluster, log
    finally:
        await cluster.close()
        await log.close()


class _InThread(UvicornServer):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # signals are delivered to the main thread only


@asynccontextmanager
async def _running(app: Any, refusal: Any, drain: Callable[[], None], **others: Any) -> Served:
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listening:
        config = http.config(app, limits=LIMITS, refusal=refusal, lifespan="on", timeout_graceful_shutdown=1, **others)
        started = asyncio.Event()
        server = _InThread(config, started.set, drain)
        running = asyncio.create_task(server.serve(sockets=[listening]))
        async with asyncio.timeout(WITHIN_S):
            await started.wait()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            await running
