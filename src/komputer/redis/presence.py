"""Whether a gateway is alive, and since when: one key on the server of the logs.

Runtimes' signs of life are written by gateways. While no gateway is alive no sign is fresh, and silence proves nothing.
"""

from datetime import timedelta
from typing import Final, NamedTuple

from komputer.redis.connection import RedisConnection

BEAT_EVERY: Final = timedelta(seconds=5)
"""How often each gateway says that it is alive."""
ALIVE_FOR: Final = timedelta(seconds=15)
"""For how long that counts: three beats. A longer gap begins a new presence."""
_SECOND_US: Final = 1_000_000


class Alive(NamedTuple):
    """Microseconds of the server's clock. `since_us` is None while no gateway is alive."""

    now_us: int
    since_us: int | None


class Presence:
    """The gateways of one platform. All methods raise `Unavailable` while the server does not answer."""

    def __init__(self, server: RedisConnection, prefix: str) -> None:
        self._server = server
        self._key = f"{prefix}-gateways"

    async def beat(self) -> None:
        """A gateway is alive and can hear runtimes."""
        alive = await self.read()
        begins = alive.since_us is None or alive.since_us > alive.now_us  # the clock was set back

        async def write() -> None:
            async with self._server.redis.pipeline(transaction=True) as both:
                if begins:
                    both.set(self._key, alive.now_us)
                both.expire(self._key, int(ALIVE_FOR.total_seconds()))
                await both.execute()

        await self._server.translated(write)

    async def read(self) -> Alive:
        """One round trip. A value that no gateway has written counts as none."""

        async def ask() -> tuple[tuple[int, int], bytes | None]:
            async with self._server.redis.pipeline(transaction=True) as both:
                both.time()
                both.get(self._key)
                moment, since = await both.execute()
                return moment, since

        (seconds, microseconds), since = await self._server.translated(ask)
        return Alive(seconds * _SECOND_US + microseconds, int(since) if since and since.isdigit() else None)
