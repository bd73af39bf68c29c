"""`pods/log`: the one request that goes on to a kubelet."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRequest:
    """What `kubectl logs` asks for. `tail_lines` and `limit_bytes` None mean all; `since` is an RFC 3339 time."""

    namespace: str
    pod: str
    container: str
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    since_seconds: int | None = None
    since: str | None = None


LogSource = Callable[[LogRequest], AsyncIterator[bytes]]
"""Yields the log in chunks; raises LookupError before the first when the container has none."""
