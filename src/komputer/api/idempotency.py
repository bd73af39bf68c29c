"""`Idempotency-Key` on every POST: a request that is sent again gets the same answer and is carried out once.

Routes that create an object under an id of their own use `request_id`: if an attempt crashed, the next one recognises
what the first one created. Other routes are protected from a second attempt once the first has been answered.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from functools import partial
from urllib.parse import parse_qsl
from uuid import uuid4

import orjson
import structlog
from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from komputer.api.errors import answer, translated
from komputer.background import retry
from komputer.domain.errors import KomputerError, Unavailable
from komputer.redis.idempotency import LOCK_MS, Idempotency, InFlight, Record, StoredResponse

log = structlog.get_logger(__name__)

KEY_LIMIT = 255
WAIT_S = 15.0
"""How long a second attempt waits for the answer of the first, in seconds: longer than the lock of a crashed
attempt."""
POLL_INTERVAL_S = 0.05
NOT_CARRIED_OUT = frozenset({400, 401, 403, 404, 405, 413, 422, 429})
"""Statuses of requests that changed nothing: the corrected request may use the key again."""
KEPT_HEADERS = ("content-type", "etag")


def request_id(request: Request) -> str | None:
    """Return a ULID that is the same for every attempt of this request; None if the client sent no key."""
    return getattr(request.state, "request_id", None)


class OncePerKey:
    """Middleware around the routes. `requests` stores the records, so that any replica may get the next attempt."""

    def __init__(self, app: ASGIApp, requests: Idempotency, default_namespace: str) -> None:
        self.app = app
        self._requests = requests
        self._default_namespace = default_namespace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].startswith("/api/"):
            await self.app(scope, receive, send)
            return
        keys = [value.decode("latin-1").strip() for name, value in scope["headers"] if name == b"idempotency-key"]
        if not keys:
            await self.app(scope, receive, send)
            return
        if len(keys) > 1 or not (1 <= len(keys[0]) <= KEY_LIMIT and keys[0].isascii() and keys[0].isprintable()):
            refused = answer(400, f"Idempotency-Key must be one key of 1 to {KEY_LIMIT} ASCII characters", "invalid")
            await refused(scope, receive, send)
            return
        body = await _whole(receive)
        key, digest = self._of(scope, body, keys[0])
        try:
            given = await self._once(key, digest, lambda record: self._carried_out(scope, body, record))
        except KomputerError as error:
            await translated(error)(scope, receive, send)
            return
        headers = [(name.encode(), value.encode()) for name, value in given.headers]
        raw = given.body.encode()
        headers.append((b"content-length", str(len(raw)).encode()))
        await send({"type": "http.response.start", "status": given.status, "headers": headers})
        await send({"type": "http.response.body", "body": raw})

    def _of(self, scope: Scope, body: bytes, key: str) -> tuple[str, str]:
        """Return the key of the record and the digest of the request."""
        query = sorted(parse_qsl(scope["query_string"].decode("latin-1")))
        try:
            parsed = orjson.loads(body)
            body = orjson.dumps(parsed, option=orjson.OPT_SORT_KEYS)
        except (orjson.JSONDecodeError, orjson.JSONEncodeError):
            parsed = None
        named = parsed.get("namespace") if isinstance(parsed, dict) else None
        namespace = named or dict(query).get("namespace") or self._default_namespace
        caller = getattr(scope.get("state", {}).get("caller"), "username", "")
        where = orjson.dumps([caller, str(namespace), scope["path"], key])
        return hashlib.sha256(where).hexdigest(), hashlib.sha256(orjson.dumps(query) + b"\n" + body).hexdigest()

    async def _once(self, key: str, digest: str, act: Callable[[Record], Awaitable[StoredResponse]]) -> StoredResponse:
        """Return the stored answer of the request. If there is none, call `act`, store its answer and return it; only
        one attempt at a time does so. Raises `InFlight` if another attempt takes longer than `WAIT_S`."""
        holder, deadline = uuid4().hex, time.monotonic() + WAIT_S
        record, is_new = await self._requests.opened(key, digest)
        while record.answer is None and not await self._requests.lock(key, holder):
            if time.monotonic() > deadline:
                raise InFlight("the first attempt of this request is still being carried out; try again in a moment")
            await asyncio.sleep(POLL_INTERVAL_S)
            record, is_new = await self._requests.opened(key, digest)
        if record.answer is not None:
            return record.answer
        renewing = asyncio.create_task(retry("lock of a request", partial(self._renew, key, holder)))
        try:
            # Between the last read and the lock another attempt may have been answered.
            record, made_now = await self._requests.opened(key, digest)
            if record.answer is not None:
                return record.answer
            given = await act(record)
            await self._keep(key, record, given, is_new=is_new or made_now)
            return given
        finally:
            renewing.cancel()
            await asyncio.shield(self._unlock(key, holder))

    async def _keep(self, key: str, record: Record, given: StoredResponse, *, is_new: bool) -> None:
        try:
            if given.status in NOT_CARRIED_OUT:
                if is_new:
                    await self._requests.forget(key)
            elif given.status < 500:
                await self._requests.answered(key, record, given)
        except Unavailable as error:
            # The request was executed, so it is answered. The next attempt recognises its result by the id.
            log.warning("answer not kept", error=error.message)

    async def _carried_out(self, scope: Scope, body: bytes, record: Record) -> StoredResponse:
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        sent = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Message:
            return next(sent, None) or {"type": "http.disconnect"}

        state = {**scope.get("state", {}), "request_id": record.id}
        await self.app({**scope, "state": state}, receive, keep)
        start = next(message for message in messages if message["type"] == "http.response.start")
        raw = b"".join(message.get("body", b"") for message in messages if message["type"] == "http.response.body")
        headers = [(name.decode(), value.decode("latin-1")) for name, value in start["headers"]]
        return StoredResponse(
            start["status"], [pair for pair in headers if pair[0].lower() in KEPT_HEADERS], raw.decode()
        )

    async def _renew(self, key: str, holder: str) -> None:
        while True:
            await asyncio.sleep(LOCK_MS / 3000)
            try:
                await self._requests.renew(key, holder)
            except Unavailable as error:
                log.warning("lock of a request not renewed", error=error.message)

    async def _unlock(self, key: str, holder: str) -> None:
        try:
            await self._requests.unlock(key, holder)
        except Unavailable as error:
            log.warning("lock of a request not released; it expires", error=error.message)


async def _whole(receive: Receive) -> bytes:
    """Return the body. `BodyLimit` has checked its size."""
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message["type"] == "http.request" and message.get("more_body", False)
    return b"".join(parts)
