"""Following events: how one who takes events is served, as WebSocket or as Server-Sent Events.

Who takes nothing for `TAKE_WITHIN_S` is closed, and may come back with a cursor. What is followed, the routes say.
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
"""Of one process. A guess: each costs a socket and some tasks."""
TAKE_WITHIN_S: Final = 10.0
"""A reader that takes nothing for so long, while something waits for it, is too slow."""
CLOSE_WITHIN_S: Final = 2.0
HEARTBEAT_S: Final = 10.0
"""Of Server-Sent Events, while nothing happens: proxies give up after 30 s or more. WebSockets are pinged by the
server that speaks their protocol."""
RETRY_MS: Final = 1000
"""How soon a browser is to come back."""
REASON_LIMIT_BYTES: Final = 123
"""Of a WebSocket's close frame (RFC 6455)."""
PONGED: Final = "komputer.ponged"
"""The scope's extension that pings the client and returns when it has answered (`websockets.py`)."""

UNAUTHORIZED, FORBIDDEN = 4401, 4403
INVALID, NOT_FOUND, TOO_SLOW, DELETED, TOO_MANY = 4400, 4404, 4408, 4410, 4429
INTERNAL, RESTARTING, TRY_AGAIN = 1011, 1012, 1013


Guard = Callable[[], Coroutine[None, None, None]]
"""Runs while a stream is open, and raises when its reader may follow no longer."""


class Follower(Protocol):
    """Who takes events: a reader of the tail, or a member of a group."""

    @property
    def cursor(self) -> Cursor:
        """Of all that was taken."""

    async def begin(self) -> None:
        """From here on nothing is missed."""

    async def take(self) -> list[Delivery]:
        """At least one; waits for it."""

    async def confirm(self, told: list[Delivery], ponged: Callable[[], Awaitable[None]] | None) -> None:
        """These were sent; `ponged` returns when the client has answered a ping, and so has got them."""

    async def close(self) -> None:
        """It takes no more."""


class Filter(Protocol):
    """What of the events that are followed one reader gets."""

    async def of(self, taken: list[Delivery]) -> list[Delivery]:
        """Those of `taken` that the reader asked for and may see, with cursors that name nobody else."""

    async def cursor_text(self, cursor: Cursor) -> str:
        """As the reader gets it."""


class TooSlow(KomputerError):
    """The reader does not take what waits for it."""

    code = "too_slow"

    def __init__(self) -> None:
        super().__init__("this reader takes too little; come back with your cursor")


class Draining(KomputerError):
    """The process is about to stop."""

    code = "restarting"

    def __init__(self) -> None:
        super().__init__("the server is about to stop; come back with your cursor")


class EventStreams:
    """All open streams of a process."""

    def __init__(self, tail: Tail, limit: int = READERS) -> None:
        self.tail = tail
        self._limit = limit
        self._is_draining = False
        self._open: set[asyncio.Future[None]] = set()

    def __len__(self) -> int:
        return len(self._open)

    def agent_changed(self, change: CacheChange) -> None:
        """Ends the streams of an agent that is gone or going."""
        metadata = change.manifest["metadata"]
        is_gone = change.type == "DELETED" or bool(metadata.get("deletionTimestamp"))
        self.tail.end(ObjectRef.of(change.manifest), but_uid=None if is_gone else metadata["uid"])

    def drain(self) -> None:
        """The process is about to stop: end all, admit no more."""
        self._is_draining = True
        for ending in self._open:
            if not ending.done():
                ending.set_result(None)

    @contextmanager
    def admitted(self) -> Iterator[asyncio.Future[None]]:
        """While one is open; the future tells when it is to end. Raises `Unavailable` for one too many."""
        if self._is_draining or len(self._open) >= self._limit:
            raise Unavailable("this server takes no more streams now; try again", code="too_many_streams")
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
    """Runs `pump` until it or `guard` fails, the client leaves (returns) or the process is about to stop (raises)."""
    pumping, leaving, guarding = map(asyncio.ensure_future, (pump, _left(receive), guard()))
    try:
        await asyncio.wait({pumping, leaving, guarding, ending}, return_when=asyncio.FIRST_COMPLETED)
        if leaving.done():
            return
        for failed in (pumping, guarding):
            if failed.done():
                failed.result()
        raise Draining
    except OSError:  # the client is gone
        return
    finally:
        tasks = (pumping, leaving, guarding)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while not (await receive())["type"].endswith(".disconnect"):
        pass


