"""One request and its answer, as uvicorn has it, with HTTP/1.0 framing, HEAD, and errors as JSON."""

from typing import Any, Protocol

from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, HTTPScope
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from komputer.http.refusals import Refusal


class Closing(Protocol):
    """The connection of a request: it closes when the rest of the request's body was read."""

    closes_after_body: bool


class Cycle(RequestResponseCycle):
    """One request and its answer. `refusal` makes the body of a 500."""

    refusal: Refusal
    protocol: "Closing"

    async def send(self, message: ASGISendEvent) -> None:
        if message["type"] == "http.response.start":
            if self.scope["http_version"] == "1.0" and not _has_length(message):
                # HTTP/1.0 knows no chunks: the end of the connection is the end of the answer.
                self.chunked_encoding, self.expected_content_length = False, 0
                self.is_unframed = True
        elif message["type"] == "http.response.body":
            if self.is_unframed:
                self.expected_content_length = len(message.get("body", b""))
            if not self.keep_alive and not message.get("more_body") and self.more_body:
                # Closing now would reset the connection under a client that still sends; `draining` closes it.
                self.protocol.closes_after_body = self.keep_alive = True
        await super().send(message)

    is_unframed = False

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


async def head_of_get(
    app: ASGI3Application, scope: HTTPScope, receive: ASGIReceiveCallable, send: ASGISendCallable
) -> None:
    """HEAD is answered as GET is, without the body: its first part ends the answer, and the application is told that
    the client left."""
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
