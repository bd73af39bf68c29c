"""Notifications of changed logs: one short Redis stream with the names of logs. Each process reads it once, for all of
its readers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Final, NamedTuple

import structlog
from redis.exceptions import RedisError

from komputer.backoff import Backoff
from komputer.domain import names
from komputer.domain.ref import ObjectRef
from komputer.redis.address import Address
from komputer.redis.connection import cancellable

EVERYTHING: Final[frozenset[ObjectRef]] = frozenset()
"""The notification that any log may have changed."""
LENGTH: Final = 1000
"""Number of notifications that the stream keeps, the same as in `append.lua`. A reader that gets this many at once may
have missed some."""
BLOCK_S: Final = 5.0
"""How long one read waits for notifications, in seconds."""
BACKOFF: Final = Backoff(0.05, 5.0)
"""The delay between attempts to reach a server that does not answer."""

logger = structlog.get_logger(__name__)


class Notifier:
    """Delivers the notifications to all subscribers in a process. A notification is a hint: the subscriber must read
    the log again."""

    def __init__(self, notifications: AsyncIterator[frozenset[ObjectRef]]) -> None:
        self._notifications = notifications
        self._of_all: list[Callable[[frozenset[ObjectRef]], None]] = []
        self._of_one: dict[ObjectRef, list[Callable[[], None]]] = {}

    async def run(self) -> None:
        """Deliver notifications forever."""
        async for changed in self._notifications:
            for callback in tuple(self._of_all):
                callback(changed)
            for ref in tuple(changed or self._of_one):
                for wake in tuple(self._of_one.get(ref, ())):
                    wake()

    def on_any(self, callback: Callable[[frozenset[ObjectRef]], None]) -> Callable[[], None]:
        """Call `callback` with the agents whose logs have changed, or `EVERYTHING`. It must not block. Returns a
        function that ends the subscription."""
        self._of_all.append(callback)
        return lambda: self._of_all.remove(callback)

    def on(self, ref: ObjectRef, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` whenever the log of this agent may have changed. It must not block. Returns a function that ends
        the subscription."""
        self._of_one.setdefault(ref, []).append(wake)

        def end() -> None:
            self._of_one[ref].remove(wake)
            if not self._of_one[ref]:
                del self._of_one[ref]

        return end


async def listen(address: Address, name: str) -> AsyncIterator[frozenset[ObjectRef]]:
    """Yield the agents whose logs have changed. `EVERYTHING` comes first, and after each failure of the server, because
    notifications may have been missed. Never ends."""
    client: Any = address.client(socket_timeout=2 * BLOCK_S, socket_connect_timeout=3.0, retry=None, protocol=2)
    position: bytes | None = None
    failures = 0
    try:
        while True:
            try:
                if position is None:
                    position = await cancellable(partial(_newest, client, name))
                    changed = EVERYTHING
                else:
                    entries = await cancellable(partial(client.xread, {name: position}, block=int(BLOCK_S * 1000)))
                    if not entries:
                        continue
                    position, found = _read(entries[0][1])
                    if found is None:
                        continue
                    changed = found
                failures = 0
            except (RedisError, OSError, TimeoutError) as away:
                if failures == 0:
                    logger.info("notifier waits for the event log", error=f"{type(away).__name__}: {away}")
                position = None
                failures += 1
                await asyncio.sleep(BACKOFF.delay_s(failures))
                continue
            yield changed
    finally:
        await client.aclose()


class NotificationBatch(NamedTuple):
    """The notifications after a given one. `refs` is None if some may have been missed. `last` is the id of the newest
    notification, None if there was none."""

    refs: frozenset[ObjectRef] | None
    last: str | None


async def read_notifications(client: Any, name: str, after: str | None) -> NotificationBatch:
    """Return the notifications after the one with the id `after`. That one is read again as a check: while it exists,
    no later notification has been dropped."""
    entries = await client.xrange(name, after, "+", LENGTH) if after else []
    if entries and entries[0][0].decode() == after and len(entries) < LENGTH:
        return NotificationBatch(_refs(entries[1:]), entries[-1][0].decode())
    newest = await client.xrevrange(name, count=1)
    return NotificationBatch(None, newest[0][0].decode() if newest else None)


async def _newest(client: Any, name: str) -> bytes:
    entries = await client.xrevrange(name, count=1)
    newest: bytes = entries[0][0] if entries else b"0-0"
    return newest


def _read(entries: list[tuple[bytes, dict[bytes, bytes]]]) -> tuple[bytes, frozenset[ObjectRef] | None]:
    """Return the id of the last notification, and the agents that the notifications name: `EVERYTHING` if some may have
    been missed, None if no notification names an agent."""
    last = entries[-1][0]
    if len(entries) >= LENGTH:
        return last, EVERYTHING
    return last, _refs(entries) or None


def names_an_agent(ref: ObjectRef) -> bool:
    """Return whether an agent may have this namespace and name."""
    return names.is_agent_name(ref.namespace) and names.is_agent_name(ref.name)


def _refs(entries: list[tuple[bytes, dict[bytes, bytes]]]) -> frozenset[ObjectRef]:
    """Return the agents that the notifications name."""
    found = set()
    for entry, fields in entries:
        namespace, _, name = fields.get(b"k", b"").decode(errors="replace").partition("/")
        ref = ObjectRef(namespace, name)
        if names_an_agent(ref):
            found.add(ref)
        else:
            logger.warning("notification without an agent", notification=entry.decode())
    return frozenset(found)
