"""How much one caller may ask for: so many requests a second, with a reserve for bursts, in each process."""

from typing import Final

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from starlette.types import ASGIApp, Receive, Scope, Send

from komputer.api.errors import answer

BURST_S: Final = 10
"""The limit counts over so many seconds: who was quiet may ask faster for a moment."""


class RateLimited:
    """Answers 429 with `Retry-After`. Callers are told apart by who they are; where nobody knows, by their address."""

    def __init__(self, app: ASGIApp, per_second: int) -> None:
        self.app = app
        self._limit: RateLimitItem = RateLimitItemPerSecond(per_second * BURST_S, BURST_S)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or not scope["path"].startswith("/api/"):
            await self.app(scope, receive, send)
            return
        who = getattr(scope.get("state", {}).get("caller"), "username", None) or (scope.get("client") or ("",))[0]
        if await self._limiter.hit(self._limit, who):
            await self.app(scope, receive, send)
            return
        sentence = f"more than {self._limit.amount // BURST_S} requests a second; wait, and ask for less at once"
        await answer(429, sentence, "too-many-requests", {"Retry-After": "1"})(scope, receive, send)
