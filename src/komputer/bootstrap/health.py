"""`/healthz` and `/readyz` of a process that serves nothing else over HTTP."""

import socket
from types import TracebackType

from aiohttp import web

from komputer.bootstrap.server import Ready


class HealthServer:
    """An HTTP server for Kubernetes' probes. `/readyz` answers 503 until `set_ready` is called."""

    def __init__(self, listening: socket.socket, ready: Ready) -> None:
        self._listening = listening
        self._ready = ready
        self._is_ready = False
        app = web.Application()
        app.add_routes([web.get("/healthz", self._healthz), web.get("/readyz", self._readyz)])
        self._runner = web.AppRunner(app, access_log=None)

    def set_ready(self) -> None:
        """Report the process as ready. The first call calls `ready`, later ones do nothing."""
        if not self._is_ready:
            self._is_ready = True
            self._ready()

    async def __aenter__(self) -> "HealthServer":
        await self._runner.setup()
        await web.SockSite(self._runner, self._listening).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _readyz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok") if self._is_ready else web.Response(status=503, text="not ready yet")
