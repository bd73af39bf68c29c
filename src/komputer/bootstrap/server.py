"""Serves an ASGI app on one listening socket until SIGTERM or SIGINT."""

import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
import uvicorn
from starlette.types import ASGIApp

from komputer.bootstrap import heap
from komputer.bootstrap.stopping import stop_signals
from komputer.http import descriptors, keepalive
from komputer.http import server as http
from komputer.http.limits import Limits
from komputer.http.protocol import HttpProtocol as HttpProtocol
from komputer.http.refusals import Refusal, as_error
from komputer.http.websocket import WebSocketProtocol

WS_MESSAGE_LIMIT_BYTES = 64 * 1024
"""The largest message that a client may send over a WebSocket. Such messages are read and discarded."""
WRITE_TIMEOUT_S = 60
"""How long a client may leave sent bytes unacknowledged before its connection is closed. Without a limit, a client that
stops reading, or a machine that disappears, would hold the connection for ever."""
SWITCH_S = 0.001
"""The interpreter's switch interval: how long a thread that parses a large body may block the event loop at a time.
Python's default is 5 ms."""
Ready = Callable[[], None]
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Endpoint:
    """The sockets of a server, and the parameters of its start and stop."""

    listening: socket.socket
    ready: Ready
    """Called once, as soon as requests are answered."""
    metrics: socket.socket | None = None
    """The listening socket of `/metrics`. None: metrics are not served."""
    grace_s: int = 2
    """Seconds that open requests may take to end after a stop signal."""


class UvicornServer(uvicorn.Server):
    """A uvicorn server that calls `ready` when it accepts requests. When it stops, it calls `drain` before it waits for
    open requests."""

    def __init__(self, config: uvicorn.Config, ready: Ready, drain: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready
        self._drain = drain

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            heap.freeze()
            self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at a signal, and restore the handlers at the end. uvicorn's own version also raises the signal again at
        the end, so a regular stop would look like a failure."""
        before = {number: signal.signal(number, self.handle_exit) for number in stop_signals()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._drain()
        await super().shutdown(sockets)


async def serve(
    app: ASGIApp,
    endpoint: Endpoint,
    *,
    drain: Callable[[], None] = lambda: None,
    limits: Limits | None = None,
    refusal: Refusal = as_error,
    protocol: type[HttpProtocol] = HttpProtocol,
    websockets: type[WebSocketProtocol] | None = None,
) -> None:
    """Serve `app` until a stop signal. Then `drain` is called, which must end the responses that do not end by
    themselves (streams); other requests may take `endpoint.grace_s`. Without `websockets`, upgrade requests are
    answered as plain HTTP. Raises `SystemExit` (3) if the app does not start."""
    descriptors.raise_limit()
    descriptors.log_usage()
    sys.setswitchinterval(SWITCH_S)
    for option in keepalive.socket_options(WRITE_TIMEOUT_S):
        endpoint.listening.setsockopt(*option)
    server = UvicornServer(
        http.config(
            app,
            limits=limits,
            refusal=refusal,
            lifespan="on",
            timeout_graceful_shutdown=endpoint.grace_s,
            protocol=protocol,
            ws=websockets or "none",
            ws_ping_interval=20,
            ws_ping_timeout=20,
            ws_max_size=WS_MESSAGE_LIMIT_BYTES,
            ws_per_message_deflate=False,
            loop="none",
        ),
        endpoint.ready,
        drain,
    )
    await server.serve(sockets=[endpoint.listening.dup()])
    if not server.started:
        raise SystemExit(3)
