"""The interface between `pods/log` and the kubelet, which answers this request."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRequest:
    """The options of `kubectl logs`. None for `tail_lines` and `limit_bytes` means everything; `since` is an RFC 3339
    time."""

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
"""Yields a log in chunks. Raises LookupError before the first chunk if the container has no log."""
