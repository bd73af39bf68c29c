"""The CONNECT method, with which `kubectl exec`, `cp` and `port-forward` open a tunnel through their proxy.

The kubeconfig names this server as its own proxy (see `write_kubeconfig`), so the tunnel ends at this server too: the
bytes after the handshake are read as requests to it. These have no credential, and are answered with an error that says
that the server does not offer such requests (`errors.not_offered`).
"""

import asyncio
from typing import Final

from komputer.http import protocol

HEAD_LIMIT_BYTES: Final = 16 * 1024
ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"


class AnswersConnect:
    """A mixin for an HTTP protocol that answers CONNECT. It must precede the protocol among the base classes."""

    transport: asyncio.Transport
    _first_bytes: bytes | None = b""
    """The received bytes of the connection's first request head. None once the request is known not to be a CONNECT, or
    was answered."""

    def data_received(self, data: bytes) -> None:
        if self._first_bytes is None:
            super().data_received(data)  # type: ignore[misc]
            return
        self._first_bytes += data
        if not (self._first_bytes.startswith(b"CONNECT ") or b"CONNECT ".startswith(self._first_bytes)):
            self._pass_on(self._first_bytes)
        elif b"\r\n\r\n" in self._first_bytes:
            self.transport.write(ESTABLISHED)
            self._pass_on(self._first_bytes.partition(b"\r\n\r\n")[2])
        elif len(self._first_bytes) > HEAD_LIMIT_BYTES:
            self.transport.close()

    def _pass_on(self, data: bytes) -> None:
        self._first_bytes = None
        if data:
            super().data_received(data)  # type: ignore[misc]


class ConnectProtocol(AnswersConnect, protocol.HttpProtocol):
    """The HTTP protocol of the platform's servers, which also answers CONNECT with a tunnel to itself."""
