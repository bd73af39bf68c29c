"""A limit on events per second and key, such as requests per caller, within one process."""

from typing import Final

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

BURST_S: Final = 10
"""Length of the window in seconds: a caller that was quiet may exceed the rate for a moment."""


class Rate:
    """Allows `per_second` events of each key, as an average over `BURST_S` seconds."""

    def __init__(self, per_second: int) -> None:
        self.per_second = per_second
        self._limit: RateLimitItem = RateLimitItemPerSecond(per_second * BURST_S, BURST_S)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def allows(self, key: str) -> bool:
        """Return whether one more event would be within the limit, without counting it."""
        return await self._limiter.test(self._limit, key)

    async def count(self, key: str) -> bool:
        """Count one more event. Return whether it is within the limit."""
        return await self._limiter.hit(self._limit, key)
