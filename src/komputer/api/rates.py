"""A limit on requests per second and caller."""

from starlette.types import ASGIApp, Receive, Scope, Send

from komputer.api.errors import translated
from komputer.domain.errors import TooManyRequests
from komputer.http.rate import Rate


class RateLimited:
    """Middleware that answers 429 with `Retry-After`. Callers are identified by their user name, or by their address
    if access control is off."""

    def __init__(self, app: ASGIApp, per_second: int) -> None:
        self.app = app
        self._rate = Rate(per_second)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or not scope["path"].startswith("/api/"):
            await self.app(scope, receive, send)
            return
        username = getattr(scope.get("state", {}).get("caller"), "username", None)
        if await self._rate.count(username or (scope.get("client") or ("",))[0]):
            await self.app(scope, receive, send)
            return
        refusal = TooManyRequests(
            f"more than {self._rate.per_second} requests a second; wait, and send fewer at once", retry_after_s=1
        )
        await translated(refusal)(scope, receive, send)
