"""The open connections of one server: how many each address has, and which may be closed to make room for others."""

import logging
import socket
import time
from dataclasses import dataclass, field
from typing import Final, Protocol

from komputer.http import descriptors
from komputer.http.limits import Limits

log = logging.getLogger(__name__)

SAID_AGAIN_S: Final = 10.0
"""Between two log lines about the same reason: who causes them does not fill the disk."""
FULL_FOR_S: Final = 10.0
"""So long after a refusal for lack of room the process is not ready."""


@dataclass
class Totals:
    """What all servers of this process have counted."""

    open: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    """Connections and requests that were refused below the application, by error code."""
    closed_for_others: int = 0
    """Idle connections that were closed to make room."""
    full_at: float = float("-inf")
    _said: dict[str, tuple[float, int]] = field(default_factory=dict)

    def refuse(self, code: str, address: str) -> None:
        self.refused[code] = self.refused.get(code, 0) + 1
        self.say(code, f"requests refused: {code}", address)

    def say(self, kind: str, sentence: str, address: str) -> None:
        """Log at most one line per kind in `SAID_AGAIN_S`, with the number of those that it stands for."""
        at, left_out = self._said.get(kind, (float("-inf"), 0))
        now = time.monotonic()
        if now - at < SAID_AGAIN_S:
            self._said[kind] = (at, left_out + 1)
            return
        self._said[kind] = (now, 0)
        log.warning(
            "%s (last from %s, %d more since the last line)", sentence, address or "an unknown address", left_out
        )

    def shortage(self) -> str | None:
        """A sentence while connections were refused for lack of room a moment ago."""
        if time.monotonic() - self.full_at > FULL_FOR_S:
            return None
        used, limit = descriptors.in_use(), descriptors.soft_limit()
        return (
            f"there is no room for more connections: {self.open} are open, {used} of {limit} file descriptors are in "
            "use; raise RLIMIT_NOFILE or add replicas"
        )


totals = Totals()


class Evictable(Protocol):
    """An HTTP connection that may be closed for others."""

    @property
    def idle_since(self) -> float | None:
        """Since when nobody waits for an answer on it, in the loop's time; None while somebody does."""

    def evict(self) -> None: ...


@dataclass(eq=False, slots=True)
class Slot:
    """One open connection. `connection` is None once it has become a WebSocket, which is never evicted."""

    address: str
    connection: Evictable | None


class Connections:
    """The connections of one server. A full one closes idle connections, oldest first, before it refuses new ones."""

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
        """A slot for a connection from `client`, or None when there is no room. The kernel gives the lowest free
        descriptor, so a high one says how many are in use."""
        address = _network(client)
        mine = self._slots.setdefault(address, set())
        if address and len(mine) >= self._per_address and not self._evict(list(mine)):
            self._refuse("too_many_connections_of_address", client)
            return None
        if (self._count >= self._limit or descriptor >= self._last_descriptor) and not self._evict(
            [slot for slots in self._slots.values() for slot in slots]
        ):
            totals.full_at = time.monotonic()
            self._refuse("too_many_connections", client)
            return None
        slot = Slot(address, connection)
        mine.add(slot)
        self._count += 1
        totals.open += 1
        return slot

    def release(self, slot: Slot) -> None:
        mine = self._slots.get(slot.address)
        if mine is None or slot not in mine:
            return
        mine.discard(slot)
        slot.connection = None
        if not mine:
            del self._slots[slot.address]
        self._count -= 1
        totals.open -= 1

    def _refuse(self, code: str, client: str) -> None:
        if not self._slots.get(address := _network(client)):
            self._slots.pop(address, None)
        totals.refuse(code, client)

    def _evict(self, slots: list[Slot]) -> bool:
        """Close the oldest sixteenth of the idle ones, so that a flood costs one scan for many connections."""
        idle = [
            (since, slot) for slot in slots if slot.connection and (since := slot.connection.idle_since) is not None
        ]
        idle.sort(key=lambda pair: pair[0])
        for _, slot in idle[: max(1, len(idle) // 16)]:
            assert slot.connection is not None
            slot.connection.evict()
            self.release(slot)
            totals.closed_for_others += 1
            totals.say("evicted", "idle connections closed to make room", slot.address)
        return bool(idle)


def _network(client: str) -> str:
    """The address that is counted: of IPv6 the /64 network, since one caller has all of it."""
    if ":" not in client:
        return client
    try:
        packed = socket.inet_pton(socket.AF_INET6, client.partition("%")[0])
    except OSError:
        return client
    if packed.startswith(b"\0" * 10 + b"\xff\xff"):
        return socket.inet_ntoa(packed[12:])
    return packed.hex() if packed == b"\0" * 15 + b"\1" else packed[:8].hex()
