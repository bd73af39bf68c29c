"""CONNECT: `kubectl exec` and its kin ask the server, which is its own proxy (see `write_kubeconfig`), for a tunnel.

The tunnel leads to this server, so what follows on the connection is read as its requests. They bear no credential, and
get the refusal that says why (`errors.not_offered`).
"""

import asyncio
from typing import Final

from komputer.http import protocol

HEAD_LIMIT_BYTES: Final = 16 * 1024
ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"


class AnswersConnect:
    """A mixin that comes before the HTTP protocol among the bases of a class."""

    transport: asyncio.Transport
    _head: bytes | None = b""
    """What has come of the connection's first head; None when it is known to be no CONNECT, or was answered."""

    def data_received(self, data: bytes) -> None:
        if self._head is None:
            super().data_received(data)  # type: ignore[misc]
            return
        self._head += data
        if not (self._head.startswith(b"CONNECT ") or b"CONNECT ".startswith(self._head)):
            self._pass_on(self._head)
        elif b"\r\n\r\n" in self._head:
            self.transport.write(ESTABLISHED)
            self._pass_on(self._head.partition(b"\r\n\r\n")[2])
        elif len(self._head) > HEAD_LIMIT_BYTES:
            self.transport.close()

    def _pass_on(self, data: bytes) -> None:
        self._head = None
        if data:
            super().data_received(data)  # type: ignore[misc]


class ConnectProtocol(AnswersConnect, protocol.HttpProtocol):
    """The protocol of every HTTP server here, with tunnels."""
