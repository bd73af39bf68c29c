"""Serves an ASGI app until SIGTERM, as gently as clients allow."""

import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
import uvicorn
from starlette.types import ASGIApp

from komputer.http import descriptors, keepalive
from komputer.http import server as http
from komputer.http.limits import Limits
from komputer.http.protocol import HttpProtocol as HttpProtocol
from komputer.http.refusals import Refusal, as_error
from komputer.http.websocket import WebSocketProtocol
from komputer.serve import heap

WS_MESSAGE_LIMIT_BYTES = 64 * 1024
"""Of what a client sends over a WebSocket; it is read and dropped."""
TAKE_WITHIN_S = 60
"""A client that takes nothing of what was sent for so long, or that is gone without a word, is cut off; else it would
hold its connection for ever, also after its stream was given up."""
SWITCH_S = 0.001
"""How long a thread that parses a large body holds up the event loop at once; Python's default is 5 ms."""
Ready = Callable[[], None]
log = structlog.get_logger(__name__)


class Announcing(uvicorn.Server):
    """Says when it serves."""

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
        """uvicorn raises the signal again at its end; a process that has ended what it was told to has not failed."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._drain()
        await super().shutdown(sockets)


def announce(listening: socket.socket) -> Ready:
    """Says in the log that we serve, and where: the port may have been a free one."""
    host, port = listening.getsockname()[:2]
    return lambda: log.info("ready", host=host, port=port)


async def serve(
    app: ASGIApp,
    listening: socket.socket,
    ready: Ready,
    drain: Callable[[], None] = lambda: None,
    *,
    grace_s: int = 2,
    limits: Limits | None = None,
    refusal: Refusal = as_error,
    protocol: type[HttpProtocol] = HttpProtocol,
    websockets: type[WebSocketProtocol] | None = None,
) -> None:
    """Serves until SIGTERM; requests under way are given `grace_s` to end. `drain` is to end those that never do.
    Without `websockets` requests for one are answered as HTTP."""
    descriptors.raise_limit()
    descriptors.log_usage()
    sys.setswitchinterval(SWITCH_S)
    for option in keepalive.socket_options(TAKE_WITHIN_S):
        listening.setsockopt(*option)
    server = Announcing(
        http.config(
            app,
            limits=limits,
            refusal=refusal,
            lifespan="on",
            timeout_graceful_shutdown=grace_s,
            protocol=protocol,
            ws=websockets or "none",
            ws_ping_interval=20,
            ws_ping_timeout=20,
            ws_max_size=WS_MESSAGE_LIMIT_BYTES,
            ws_per_message_deflate=False,
            loop="none",
        ),
        ready,
        drain,
    )
    await server.serve(sockets=[listening.dup()])
    if not server.started:
        raise SystemExit(3)
