"""Reads the body of a request within limits, and detects that the caller disconnects."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import orjson
from pydantic import ValidationError
from starlette.types import Message, Receive

from komputer.domain.base import WireModel
from komputer.domain.errors import Invalid
from komputer.gateway.errors import TooLarge
from komputer.gateway.quota import Take
from komputer.http.json_values import has_more_values
from komputer.http.validation import explain

AS_OBJECTS: Final = 8
"""Bytes of a quota that one byte of a body takes while the body is held as Python objects. Hostile JSON grows 26-fold
when it is parsed. Bodies of runtimes are mostly text, which does not grow."""

VALUES_LIMIT: Final = 100_000
"""How many JSON values a post may have: so many block the event loop for about 10 ms. A runtime's largest batch has 100
events of 20 values."""

B = TypeVar("B", bound=WireModel)
T = TypeVar("T")


class ClientLeft(Exception):
    """The caller has disconnected, so no response can be sent."""


async def read(receive: Receive, headers: list[tuple[bytes, bytes]], limit_bytes: int, take: Take) -> bytes:
    """Return the whole body. `take` is called for its bytes as they arrive, so that a slow sender takes no more of the
    quota than it has sent. Raises `TooLarge` as early as possible, `Invalid` for a compressed body, `ClientLeft`, and
    the errors of `take`."""
    if any(name == b"content-encoding" and value != b"identity" for name, value in headers):
        raise Invalid("The request must not be compressed.", code="encoding_not_allowed")
    length = next((value for name, value in headers if name == b"content-length"), b"0")
    if not length.isdigit() or int(length) > limit_bytes:
        raise _too_large(limit_bytes)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        take(len(chunk))
        chunks.append(chunk)
        if not message.get("more_body"):
            return b"".join(chunks) if len(chunks) > 1 else chunk


def replayed(raw: bytes, receive: Receive) -> Receive:
    """Return a `receive` for a library that reads the body itself: it yields `raw`, then what follows."""
    waiting = [{"type": "http.request", "body": raw, "more_body": False}]

    async def received() -> Message:
        return waiting.pop() if waiting else await receive()

    return received


async def until_disconnected(answer: Coroutine[Any, Any, T], receive: Receive) -> T:
    """Return the result of `answer`. If the caller disconnects first, cancel `answer` and raise `ClientLeft`."""
    answering, disconnecting = asyncio.create_task(answer), asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait({answering, disconnecting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        disconnecting.cancel()
        if not (has_answered := answering.done()):
            answering.cancel()
        await asyncio.gather(answering, disconnecting, return_exceptions=True)
    if not has_answered:
        raise ClientLeft
    return answering.result()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(f"The body is larger than {limit_bytes // 2**20} MiB.")


def require_few_values(raw: bytes, limit: int = VALUES_LIMIT) -> None:
    """Raise `TooLarge` for JSON that would block the event loop while it is parsed."""
    if has_more_values(raw, limit):
        raise TooLarge(f"The body has more than {limit} JSON values.")


def validated(kind: type[B], raw: bytes) -> B:
    """Return the body as `kind`. Raises `TooLarge`, or `Invalid` for the first fault, without the value."""
    require_few_values(raw)
    try:
        # For values without a pydantic model of their own, orjson parses ten times as fast as pydantic.
        return kind.model_validate(orjson.loads(raw))
    except orjson.JSONDecodeError as wrong:
        raise Invalid(f"body: it is not JSON: {wrong.msg}", field="body") from None
    except ValidationError as wrong:
        sentence, field = explain(wrong.errors(include_url=False))
        raise Invalid(sentence, field=field) from None
