"""The limits of one HTTP server. `docs/operations.md` lists them."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of each connection, and of all connections of one server."""

    head_bytes: int = 64 * 1024
    """Maximum size of the request line with all header fields; more is answered 431. Node's limit is 16 KiB, Go's 1
    MiB."""
    url_bytes: int = 32 * 1024
    """Maximum size of the request target; more is answered 414."""
    header_fields: int = 128
    """Maximum number of fields in one head; more are answered 431. Each costs a tuple and two strings, however short it
    is."""
    head_s: float = 10.0
    """Time in which a head must be complete. A new connection that sends nothing is closed; an incomplete head is
    answered 408."""
    idle_s: float = 75.0
    """How long a connection may stay open without a request; nginx's default."""
    body_window_s: float = 30.0
    body_bytes_per_s: int = 1024
    """Minimum average rate of a request body, measured over each `body_window_s`; a slower body is answered 408. Time
    in which the server itself does not read is not counted. Responses have no such limit: event streams may be silent
    for hours."""
    drain_s: float = 5.0
    """How long the rest of a request body is read and discarded after its response was sent."""
    linger_s: float = 2.0
    """How long incoming bytes are discarded after a refusal, so that the client reads the response before the
    connection is reset."""
    linger_bytes: int = 64 * 2**20
    """Maximum number of bytes discarded in either case."""
    pipelined: int = 32
    """How many requests a connection may send before it gets the first response. One more is refused, after the
    responses to the others."""
    connections: int = 16_000
    """Maximum number of open connections of one process. A full server first closes idle connections; if none is idle,
    it answers 503."""
    connections_per_address: int = 4_000
    """Maximum number of connections from one IPv4 address or one IPv6 /64 network. An ingress controller counts as one
    address, and so do all agents of a laptop."""
