"""An ASGI app on a loopback port, in the test's own loop; and a model's address that does as a test tells it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from komputer import api
from komputer.http import server as http

WITHIN_S = 20.0
"""Nothing here takes long; two cores shared with others may."""


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()


@asynccontextmanager
async def serving(app: ASGIApp, *, lifespan: str = "on") -> AsyncIterator[str]:
    """The app's address while it is served."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listening:
        config = http.config(
            app, lifespan="on" if lifespan == "on" else "off", timeout_graceful_shutdown=1, ws=api.WebSocketProtocol
        )
        server = _Server(config)
        running = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            async with asyncio.timeout(WITHIN_S):
                await server.is_up.wait()
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await running


def free_port() -> int:
    """One on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Seen:
    """A request as the model's address got it. Header names are lower case."""

    path: str
    query: str
    headers: dict[str, str]
    body: bytes


Reply = Callable[["Model", Receive, Send], Awaitable[None]]


@dataclass
class Model:
    """An ASGI app: what it got, and how it answers. `may_go_on` and `was_left` let a test stand in mid-stream."""

    reply: Reply
    seen: list[Seen] = field(default_factory=list)
    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)
    was_left: asyncio.Event = field(default_factory=asyncio.Event)
    has_begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.seen.append(Seen(scope["path"], scope["query_string"].decode(), headers, body))
        await self.reply(self, receive, send)


def answers(status: int, body: bytes | dict[str, Any], **headers: str) -> Reply:
    """One answer, whole."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {"content-type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}

    async def reply(model: Model, receive: Receive, send: Send) -> None:
        pairs = [(name.encode(), value.encode()) for name, value in named.items()]
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": raw})

    return reply


def streams(*chunks: bytes) -> Reply:
    """The first chunk at once, the others when the test says so; tells when the reader leaves before."""

    async def reply(model: Model, receive: Receive, send: Send) -> None:
        head = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": chunks[0], "more_body": True})
        model.has_begun.set()
        going_on = asyncio.create_task(model.may_go_on.wait())
        leaving = asyncio.create_task(_left(receive))
        await asyncio.wait({going_on, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if leaving.done():
            model.was_left.set()
            going_on.cancel()
            return
        leaving.cancel()
        for chunk in chunks[1:]:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return reply


async def breaks_off(model: Model, receive: Receive, send: Send) -> None:
    """Begins to answer and ends without a last chunk."""
    head = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
