"""Presence of gateways: whether at least one is alive, and since when. It is one key on the Redis server of the event
log.

Gateways record the signs of life of runtimes. While no gateway is alive, a missing sign of life does not mean that a
runtime has failed.
"""

from datetime import timedelta
from typing import Final, NamedTuple

from komputer.redis.connection import RedisConnection

BEAT_EVERY: Final = timedelta(seconds=5)
"""How often each gateway renews its presence."""
ALIVE_FOR: Final = timedelta(seconds=15)
"""How long a beat is valid: three intervals. After a longer gap a new presence begins."""
_SECOND_US: Final = 1_000_000


class GatewayPresence(NamedTuple):
    """The presence of gateways, in microseconds by the clock of the Redis server. `since_us` is None while no gateway
    is alive."""

    now_us: int
    since_us: int | None


class Presence:
    """Presence of the gateways of one platform. All methods raise `Unavailable` while the server does not answer."""

    def __init__(self, server: RedisConnection, prefix: str) -> None:
        self._server = server
        self._key = f"{prefix}-gateways"

    async def beat(self) -> None:
        """Record that a gateway is alive."""
        alive = await self.read()
        begins = alive.since_us is None or alive.since_us > alive.now_us  # the clock was set back

        async def write() -> None:
            async with self._server.redis.pipeline(transaction=True) as both:
                if begins:
                    both.set(self._key, alive.now_us)
                both.expire(self._key, int(ALIVE_FOR.total_seconds()))
                await both.execute()

        await self._server.translated(write)

    async def read(self) -> GatewayPresence:
        """Return the presence, in one round trip. A value that no gateway has written is ignored."""

        async def ask() -> tuple[tuple[int, int], bytes | None]:
            async with self._server.redis.pipeline(transaction=True) as both:
                both.time()
                both.get(self._key)
                moment, since = await both.execute()
                return moment, since

        (seconds, microseconds), since = await self._server.translated(ask)
        return GatewayPresence(seconds * _SECOND_US + microseconds, int(since) if since and since.isdigit() else None)
