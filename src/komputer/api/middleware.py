"""Middleware that refuses requests of foreign web pages and bodies that are too large."""

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from komputer.api.errors import answer
from komputer.http.json_values import has_more_values

BODY_LIMIT_BYTES = 1024 * 1024
VALUES_LIMIT = 10_000
"""Maximum number of JSON values in one body: parsing them takes about 5 ms. Real bodies have at most some hundred."""


def is_loopback(host: str) -> bool:
    """Return whether a Host header, an Origin's host or an address to listen on names this machine: `localhost`,
    `*.localhost`, 127/8, ::1. Raises `ValueError` if it is malformed."""
    bare = host.count(":") > 1 and not host.startswith("[")
    name = (urlsplit(f"//[{host}]" if bare else f"//{host}").hostname or "").rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class LoopbackOnly:
    """Allows only programs on this machine, for an API without authentication.

    A web page that rebinds its name to 127.0.0.1 (DNS rebinding) still sends its own Host, and a page of another origin
    sends its Origin: both are refused.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and (sentence := self._refusal(scope)):
            # For a WebSocket this answers the handshake: a foreign page learns nothing else.
            await answer(403, sentence, "foreign_origin")(scope, receive, send)
            return
        await self.app(scope, receive, send)

    @staticmethod
    def _refusal(scope: Scope) -> str | None:
        headers = {key: value.decode("latin-1") for key, value in scope["headers"] if key in (b"host", b"origin")}
        try:
            if not is_loopback(headers.get(b"host", "")):
                return (
                    "without authentication the API answers only to loopback names; call it as 127.0.0.1 or localhost"
                )
            origin = headers.get(b"origin")
            if origin is not None and not is_loopback(urlsplit(origin).netloc):
                return "without authentication the API answers no web page of another origin"
        except ValueError:
            return "the Host or Origin header cannot be read"
        return None


class KnownOrigins:
    """Allows only web pages of the origins in `allowed` and of the API's own address.

    Browsers add no credential to requests of foreign pages, because the API uses bearer tokens and no cookies. This is
    a second barrier.
    """

    def __init__(self, app: ASGIApp, allowed: Collection[str]) -> None:
        self.app = app
        self._allowed = frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            headers = dict(scope["headers"])
            origin = headers.get(b"origin", b"").decode("latin-1")
            own = headers.get(b"host", b"").decode("latin-1")
            if origin and origin not in self._allowed and origin.partition("://")[2] != own:
                refused = answer(403, "the API answers no web page of this origin", "foreign_origin")
                await refused(scope, receive, send)
                return
        await self.app(scope, receive, send)


class BodyLimit:
    """Answers 413 to bodies over `limit_bytes`, with or without a Content-Length, and to those of more than
    `VALUES_LIMIT` JSON values."""

    def __init__(self, app: ASGIApp, limit_bytes: int = BODY_LIMIT_BYTES) -> None:
        self.app = app
        self.limit_bytes = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "DELETE", "OPTIONS"):
            await self.app(scope, receive, send)
            return
        too_large = answer(413, f"the body is larger than {self.limit_bytes // 1024} KiB", "body_too_large")
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > self.limit_bytes:
            await too_large(scope, receive, send)
            return
        messages: list[Message] = []
        size, more = 0, True
        while more:
            message = await receive()
            messages.append(message)
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
            if size > self.limit_bytes:
                await too_large(scope, receive, send)
                return
        if has_more_values(b"".join(message.get("body", b"") for message in messages), VALUES_LIMIT):
            too_many = answer(413, f"the body has more than {VALUES_LIMIT} JSON values", "too_many_values")
            await too_many(scope, receive, send)
            return
        replay = iter(messages)

        async def replayed() -> Message:
            return next(replay, None) or await receive()

        await self.app(scope, replayed, send)
