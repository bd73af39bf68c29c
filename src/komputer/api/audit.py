"""Writes one log line for each request that may change something: caller, object and status, never its content."""

from dataclasses import dataclass
from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from komputer.services.access import AccessRequest, Caller

log = structlog.get_logger("komputer.audit")

READ_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
NAME_LIMIT: Final = 100
PATH_LIMIT: Final = 300


@dataclass
class AuditRecord:
    """The right that a request needs, as `authorize` determined it; None if it was refused before."""

    right: AccessRequest | None = None


class Audited:
    """Middleware that writes the log line. It runs after authentication."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in READ_METHODS or not scope["path"].startswith("/api/"):
            await self.app(scope, receive, send)
            return
        record, status = AuditRecord(), 500  # the status of an unhandled exception, which an outer middleware answers
        state = scope.setdefault("state", {})
        state["audit"] = record

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_and_note)
        finally:
            caller: Caller | None = state.get("caller")
            right = record.right
            log.info(
                "request",
                user=caller.username if caller else None,
                method=scope["method"],
                path=scope["path"][:PATH_LIMIT],
                verb=right.verb if right else None,
                resource=right.resource if right else None,
                namespace=right.namespace if right else None,
                name=(right.name or "")[:NAME_LIMIT] or None if right else None,
                status=status,
            )
