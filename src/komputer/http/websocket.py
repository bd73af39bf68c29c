"""uvicorn's WebSocket protocol, counted among the connections of its server."""

from typing import Any

from uvicorn.protocols.websockets.wsproto_impl import WSProtocol

from komputer.http.connections import Connections, Slot


class WebSocketProtocol(WSProtocol):
    """A WebSocket that keeps the slot of the HTTP connection from which it was upgraded, and releases it at its end."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._owned: tuple[Connections, Slot] | None = None

    def adopt(self, connections: Connections, slot: Slot) -> None:
        """Take over `slot` from the HTTP connection."""
        if self.transport.is_closing():
            connections.release(slot)
        self._owned = (connections, slot)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._owned:
            connections, slot = self._owned
            connections.release(slot)
        super().connection_lost(exc)
