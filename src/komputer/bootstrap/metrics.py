"""Serves `/metrics` on a port of its own: the labels contain all namespaces, and clients and agents can reach the other
ports."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

log = structlog.get_logger(__name__)


@asynccontextmanager
async def metrics_served(listening: socket.socket | None, text: Callable[[], bytes]) -> AsyncIterator[None]:
    """Answer `GET /metrics` with `text()` during the `async with` block. If `listening` is None, metrics are not
    served."""
    if listening is None:
        yield
        return

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.SockSite(runner, listening).start()
        log.info("metrics", port=listening.getsockname()[1])
        yield
    finally:
        await runner.cleanup()
