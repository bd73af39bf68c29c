"""uvicorn's WebSocket protocol, counted among the connections of its server."""

from typing import Any

from uvicorn.protocols.websockets.wsproto_impl import WSProtocol

from komputer.http.connections import Connections, Slot


class WebSocketProtocol(WSProtocol):
    """Releases the slot of the HTTP connection that it began as."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._held: tuple[Connections, Slot] | None = None

    def hold(self, tracked: Connections, slot: Slot) -> None:
        if self.transport.is_closing():
            tracked.release(slot)
        self._held = (tracked, slot)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._held:
            tracked, slot = self._held
            tracked.release(slot)
        super().connection_lost(exc)
