"""Checks a request head: its size, and whether every server would read it as the same request (RFC 9112)."""

import httptools

from komputer.http.limits import Limits
from komputer.http.refusals import Refused


class RequestHead:
    """Counts how much of the limits the current request head uses. There is one object per connection; `begin` starts
    the next request."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.begin()

    def begin(self) -> None:
        """Set all counts to zero."""
        self._bytes = self._url_bytes = self._field_bytes = self._fields = 0
        self._hosts = self._transfer_codings = 0

    def add_bytes(self, size: int, tolerance: int) -> None:
        """Count bytes of the connection. A piece may contain bytes before or after the head; `tolerance` allows for
        them. Raises `Refused`."""
        self._bytes += size
        if self._bytes > self._limits.head_bytes + tolerance:
            raise self._too_large()

    def set_url_bytes(self, size: int) -> None:
        """Check the length of the request target so far. Raises `Refused`."""
        self._url_bytes = size
        if size > self._limits.url_bytes:
            limit = self._limits.url_bytes // 1024
            raise Refused(414, f"the address of the request is longer than {limit} KiB", "uri_too_long")

    def add_field(self, name: bytes, value: bytes) -> None:
        """Count a header field, `name` in lower case. Raises `Refused`."""
        self._fields += 1
        self._field_bytes += len(name) + len(value) + 4  # ": " and CRLF
        if self._fields > self._limits.header_fields or self._field_bytes + self._url_bytes > self._limits.head_bytes:
            raise self._too_large()
        if name == b"host":
            self._hosts += 1
        elif name == b"transfer-encoding":
            self._transfer_codings += 1
            if value.strip().lower() != b"chunked" or self._transfer_codings > 1:
                raise Refused(501, "Transfer-Encoding can only be chunked", "unsupported_transfer_encoding")

    def check(self, version: str) -> None:
        """Raise `Refused` for a complete head that a proxy and this server could read as different requests."""
        if self._hosts > 1:
            raise Refused(400, "the request has more than one Host header", "duplicate_host")
        if not self._hosts and version == "1.1":
            raise Refused(400, "the request has no Host header", "missing_host")
        if self._transfer_codings and version == "1.0":
            raise Refused(400, "HTTP/1.0 has no Transfer-Encoding", "malformed_request")

    def _too_large(self) -> Refused:
        return Refused(
            431,
            f"the head of the request is larger than {self._limits.head_bytes // 1024} KiB or has more than "
            f"{self._limits.header_fields} fields",
            "head_too_large",
        )


def check_handshake(method: str, version: str, headers: list[tuple[bytes, bytes]]) -> None:
    """Raise `Refused` unless this is a WebSocket handshake (RFC 6455 4.2.1)."""
    values = dict(headers)
    if method != "GET" or version != "1.1" or not values.get(b"sec-websocket-key"):
        raise Refused(400, "this is not a WebSocket handshake: send GET with Sec-WebSocket-Key", "malformed_request")
    if values.get(b"sec-websocket-version", b"").strip() != b"13":
        raise Refused(426, "send Sec-WebSocket-Version: 13", "malformed_request")


def split_target(url: bytes) -> tuple[bytes, bytes]:
    """Return the path and the query of a request target. Raises `Refused`."""
    if url == b"*":
        return url, b""
    try:
        parsed = httptools.parse_url(url)
    except httptools.HttpParserInvalidURLError:
        raise Refused(400, "the address of the request is not a URL", "malformed_request") from None
    if not (path := parsed.path or b"/").isascii():
        raise Refused(400, "the path of the request must be percent-encoded ASCII", "malformed_request")
    return path, parsed.query or b""
