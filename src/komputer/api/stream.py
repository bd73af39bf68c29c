"""Event streams: serves one reader of events over a WebSocket or as Server-Sent Events.

A reader that accepts no data for `WRITE_TIMEOUT_S` is disconnected; it may reconnect with its cursor. The routes decide
which events a reader gets.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Final, Protocol

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from komputer.domain.errors import Forbidden, Invalid, KomputerError, NotFound, Unauthorized, Unavailable
from komputer.domain.ref import ObjectRef
from komputer.events.follow.cursors import Cursor
from komputer.events.follow.sources import GAP, Delivery
from komputer.events.follow.tail import StreamEnded, Tail
from komputer.kube import CacheChange

log = structlog.get_logger(__name__)

READERS: Final = 1000
"""Maximum number of streams per process. A guess: each needs a socket and some tasks."""
WRITE_TIMEOUT_S: Final = 10.0
"""Time in seconds after which a reader that accepts no data, while events wait for it, is too slow."""
CLOSE_TIMEOUT_S: Final = 2.0
HEARTBEAT_S: Final = 10.0
"""Interval in seconds of comments on an idle Server-Sent Events stream: proxies close idle connections after 30 s or
more. WebSockets are pinged by the server."""
RETRY_MS: Final = 1000
"""Delay in milliseconds after which a browser should reconnect."""
REASON_LIMIT_BYTES: Final = 123
"""Maximum length of the reason in a close frame (RFC 6455)."""
PONGED: Final = "komputer.ponged"
"""Name of the ASGI extension that pings the client and returns when it has answered; see `websockets.py`."""

UNAUTHORIZED, FORBIDDEN = 4401, 4403
INVALID, NOT_FOUND, TOO_SLOW, DELETED, TOO_MANY = 4400, 4404, 4408, 4410, 4429
INTERNAL, RESTARTING, TRY_AGAIN = 1011, 1012, 1013


Guard = Callable[[], Coroutine[None, None, None]]
"""Runs while a stream is open; raises when its reader may no longer follow."""


class Follower(Protocol):
    """A source of events: a reader of the tail, or a member of a group."""

    @property
    def cursor(self) -> Cursor:
        """The position after the events that were taken."""

    async def begin(self) -> None:
        """Set the position. No later event is missed."""

    async def take(self) -> list[Delivery]:
        """Wait for events and return at least one."""

    async def confirm(self, sent: list[Delivery], ponged: Callable[[], Awaitable[None]] | None) -> None:
        """Record that the events were sent. `ponged` returns when the client has answered a ping."""

    async def close(self) -> None:
        """Stop taking events."""


class Filter(Protocol):
    """Selects the events that one reader gets."""

    async def of(self, read: list[Delivery]) -> list[Delivery]:
        """Return the events that the reader asked for and may see, with cursors that name no other agents."""

    async def cursor_text(self, cursor: Cursor) -> str:
        """Return a cursor in the form that the reader gets."""


class TooSlow(KomputerError):
    """The reader does not read the events that wait for it."""

    code = "too_slow"

    def __init__(self) -> None:
        super().__init__("this reader is too slow; reconnect with your cursor")


class Draining(KomputerError):
    """The process is about to stop."""

    code = "restarting"

    def __init__(self) -> None:
        super().__init__("the server is about to stop; reconnect with your cursor")


class EventStreams:
    """All open streams of a process. `len` is their number."""

    def __init__(self, tail: Tail, limit: int = READERS) -> None:
        self.tail = tail
        self._limit = limit
        self._is_draining = False
        self._open: set[asyncio.Future[None]] = set()

    def __len__(self) -> int:
        return len(self._open)

    def agent_changed(self, change: CacheChange) -> None:
        """End the streams of an agent that was deleted or is terminating."""
        metadata = change.manifest["metadata"]
        is_gone = change.type == "DELETED" or bool(metadata.get("deletionTimestamp"))
        self.tail.end(ObjectRef.of(change.manifest), but_uid=None if is_gone else metadata["uid"])

    def drain(self) -> None:
        """End all streams and refuse new ones, because the process is about to stop."""
        self._is_draining = True
        for ending in self._open:
            if not ending.done():
                ending.set_result(None)

    @contextmanager
    def admitted(self) -> Iterator[asyncio.Future[None]]:
        """Count a stream while it is open. The yielded future is done when the stream must end. Raises `Unavailable` if
        there are too many."""
        if self._is_draining or len(self._open) >= self._limit:
            raise Unavailable("this server has too many open streams; try again", code="too_many_streams")
        ending: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open.add(ending)
        try:
            yield ending
        finally:
            self._open.discard(ending)
            ending.cancel()


async def until_any(
    pump: Coroutine[None, None, None], guard: Guard, receive: Receive, ending: asyncio.Future[None]
) -> None:
    """Run `pump` until the client disconnects. Also ends when `guard` raises or `ending` is done. Raises what `pump` or
    `guard` raises, and `Draining`."""
    pumping, leaving, guarding = map(asyncio.ensure_future, (pump, _disconnected(receive), guard()))
    try:
        await asyncio.wait({pumping, leaving, guarding, ending}, return_when=asyncio.FIRST_COMPLETED)
        if leaving.done():
            return
        for failed in (pumping, guarding):
            if failed.done():
                failed.result()
        raise Draining
    except OSError:  # the client disconnected
        return
    finally:
        tasks = (pumping, leaving, guarding)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while not (await receive())["type"].endswith(".disconnect"):
        pass


# ---- WebSocket -----------------------------------------------------------------------------------------------------
def close_code(error: KomputerError) -> int:
    """Return the close code of a WebSocket that ends with this error."""
    match error:
        case TooSlow():
            return TOO_SLOW
        case StreamEnded():
            return DELETED
        case NotFound():
            return NOT_FOUND
        case Invalid():
            return INVALID
        case Unauthorized():
            return UNAUTHORIZED
        case Forbidden():
            return FORBIDDEN
        case Draining():
            return RESTARTING
        case Unavailable():
            return TOO_MANY if error.code == "too_many_streams" else TRY_AGAIN
        case _:
            return INTERNAL


def close_reason(error: KomputerError) -> str:
    """Return the error's sentence, cut to the length that a close frame allows."""
    text = error.message if close_code(error) != INTERNAL else "internal error"
    return text.encode()[:REASON_LIMIT_BYTES].decode(errors="ignore")


