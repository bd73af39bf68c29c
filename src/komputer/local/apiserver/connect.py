"""The CONNECT method, with which `kubectl exec`, `cp` and `port-forward` open a tunnel through their proxy.

The kubeconfig names this server as its own proxy (see `write_kubeconfig`), so the tunnel ends here as well: the bytes
after the handshake are read as requests to this server. They carry no credential, and are answered with the refusal
that explains why (`errors.not_offered`).
"""

import asyncio
from typing import Final

from komputer.http import protocol

HEAD_LIMIT_BYTES: Final = 16 * 1024
ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"


class AnswersConnect:
    """A mixin for an HTTP protocol; it must precede the protocol among the base classes."""

    transport: asyncio.Transport
    _first_bytes: bytes | None = b""
    """The bytes received so far of the connection's first head. None once it is known to be no CONNECT, or was
    answered."""

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
    """The HTTP protocol of the platform's servers, with tunnels to itself."""
