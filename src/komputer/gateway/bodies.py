"""A caller's body, within bounds, and whether the caller is still there."""

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

AS_OBJECTS: Final = 8
"""Times its bytes is what a body counts that is kept as objects. Those of JSON that is made for it are 26 times as
large; what runtimes send is mostly text, which does not grow."""

VALUES_LIMIT: Final = 100_000
"""JSON values in what a runtime posts: about 10 ms of the event loop. Its largest batch has 100 events of 20 values."""

B = TypeVar("B", bound=WireModel)
T = TypeVar("T")


class ClientLeft(Exception):
    """The caller is gone; nobody is to be answered."""


async def read(receive: Receive, headers: list[tuple[bytes, bytes]], limit_bytes: int, take: Take) -> bytes:
    """The whole body; its bytes are taken as they come, so that a slow sender holds no more than it has sent. Raises
    `TooLarge`, as soon as that is known, `Invalid` for a compressed one, `ClientLeft`, and as `take` does."""
    if any(name == b"content-encoding" and value != b"identity" for name, value in headers):
        raise Invalid("The request must not be compressed.", code="encoding_not_allowed")
    told = next((value for name, value in headers if name == b"content-length"), b"0")
    if not told.isdigit() or int(told) > limit_bytes:
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


def again(raw: bytes, receive: Receive) -> Receive:
    """For a library that reads the body itself: what was read, and then what comes."""
    waiting = [{"type": "http.request", "body": raw, "more_body": False}]

    async def received() -> Message:
        return waiting.pop() if waiting else await receive()

    return received


async def while_there(answer: Coroutine[Any, Any, T], receive: Receive) -> T:
    """What `answer` comes to. Raises `ClientLeft` where the caller leaves before; `answer` was cancelled then."""
    answering, leaving = asyncio.create_task(answer), asyncio.create_task(_left(receive))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        if not (has_answered := answering.done()):
            answering.cancel()
        await asyncio.gather(answering, leaving, return_exceptions=True)
    if not has_answered:
        raise ClientLeft
    return answering.result()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(f"The body is larger than {limit_bytes // 2**20} MiB.")


def require_few_values(raw: bytes, limit: int = VALUES_LIMIT) -> None:
    """Raises `TooLarge` for JSON whose values would hold up the event loop when it is parsed."""
    if has_more_values(raw, limit):
        raise TooLarge(f"The body has more than {limit} JSON values.")


def understood(kind: type[B], raw: bytes) -> B:
    """The body as `kind`. Raises `Invalid` with the path of the first thing that is wrong, and not its value, and
    `TooLarge`."""
    require_few_values(raw)
    try:
        # orjson is ten times as fast as pydantic with values that have no model of their own.
        return kind.model_validate(orjson.loads(raw))
    except orjson.JSONDecodeError as wrong:
        raise Invalid(f"body: it is not JSON: {wrong.msg}", field="body") from None
    except ValidationError as wrong:
        first = wrong.errors(include_input=False, include_url=False)[0]
        path = ".".join(str(part) for part in first["loc"]) or "body"
        raise Invalid(f"{path}: {first['msg']}", field=path) from None
