"""Sends a reply: plays its moves one after the other, to a client that may disconnect at any time."""

from __future__ import annotations

from collections import OrderedDict

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from komputer.offline import wire
from komputer.offline.answer import ModelReply
from komputer.offline.script import Fail, Hang, Wait

PING_SECONDS = 5.0
"""Seconds between two pings during a `wait`, which show that the connection is alive. A guess, unmeasured."""


class Counters:
    """Counts how often each step with `times` was played, in memory. With more than `limit` steps the oldest counts are
    dropped."""

    def __init__(self, limit: int = 10_000) -> None:
        self._played: OrderedDict[str, int] = OrderedDict()
        self._limit = limit

    def take(self, step: str, times: int | None) -> bool:
        """Return whether `step` is to be played, and count it. If `times` is None, it is always played, not counted."""
        if times is None:
            return True
        played = self._played.pop(step, 0)
        self._played[step] = min(played + 1, times)
        if len(self._played) > self._limit:
            self._played.popitem(last=False)
        return played < times


class Playing(Response):
    """A response that plays `answer`. Clients with equal conversations have separate counters if their `session`
    differs."""

    def __init__(self, answer: ModelReply, model: str, counters: Counters, *, stream: bool, session: str) -> None:
        self.answer = answer
        self.model = model
        self.counters = counters
        self.stream = stream
        self.session = session

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as group:

            async def leave_with_client() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                group.cancel_scope.cancel()

            group.start_soon(leave_with_client)
            if self.stream:
                await self._play_events(_Outlet(send, wire.opening(self.answer, self.model), self._request_id))
            else:
                await self._play_whole(send)
            group.cancel_scope.cancel()

    async def _play_whole(self, send: Send) -> None:
        for move in self.answer.moves:
            match move.step:
                case Fail() as step if self._is_due(step, move.key):
                    await _send_json(send, wire.error(step.fail, step.message), self._request_id, step.fail)
                    return
                case (Hang(hang=seconds) | Wait(wait=seconds)) as step if self._is_due(step, move.key):
                    await anyio.sleep(seconds)
                case _:
                    pass
        await _send_json(send, wire.message(self.answer, self.model), self._request_id)

    async def _play_events(self, out: _Outlet) -> None:
        """Play the moves as events. A `fail` or `hang` that comes first replaces or delays the headers; a later one
        happens within the stream."""
        index = 0
        for move in self.answer.moves:
            match move.step:
                case Fail() | Hang() | Wait() as step if not self._is_due(step, move.key):
                    pass
                case Fail(fail=status, message=message):
                    error = wire.error(status, message)
                    if not out.is_open:
                        await _send_json(out.send, error, self._request_id, status)
                        return
                    out.write(wire.event("error", error=error["error"]))
                    await out.close()
                    return
                case Hang(hang=seconds):
                    if out.is_open:
                        await out.flush()
                    await anyio.sleep(seconds)
                case Wait(wait=seconds):
                    out.write(b"")
                    await self._ping(out, seconds)
                case step:
                    out.write(wire.block(self.answer, step, index))
                    index += 1
        out.write(wire.closing(self.answer))
        await out.close()

    async def _ping(self, out: _Outlet, seconds: float) -> None:
        end = anyio.current_time() + seconds
        while (left := end - anyio.current_time()) > 0:
            await out.flush()
            await anyio.sleep(min(PING_SECONDS, left))
            out.write(wire.PING if left > PING_SECONDS else b"")

    def _is_due(self, step: Fail | Hang | Wait, key: str) -> bool:
        return self.counters.take(f"{self.session or self.answer.origin}:{key}", step.times)

    @property
    def _request_id(self) -> bytes:
        return f"req_offline_{self.answer.id}".encode()


class _Outlet:
    """The event stream. Events are buffered until the next pause: a turn without pauses is one write instead of one per
    word."""

    def __init__(self, send: Send, opening: bytes, request_id: bytes) -> None:
        self.send = send
        self.is_open = False
        self._opening = opening
        self._headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            (b"request-id", request_id),
        ]
        self._unsent = b""
        self._has_headers_sent = False

    def write(self, events: bytes) -> None:
        self._unsent += events if self.is_open else self._opening + events
        self.is_open = True

    async def flush(self) -> None:
        if not self._has_headers_sent:
            self._has_headers_sent = True
            await self.send({"type": "http.response.start", "status": 200, "headers": self._headers})
        if self._unsent:
            await self.send({"type": "http.response.body", "body": self._unsent, "more_body": True})
            self._unsent = b""

    async def close(self) -> None:
        await self.flush()
        await self.send({"type": "http.response.body", "body": b""})


async def _send_json(send: Send, value: object, request_id: bytes, status: int = 200) -> None:
    body = wire.encode(value)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"request-id", request_id),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
