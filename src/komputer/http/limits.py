"""Limits of one HTTP server, with their numbers. `docs/operations.md` lists them."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of each connection and of all connections of one server."""

    head_bytes: int = 64 * 1024
    """Of a request line and its header fields; more is answered 431. Node's limit is 16 KiB, Go's 1 MiB."""
    url_bytes: int = 32 * 1024
    """Of a request's target; more is answered 414."""
    header_fields: int = 128
    """In one head; more are answered 431. Each costs a tuple and two strings, however short it is."""
    head_s: float = 10.0
    """Within this time a head must be complete; a silent new connection is closed, a started head answered 408."""
    idle_s: float = 75.0
    """A connection without a request is closed after this time, as nginx does by default."""
    body_window_s: float = 30.0
    body_bytes_per_s: int = 1024
    """In each `body_window_s` a body must grow by this rate; a slower one is answered 408. Time in which the server
    does not read counts for nothing. Answers have no such limit: event streams are silent for long."""
    drain_s: float = 5.0
    """How long the rest of a body is read and dropped after its request was answered."""
    linger_s: float = 2.0
    """How long what still comes is dropped after a refusal, so that the client reads the answer before the reset."""
    linger_bytes: int = 64 * 2**20
    """How much is dropped at most, in both cases."""
    pipelined: int = 32
    """Requests that one connection may send before it gets the first answer; then the connection is closed after the
    last of these answers."""
    connections: int = 16_000
    """Open at once in one process. A full server closes idle connections first, and answers 503 when there is none."""
    connections_per_address: int = 4_000
    """Of these from one IPv4 address or one IPv6 /64 network. An Ingress is one address, as all agents of a laptop."""
