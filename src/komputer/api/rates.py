"""How much one caller may ask for: so many requests a second, with a reserve for bursts, in each process."""

from typing import Final

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from starlette.types import ASGIApp, Receive, Scope, Send

from komputer.api.errors import translated
from komputer.domain.errors import TooManyRequests

BURST_S: Final = 10
"""The limit counts over so many seconds: who was quiet may ask faster for a moment."""


class Rate:
    """So many a second of each, in this process."""

    def __init__(self, per_second: int) -> None:
        self.per_second = per_second
        self._limit: RateLimitItem = RateLimitItemPerSecond(per_second * BURST_S, BURST_S)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def allows(self, who: str) -> bool:
        """Whether one more would be within the limit. It is not counted."""
        return await self._limiter.test(self._limit, who)

    async def count(self, who: str) -> bool:
        """Counts one more; whether it is within the limit."""
        return await self._limiter.hit(self._limit, who)


class RateLimited:
    """Answers 429 with `Retry-After`. Callers are told apart by who they are; where nobody knows, by their address."""

    def __init__(self, app: ASGIApp, per_second: int) -> None:
        self.app = app
        self._rate = Rate(per_second)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or not scope["path"].startswith("/api/"):
            await self.app(scope, receive, send)
            return
        who = getattr(scope.get("state", {}).get("caller"), "username", None) or (scope.get("client") or ("",))[0]
        if await self._rate.count(who):
            await self.app(scope, receive, send)
            return
        refused = TooManyRequests(
            f"more than {self._rate.per_second} requests a second; wait, and ask for less at once", retry_after_s=1
        )
        await translated(refused)(scope, receive, send)
