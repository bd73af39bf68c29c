"""A line in the log for each request that changes something, or was to: who, what, where, and how it came out. Never
what was in it."""

from dataclasses import dataclass
from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from komputer.api.access import AccessRequest, Caller

log = structlog.get_logger("komputer.audit")

READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
NAME_LIMIT: Final = 100


@dataclass
class AuditRecord:
    """What `authorize` has found out that a request is about; None where it was refused before."""

    right: AccessRequest | None = None


class Audited:
    """Around the routes, below authentication."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in READING or not scope["path"].startswith("/api/"):
            await self.app(scope, receive, send)
            return
        asked, status = AuditRecord(), 500  # what an exception is answered with, outside of us
        state = scope.setdefault("state", {})
        state["asked"] = asked

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            caller: Caller | None = state.get("caller")
            about = asked.right
            log.info(
                "request",
                user=caller.username if caller else None,
                method=scope["method"],
                path=scope["path"][:300],
                verb=about.verb if about else None,
                resource=about.resource if about else None,
                namespace=about.namespace if about else None,
                name=(about.name or "")[:NAME_LIMIT] or None if about else None,
                status=status,
            )
