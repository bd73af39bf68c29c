"""One request and its response: uvicorn's cycle with HTTP/1.0 framing, HEAD, and JSON errors."""

from typing import Any, Protocol

from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, HTTPScope
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from komputer.http.refusals import Refusal


class Closing(Protocol):
    """The connection of a request, as far as `Cycle` needs it. It closes once the rest of the request body has been
    read."""

    closes_after_body: bool


class Cycle(RequestResponseCycle):
    """One request and its response. `refusal` builds the body of a 500."""

    refusal: Refusal
    protocol: "Closing"

    async def send(self, message: ASGISendEvent) -> None:
        if message["type"] == "http.response.start":
            if self.scope["http_version"] == "1.0" and not _has_length(message):
                # HTTP/1.0 has no chunked encoding: the end of the connection marks the end of the response.
                self.chunked_encoding, self.expected_content_length = False, 0
                self.is_unframed = True
        elif message["type"] == "http.response.body":
            if self.is_unframed:
                self.expected_content_length = len(message.get("body", b""))
            if not self.keep_alive and not message.get("more_body") and self.more_body:
                # Closing now would reset the connection while the client still sends. The "draining" state closes it
                # instead.
                self.protocol.closes_after_body = self.keep_alive = True
        await super().send(message)

    is_unframed = False
    """Whether the end of the connection marks the end of the response (HTTP/1.0 without Content-Length)."""

    async def send_500_response(self) -> None:
        body = self.refusal(500, "internal error", "internal")
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})


def _has_length(message: Any) -> bool:
    return any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))


async def respond_to_head(
    app: ASGI3Application, scope: HTTPScope, receive: ASGIReceiveCallable, send: ASGISendCallable
) -> None:
    """Answer HEAD like GET without the body. The response is complete after the first body part: later parts are
    dropped, and `receive` returns `http.disconnect`, so that the application does not produce the rest."""
    is_over = False

    async def without_body(message: ASGISendEvent) -> None:
        nonlocal is_over
        if is_over:
            return
        if message["type"] == "http.response.body":
            is_over = True
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await send(message)

    await app({**scope, "method": "GET"}, receive, without_body)
