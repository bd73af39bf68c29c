"""uvicorn's HTTP/1.1 protocol with limits: on the size and time of a head, on the pace of a body, on idle connections.

A connection is in one of these states, and each has at most one deadline:

    head       no complete request head yet (`head_s`)
    body       the head is complete, the body is not (`body_window_s`, again and again)
    answering  the request is complete, the answer is not: no deadline, since event streams last for days
    draining   answered, and the rest of the body is dropped (`drain_s`)
    idle       between two requests (`idle_s`)
    lingering  refused; what still comes is dropped so that the client can read why (`linger_s`)

Refusals are answered as JSON: they never reach the application.
"""

import asyncio
import socket
import urllib.parse
from functools import partial
from typing import Any, Final, NoReturn

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from komputer.http import descriptors, refusals
from komputer.http.connections import Connections, Slot, totals
from komputer.http.cycle import Cycle, head_of_get
from komputer.http.limits import Limits
from komputer.http.refusals import Refusal

PIECE_BYTES: Final = 16 * 1024
"""A head is parsed in pieces of this size, so that no unfinished field grows beyond the limit by more than this."""


class Refused(Exception):
    """This request is answered by the protocol."""

    def __init__(self, status: int, sentence: str, code: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.code = status, sentence, code


class HttpProtocol(HttpToolsProtocol):
    """One connection. `limits`, `tracked` and `refusal` are the server's."""

    def __init__(self, *arguments: Any, limits: Limits, tracked: Connections, refusal: Refusal, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.limits, self._tracked, self._refusal = limits, tracked, refusal
        self._slot: Slot | None = None
        self._running: Cycle | None = None
        self._in_head = self._in_body = False
        self._fault: Refused | None = None
        """Why the connection takes no more requests: answered once what came before is answered."""
        self._is_lingering = False
        self.closes_after_body = False
        self._head_bytes = self._field_bytes = self._fields = 0
        self._framing_bytes = 0
        """Of a chunked body: read since the last byte of its content. Extensions and trailers are such bytes."""
        self._body_bytes = self._dropped_bytes = 0
        self._hosts = self._codings = 0
        self._since = 0.0
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._timed = ""
        """The state for which the deadline was set."""

    # ---- the connection --------------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self.loop.time()
        connection = transport.get_extra_info("socket")
        descriptor = connection.fileno() if connection is not None else 0
        if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
            # asyncio leaves it to Nagle's algorithm where a listening socket names no protocol, and each answer of two
            # writes waits 40 ms for the client's delayed acknowledgement.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._slot = self._tracked.admit(self, self.client[0] if self.client else "", descriptor)
        if self._slot is None:
            if descriptor > descriptors.soft_limit() - 32:
                transport.abort()  # no descriptor may wait for a client to read why
                return
            self._fault = Refused(
                503, "this server has no room for more connections; try again", "too_many_connections"
            )
            self._send_refusal()
            return
        self._set_deadline(self.limits.head_s, "head")

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self._slot:
            self._tracked.release(self._slot)
        # uvicorn tells the newest request only; with pipelined ones an older one may be running.
        for cycle in (self._running, *(queued for queued, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)
        self._running = self.cycle = None  # type: ignore[assignment]  # a cycle refers to us

    @property
    def idle_since(self) -> float | None:
        """See `connections.Evictable`."""
        return self._since if self._running is None else None

    def evict(self) -> None:
        self.transport.abort()

    def shutdown(self) -> None:
        if self._running is None:
            self.transport.close()
            return
        for cycle in (self._running, *(queued for queued, _ in self.pipeline)):
            cycle.keep_alive = False

    # ---- deadlines ---------------------------------------------------------------------------------------------------
    def _set_deadline(self, seconds: float, state: str) -> None:
        """A timer that is due too early is set anew when it fires: a busy connection sets none per request."""
        self._deadline, self._timed = self.loop.time() + seconds, state
        if self._timer is not None and self._timer_at > self._deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer, self._timer_at = self.loop.call_at(self._deadline, self._due), self._deadline

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        if self._deadline is None or self.transport.is_closing():
            return
        if (now := self.loop.time()) < self._deadline:
            self._timer, self._timer_at = self.loop.call_at(self._deadline, self._due), self._deadline
            return
        match self._timed:
            case "head" if self._in_head:
                seconds = self.limits.head_s
                self._refuse(
                    Refused(408, f"the head of the request was not complete within {seconds:g} s", "request_timeout")
                )
            case "body":
                self._judge_pace()
            case "lingering":
                self.transport.abort()
            case _:
                self._since = now
                self.transport.close()

    def _judge_pace(self) -> None:
        window, rate = self.limits.body_window_s, self.limits.body_bytes_per_s
        cycle = self.cycle
        if self.flow.read_paused or cycle.waiting_for_100_continue or self._body_bytes >= window * rate:
            self._body_bytes = 0
            self._set_deadline(window, "body")
            return
        self._refuse(
            Refused(
                408, f"the body came more slowly than {rate} bytes/s for {window:g} s; send it again", "request_timeout"
            )
        )

    # ---- bytes -------------------------------------------------------------------------------------------------------
    def data_received(self, data: bytes) -> None:
        if self._fault is not None:
            self._drop(len(data))
            return
        try:
            for place in range(0, len(data), PIECE_BYTES):
                piece = data if len(data) <= PIECE_BYTES else data[place : place + PIECE_BYTES]
                self._framing_bytes += len(piece)
                self.parser.feed_data(piece)
                if self._in_head:
                    self._head_bytes += len(piece)
                    if self._head_bytes > self.limits.head_bytes + PIECE_BYTES:
                        self._head_too_large()
                elif self._in_body and self._framing_bytes > self.limits.head_bytes + PIECE_BYTES:
                    raise Refused(400, "the body has too many bytes that are not content", "malformed_request")
        except Refused as refused:
            self._refuse(refused)
        except httptools.HttpParserUpgrade:
            self._upgrade()
        except httptools.HttpParserError as error:
            cause = error.__cause__ or error.__context__
            if not isinstance(cause, Refused):
                cause = Refused(400, "this is not a request of HTTP/1.1", "malformed_request")
            self._refuse(cause)
        self._look()

    def _look(self) -> None:
        """Set the deadline of the state that these bytes led to."""
        if self._fault is not None or self.transport.is_closing() or self.parser is None:
            return
        if self._in_body:
            if self._running is None:
                if self._dropped_bytes > self.limits.linger_bytes:
                    self.transport.abort()
            elif self._timed != "body":
                self._body_bytes = 0
                self._set_deadline(self.limits.body_window_s, "body")
        elif self._in_head:
            if self._timed != "head":
                self._set_deadline(self.limits.head_s, "head")
        elif self._running is not None:
            self._deadline, self._timed = None, ""
        elif self._timed == "draining":
            self._rest()

    def _drop(self, size: int) -> None:
        self._dropped_bytes += size
        if self._dropped_bytes > self.limits.linger_bytes:
            self.transport.abort()

    def _upgrade(self) -> None:
        if self._should_upgrade() and self._running is None:
            self._stop_timer()
            self.handle_websocket_upgrade()
        elif self._running is not None and self.cycle is not None:
            # Another protocol, such as h2c: the request is answered as HTTP/1.1, and what follows is not ours to read.
            self.cycle.keep_alive = False

    def handle_websocket_upgrade(self) -> None:
        super().handle_websocket_upgrade()
        if self._slot:
            self._slot.connection = None
            self.transport.get_protocol().hold(self._tracked, self._slot)  # type: ignore[attr-defined]

    # ---- refusals ----------------------------------------------------------------------------------------------------
    def _refuse(self, refused: Refused) -> None:
        """Answer with this error and close, once the requests before it are answered."""
        if self._fault is not None:
            return
        self._fault, cycle = refused, self.cycle
        if self._in_body:  # of the newest request
            if cycle is None or cycle.response_complete:
                self.transport.close()
                return
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle is self._running:
                self._running = None
                if cycle.response_started:
                    self.transport.close()
                    return
            else:
                self.pipeline = type(self.pipeline)(pair for pair in self.pipeline if pair[0] is not cycle)
        if self._running is None:
            self._send_refusal()

    def _send_refusal(self) -> None:
        """The rest of what the client sends is dropped for a moment: closing at once would reset the connection, and
        the client would lose the answer."""
        assert self._fault is not None
        if self._is_lingering or self.transport.is_closing():
            return
        fault, self._is_lingering = self._fault, True
        if self._slot is not None:  # else `admit` has counted it
            totals.refuse(fault.code, self.client[0] if self.client else "")
        self.transport.write(refusals.response(fault.status, self._refusal(fault.status, fault.sentence, fault.code)))
        self._since = self.loop.time()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._set_deadline(self.limits.linger_s, "lingering")

    def send_400_response(self, msg: str) -> None:
        self._refuse(Refused(400, "this is not a request of HTTP/1.1", "malformed_request"))

    def _head_too_large(self) -> NoReturn:
        raise Refused(
            431,
            f"the head of the request is larger than {self.limits.head_bytes // 1024} KiB or has more than "
            f"{self.limits.header_fields} fields",
            "head_too_large",
        )

    # ---- the parser's callbacks --------------------------------------------------------------------------------------
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._in_body = True, False
        self._head_bytes = self._field_bytes = self._fields = self._framing_bytes = self._hosts = self._codings = 0
        self._timed = ""

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > self.limits.url_bytes:
            limit = self.limits.url_bytes // 1024
            raise Refused(414, f"the address of the request is longer than {limit} KiB", "uri_too_long")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer: no part of the head (RFC 9110 6.5.1)
        name = name.lower()
        self._fields += 1
        self._field_bytes += len(name) + len(value) + 4
        if self._fields > self.limits.header_fields or self._field_bytes + len(self.url) > self.limits.head_bytes:
            self._head_too_large()
        if name == b"host":
            self._hosts += 1
        elif name == b"transfer-encoding":
            self._codings += 1
            if value.strip().lower() != b"chunked" or self._codings > 1:
                raise Refused(501, "Transfer-Encoding can only be chunked", "unsupported_transfer_encoding")
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        version, method = self.parser.get_http_version(), self.parser.get_method().decode("ascii")
        self._check_head(version)
        self.scope["method"] = method
        if version != "1.1":
            self.scope["http_version"] = version
        if self.parser.should_upgrade() and self._should_upgrade():
            self._check_handshake(method, version)
            self._in_head, self._in_body = False, True
            return
        raw_path, query = _target(self.url)
        path = raw_path.decode("ascii")
        if "%" in path:
            path = urllib.parse.unquote(path)
        self.scope["path"] = self.root_path + path
        self.scope["raw_path"] = self.root_path.encode("ascii") + raw_path
        self.scope["query_string"] = query
        self._in_head, self._in_body = False, True
        self._framing_bytes = self._dropped_bytes = 0
        cycle = self.cycle = Cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        cycle.refusal, cycle.protocol = self._refusal, self
        app: Any = partial(head_of_get, self.app) if method == "HEAD" else self.app
        if self._running is None:
            self._running = cycle
            self._start_asgi_task(cycle, app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, app))

    def _check_head(self, version: str) -> None:
        """Raises `Refused` for a head that two readers could take for different requests, and for one too many."""
        if self._hosts > 1:
            raise Refused(400, "the request has more than one Host header", "duplicate_host")
        if not self._hosts and version == "1.1":
            raise Refused(400, "the request has no Host header", "missing_host")
        if self._codings and version == "1.0":
            raise Refused(400, "HTTP/1.0 has no Transfer-Encoding", "malformed_request")
        if len(self.pipeline) >= self.limits.pipelined:
            limit = self.limits.pipelined
            raise Refused(429, f"more than {limit} requests wait for answers on one connection", "too_many_pipelined")

    def _check_handshake(self, method: str, version: str) -> None:
        names = {name: value for name, value in self.headers}
        if self._running is not None:
            raise Refused(400, "a WebSocket cannot begin behind an unanswered request", "malformed_request")
        if method != "GET" or version != "1.1" or not names.get(b"sec-websocket-key"):
            raise Refused(400, "this is no WebSocket handshake: send GET with Sec-WebSocket-Key", "malformed_request")
        if names.get(b"sec-websocket-version", b"").strip() != b"13":
            raise Refused(426, "send Sec-WebSocket-Version: 13", "malformed_request")

    def on_body(self, body: bytes) -> None:
        self._framing_bytes = 0
        self._body_bytes += len(body)
        cycle = self.cycle
        if (self.parser.should_upgrade() and self._should_upgrade()) or cycle.response_complete:
            self._dropped_bytes += len(body)
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_body = False
        if self._running is None and self.closes_after_body:
            self.transport.close()
        self._timed = "draining" if self._running is None else ""

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        self._running = None
        if self.transport.is_closing():
            return
        if self.pipeline:
            self.flow.resume_reading()
            cycle, app = self.pipeline.pop()
            self._running = cycle  # type: ignore[assignment]
            self._start_asgi_task(cycle, app)
        elif self._fault is not None:
            self._send_refusal()
        elif self._in_body:
            self.flow.resume_reading()
            self._since = self.loop.time()
            self._set_deadline(self.limits.drain_s, "draining")
        else:
            self.flow.resume_reading()
            self._rest()

    def _rest(self) -> None:
        """The request is read and answered; another one may come, or has begun to."""
        self._since = self.loop.time()
        if not self._in_head:
            self._set_deadline(self.limits.idle_s, "idle")


def _target(url: bytes) -> tuple[bytes, bytes]:
    """The path and the query of a request's target. Raises `Refused`."""
    if url == b"*":
        return url, b""
    try:
        parsed = httptools.parse_url(url)
    except httptools.HttpParserInvalidURLError:
        raise Refused(400, "the address of the request is not a URL", "malformed_request") from None
    if not (path := parsed.path or b"/").isascii():
        raise Refused(400, "the path of the request must be percent-encoded ASCII", "malformed_request")
    return path, parsed.query or b""