# ---- WebSocket -----------------------------------------------------------------------------------------------------
def close_code(error: KomputerError) -> int:
    """Of a WebSocket that ends with this error."""
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
    """As much of the sentence as a close frame holds."""
    text = error.message if close_code(error) != INTERNAL else "internal error"
    return text.encode()[:REASON_LIMIT_BYTES].decode(errors="ignore")


async def websocket(
    streams: EventStreams,
    follow: Callable[[], Awaitable[tuple[Follower, Guard]]],
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Serve one WebSocket to its end. `follow` raises what is wrong with the request; a close code tells it."""
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
            async with asyncio.timeout(CLOSE_WITHIN_S):
                if not is_accepted:
                    await send({"type": "websocket.accept"})
                await send({"type": "websocket.close", "code": close_code(error), "reason": close_reason(error)})
        except (OSError, TimeoutError):
            pass
    except OSError:  # left while it was accepted
        pass
    finally:
        if follower:
            await follower.close()


async def _frames(follower: Follower, send: Send, ponged: Callable[[], Awaitable[None]] | None) -> None:
    while True:
        told = await follower.take()
        try:
            async with asyncio.timeout(TAKE_WITHIN_S):
                for each in told:
                    await send({"type": "websocket.send", "text": each.text})
            await follower.confirm(told, ponged)
        except TimeoutError:
            raise TooSlow() from None
        await asyncio.sleep(0)  # `send` need not wait: others have their turn


# ---- Server-Sent Events --------------------------------------------------------------------------------------------
class EventStream(Response):
    """An answer that never ends by itself. `wanted` filters; the cursor goes on with what it leaves out. With
    `has_cursor` the reader has brought one, and keeps it until it is told a newer one: what a cursor from outside names
    is looked at no sooner than what is there was read."""

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
            log.info("a reader was too slow")
        finally:
            if follower:
                await follower.close()

    async def _chunks(self, follower: Follower, send: Send) -> None:
        said = None if self._has_cursor else await self._wanted.cursor_text(follower.cursor)
        await _say(send, f"retry: {RETRY_MS}\n" + (f"id: {said}\n\n" if said else "\n"))
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    taken = await follower.take()
            except TimeoutError:
                now = said
                with suppress(Unavailable):  # nobody can tell what the reader may see
                    now = await self._wanted.cursor_text(follower.cursor)
                await _say(send, ":\n\n" if now == said else f"id: {now}\n\n")
                said = now
                continue
            if told := await self._wanted.of(taken):
                await _say(send, "".join(map(sse, told)))
                said = told[-1].cursor_text
            await asyncio.sleep(0)


def end_message(end: KomputerError) -> str:
    """The last message of a stream: why nothing follows, as a code for programs and as a comment for people. A comment
    only where the reader is to come back at once."""
    sentence = " ".join(end.message.split())
    return ": restarting\n\n" if isinstance(end, Draining) else f": {sentence}\nevent: end\ndata: {end.code}\n\n"


def sse(told: Delivery) -> str:
    """One event as a browser's `EventSource` reads it; a gap has a name of its own."""
    name = f"event: {GAP}\n" if told.type == GAP else ""
    return f"id: {told.cursor_text}\n{name}data: {told.text}\n\n"


async def _say(send: Send, text: str) -> None:
    try:
        async with asyncio.timeout(TAKE_WITHIN_S):
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
    except TimeoutError:
        raise TooSlow() from None
