"""The WebSocket protocol of the server that we run under, and what ASGI has no word for."""

import asyncio
import secrets
from typing import Any

from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from wsproto import events

from komputer.api.stream import PONGED


class Protocol(WSProtocol):
    """uvicorn's, with two additions: a close frame does not wait for a client that takes nothing, and the scope's
    extension `PONGED` tells when a client has got what was sent to it."""

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
        await super().send(message)
