"""Counts the open connections of one server: how many each address has, and which ones may be closed to make room."""

import logging
import socket
import time
from dataclasses import dataclass, field
from typing import Final, Protocol

from komputer.http import descriptors
from komputer.http.limits import Limits

log = logging.getLogger(__name__)

LOG_INTERVAL_S: Final = 10.0
"""Minimum time between two log lines about the same reason, so that a client cannot fill the disk with log lines."""
NOT_READY_S: Final = 10.0
"""How long the process reports "not ready", in seconds, after it refused a connection for lack of room."""


@dataclass
class Totals:
    """Counters over all servers of this process."""

    open: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    """Connections and requests refused below the application, by error code."""
    evicted: int = 0
    """Idle connections closed to make room for new ones."""
    room_refused_at: float = float("-inf")
    _last_logged: dict[str, tuple[float, int]] = field(default_factory=dict)

    def refuse(self, code: str, address: str) -> None:
        """Count and log a refusal. `address` is the client's."""
        self.refused[code] = self.refused.get(code, 0) + 1
        self.log_throttled(code, f"requests refused: {code}", address)

    def log_throttled(self, kind: str, sentence: str, address: str) -> None:
        """Log `sentence` at most once per `LOG_INTERVAL_S` and kind, with the number of suppressed lines."""
        at, suppressed = self._last_logged.get(kind, (float("-inf"), 0))
        now = time.monotonic()
        if now - at < LOG_INTERVAL_S:
            self._last_logged[kind] = (at, suppressed + 1)
            return
        self._last_logged[kind] = (now, 0)
        log.warning(
            "%s (last from %s, %d more since the last line)", sentence, address or "an unknown address", suppressed
        )

    def shortage(self) -> str | None:
        """Return a sentence if connections were refused for lack of room within the last `NOT_READY_S`, else None."""
        if time.monotonic() - self.room_refused_at > NOT_READY_S:
            return None
        used, limit = descriptors.in_use(), descriptors.soft_limit()
        return (
            f"there is no room for more connections: {self.open} are open, {used} of {limit} file descriptors are in "
            "use; raise RLIMIT_NOFILE or add replicas"
        )


totals = Totals()


class Evictable(Protocol):
    """An HTTP connection that may be closed to make room."""

    @property
    def idle_since(self) -> float | None:
        """The loop time since which no request is being answered, or None while one is."""

    def evict(self) -> None: ...


@dataclass(eq=False, slots=True)
class Slot:
    """One open connection. `connection` is None once it has become a WebSocket; WebSockets are never evicted."""

    address: str
    connection: Evictable | None


class Connections:
    """The connections of one server. When it is full, it closes idle connections, oldest first, before it refuses new
    ones."""

    def __init__(self, limits: Limits) -> None:
        self._slots: dict[str, set[Slot]] = {}
        self._count = 0
        soft = descriptors.soft_limit()
        self._last_descriptor = soft - descriptors.reserve(soft)
        self._limit = min(limits.connections, self._last_descriptor)
        self._per_address = min(limits.connections_per_address, self._limit)

    def __len__(self) -> int:
        return self._count

    def admit(self, connection: Evictable, client: str, descriptor: int) -> Slot | None:
        """Return a slot for a connection from `client`, or None if there is no room. `descriptor` is the connection's
        file descriptor: the kernel assigns the lowest free number, so a high one means that few are left."""
        address = _network(client)
        own = self._slots.setdefault(address, set())
        if address and len(own) >= self._per_address and not self._evict(list(own)):
            self._refuse("too_many_connections_of_address", client)
            return None
        if (self._count >= self._limit or descriptor >= self._last_descriptor) and not self._evict(
            [slot for slots in self._slots.values() for slot in slots]
        ):
            totals.room_refused_at = time.monotonic()
            self._refuse("too_many_connections", client)
            return None
        slot = Slot(address, connection)
        own.add(slot)
        self._count += 1
        totals.open += 1
        return slot

    def release(self, slot: Slot) -> None:
        """Free the slot. Releasing twice is harmless."""
        own = self._slots.get(slot.address)
        if own is None or slot not in own:
            return
        own.discard(slot)
        slot.connection = None
        if not own:
            del self._slots[slot.address]
        self._count -= 1
        totals.open -= 1

    def _refuse(self, code: str, client: str) -> None:
        if not self._slots.get(address := _network(client)):
            self._slots.pop(address, None)
        totals.refuse(code, client)

    def _evict(self, slots: list[Slot]) -> bool:
        """Close the oldest sixteenth of the idle connections, so that a flood of new ones does not cost one scan
        each."""
        idle = [
            (since, slot) for slot in slots if slot.connection and (since := slot.connection.idle_since) is not None
        ]
        idle.sort(key=lambda pair: pair[0])
        for _, slot in idle[: max(1, len(idle) // 16)]:
            assert slot.connection is not None
            slot.connection.evict()
            self.release(slot)
            totals.evicted += 1
            totals.log_throttled("evicted", "idle connections closed to make room", slot.address)
        return bool(idle)


def _network(client: str) -> str:
    """Return the key by which connections are counted: an IPv4 address, or the /64 network of an IPv6 address, since a
    single caller usually controls the whole /64."""
    if ":" not in client:
        return client
    try:
        packed = socket.inet_pton(socket.AF_INET6, client.partition("%")[0])
    except OSError:
        return client
    if packed.startswith(b"\0" * 10 + b"\xff\xff"):
        return socket.inet_ntoa(packed[12:])
    return packed.hex() if packed == b"\0" * 15 + b"\1" else packed[:8].hex()
