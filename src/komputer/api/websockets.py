"""The WebSocket protocol of the server that we run under, and what ASGI has no word for."""

import asyncio
import secrets
from typing import Any

from wsproto import events

from komputer.api.auth import BEARER_PROTOCOL
from komputer.api.stream import PONGED
from komputer.http.websocket import WebSocketProtocol


class LimitedWebSocketProtocol(WebSocketProtocol):
    """uvicorn's, with three additions: a close frame does not wait for a client that takes nothing, the scope's
    extension `PONGED` tells when a client has got what was sent to it, and a client that offers subprotocols gets the
    first one that is not a token, since browsers fail without an answer."""

    def handle_connect(self, event: events.Request) -> None:
        self._pings: dict[bytes, asyncio.Future[None]] = {}
        super().handle_connect(event)
        extensions: dict[str, Any] = self.scope["extensions"]
        extensions[PONGED] = self.ponged

    async def ponged(self) -> None:
        """Pings, and returns when this very ping was answered; a client answers in order."""
        payload = secrets.token_bytes(8)
        answered = self._pings[payload] = self.loop.create_future()
        try:
            await self.writable.wait()
            if not self.transport.is_closing():
                self.transport.write(self.conn.send(events.Ping(payload=payload)))
            await answered
        finally:
            del self._pings[payload]

    def handle_pong(self, event: events.Pong) -> None:
        answered = self._pings.get(bytes(event.payload))
        if answered is None:
            super().handle_pong(event)
        elif not answered.done():
            answered.set_result(None)

    async def send(self, message: Any) -> None:
        if message["type"] == "websocket.close":
            self.writable.set()
        elif message["type"] == "websocket.accept" and message.get("subprotocol") is None:
            offered = (each for each in self.scope["subprotocols"] if not each.startswith(BEARER_PROTOCOL))
            message = {**message, "subprotocol": next(iter(offered), None)}
        await super().send(message)
