"""Runs the stand-in in a process, with one socket and one uvicorn server."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from komputer.http import server as http
from komputer.http.refusals import as_messages_api
from komputer.offline.endpoint import application


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals like uvicorn, but do not raise them again at the end: `run` returns, and its caller decides
        how the process exits."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run(port: int, ready: Callable[[int], None] | None) -> None:
    """See `komputer.offline.serve`."""
    with socket.create_server(("127.0.0.1", port), backlog=1024) as listener:
        chosen: int = listener.getsockname()[1]
        config = http.config(
            application(), refusal=as_messages_api, lifespan="off", log_level="critical", timeout_graceful_shutdown=1
        )
        _Server(config, lambda: ready(chosen) if ready else None).run(sockets=[listener])