async def websocket(
    streams: EventStreams,
    follow: Callable[[], Awaitable[tuple[Follower, Guard]]],
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Serve one WebSocket until it is closed. Errors, also those that `follow` raises, become close codes."""
    await receive()  # websocket.connect
    is_accepted = False
    follower: Follower | None = None
    try:
        with streams.admitted() as ending:
            follower, guard = await follow()
            await follower.begin()
            await send({"type": "websocket.accept"})
            is_accepted = True
            ponged = scope.get("extensions", {}).get(PONGED)
            await until_any(_frames(follower, send, ponged), guard, receive, ending)
    except KomputerError as error:
        if close_code(error) == INTERNAL:
            log.error("stream failed", exc_info=error)
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                if not is_accepted:
                    await send({"type": "websocket.accept"})
                await send({"type": "websocket.close", "code": close_code(error), "reason": close_reason(error)})
        except (OSError, TimeoutError):
            pass
    except OSError:  # disconnected during the handshake
        pass
    finally:
        if follower:
            await follower.close()


async def _frames(follower: Follower, send: Send, ponged: Callable[[], Awaitable[None]] | None) -> None:
    while True:
        taken = await follower.take()
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                for each in taken:
                    await send({"type": "websocket.send", "text": each.text})
            await follower.confirm(taken, ponged)
        except TimeoutError:
            raise TooSlow() from None
        await asyncio.sleep(0)  # `send` may return at once: let other tasks run


# ---- Server-Sent Events --------------------------------------------------------------------------------------------
class EventStream(Response):
    """A response that streams events until the client disconnects.

    `wanted` filters the events; the cursor also advances past events that are left out. With `has_cursor` the request
    had a cursor. The client then keeps it until it gets a newer one with an event: a cursor from a client is not
    checked before the logs have been read, so none is sent at the start of the stream.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        streams: EventStreams,
        follow: Callable[[], Follower],
        wanted: Filter,
        guard: Guard,
        *,
        has_cursor: bool = False,
    ) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._streams, self._follow, self._wanted, self._guard = streams, follow, wanted, guard
        self._has_cursor = has_cursor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        follower: Follower | None = None
        is_begun = False
        try:
            with self._streams.admitted() as ending:
                follower = self._follow()
                await follower.begin()
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                is_begun = True
                await until_any(self._chunks(follower, send), self._guard, receive, ending)
        except (StreamEnded, Draining, Unauthorized, Forbidden) as end:
            if not is_begun:
                raise
            await send({"type": "http.response.body", "body": end_message(end).encode()})
        except TooSlow:
            log.info("reader disconnected, too slow")
        finally:
            if follower:
                await follower.close()

    async def _chunks(self, follower: Follower, send: Send) -> None:
        sent_cursor = None if self._has_cursor else await self._wanted.cursor_text(follower.cursor)
        await _write(send, f"retry: {RETRY_MS}\n" + (f"id: {sent_cursor}\n\n" if sent_cursor else "\n"))
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    taken = await follower.take()
            except TimeoutError:
                now = sent_cursor
                with suppress(Unavailable):  # the rights of the reader cannot be reviewed now
                    now = await self._wanted.cursor_text(follower.cursor)
                await _write(send, ":\n\n" if now == sent_cursor else f"id: {now}\n\n")
                sent_cursor = now
                continue
            if selected := await self._wanted.of(taken):
                await _write(send, "".join(map(sse, selected)))
                sent_cursor = selected[-1].cursor_text
            await asyncio.sleep(0)


def end_message(end: KomputerError) -> str:
    """Return the last message of a stream: the reason as a code for programs and as a comment for people. If the reader
    should reconnect at once, it is only a comment."""
    sentence = " ".join(end.message.split())
    return ": restarting\n\n" if isinstance(end, Draining) else f": {sentence}\nevent: end\ndata: {end.code}\n\n"


def sse(delivery: Delivery) -> str:
    """Return one event in the format of `EventSource`. A gap has its own event name."""
    name = f"event: {GAP}\n" if delivery.type == GAP else ""
    return f"id: {delivery.cursor_text}\n{name}data: {delivery.text}\n\n"


async def _write(send: Send, text: str) -> None:
    try:
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
    except TimeoutError:
        raise TooSlow() from None
