"""The WebSocket protocol of our server, with extensions that ASGI does not define."""

import asyncio
import secrets
from typing import Any

from wsproto import events

from komputer.api.auth import BEARER_PROTOCOL
from komputer.api.stream import PONGED
from komputer.http.websocket import WebSocketProtocol


class LimitedWebSocketProtocol(WebSocketProtocol):
    """uvicorn's protocol with three additions.

    - A close frame does not wait for a client that reads nothing.
    - The scope's extension `PONGED` returns when the client has received everything that was sent to it.
    - A client that offers subprotocols gets the first one that is not a token: browsers fail without an answer.
    """

    def handle_connect(self, event: events.Request) -> None:
        self._pings: dict[bytes, asyncio.Future[None]] = {}
        super().handle_connect(event)
        extensions: dict[str, Any] = self.scope["extensions"]
        extensions[PONGED] = self.ponged

    async def ponged(self) -> None:
        """Send a ping and return when the client has answered it. Clients answer pings in order."""
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
