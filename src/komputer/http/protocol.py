"""uvicorn's HTTP/1.1 protocol with limits: on the size and time of a head, the rate of a body, and idle connections.

A connection is in one of these states; each has at most one deadline:

    head       the request head is incomplete (`head_s`)
    body       the head is complete, the body is not (`body_window_s`, repeatedly)
    answering  the request is complete, the response is not: no deadline, since event streams last for days
    draining   the response is sent, and the rest of the body is discarded (`drain_s`)
    idle       between two requests (`idle_s`)
    lingering  refused; incoming bytes are discarded so that the client can read the response (`linger_s`)

Refusals are JSON responses that this protocol writes itself; the application never sees the request.
"""

import asyncio
import socket
import urllib.parse
from functools import partial
from typing import Any, Final

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from komputer.http import descriptors, refusals
from komputer.http.connections import Connections, Slot, totals
from komputer.http.cycle import Cycle, respond_to_head
from komputer.http.deadline import Deadline
from komputer.http.limits import Limits
from komputer.http.refusals import Refusal, Refused
from komputer.http.request_head import RequestHead, check_handshake, split_target

PIECE_BYTES: Final = 16 * 1024
"""A head is fed to the parser in pieces of this size. The parser buffers an unfinished field, so this bounds how far a
field can exceed the limit before it is checked."""


class HttpProtocol(HttpToolsProtocol):
    """One connection. `limits`, `connections` and `refusal` are those of the server."""

    def __init__(
        self, *arguments: Any, limits: Limits, connections: Connections, refusal: Refusal, **named: Any
    ) -> None:
        super().__init__(*arguments, **named)
        self.limits, self._connections, self._refusal = limits, connections, refusal
        self._slot: Slot | None = None
        self._active: Cycle | None = None
        self._in_head = self._in_body = False
        self._refused: Refused | None = None
        """Why the connection accepts no more requests; sent after the responses to earlier ones."""
        self._is_lingering = False
        self.closes_after_body = False
        self._head = RequestHead(limits)
        self._framing_bytes = 0
        """Bytes of a chunked body read since the last byte of its content: chunk sizes, extensions and trailers."""
        self._body_bytes = self._dropped_bytes = 0
        self._idle_from = 0.0
        self._deadline = Deadline(self.loop, self._deadline_expired)

    # ---- the connection --------------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._idle_from = self.loop.time()
        connection = transport.get_extra_info("socket")
        descriptor = connection.fileno() if connection is not None else 0
        if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
            # asyncio sets TCP_NODELAY only on sockets with an explicit protocol number, which a socket accepted from
            # our listeners lacks. With Nagle's algorithm a response of two writes waits 40 ms for the client's delayed
            # acknowledgement.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._slot = self._connections.admit(self, self.client[0] if self.client else "", descriptor)
        if self._slot is None:
            if descriptor > descriptors.soft_limit() - 32:
                transport.abort()  # no descriptor is left for a connection that lingers
                return
            self._refused = Refused(
                503, "this server has no room for more connections; try again", "too_many_connections"
            )
            self._send_refusal()
            return
        self._deadline.set(self.limits.head_s, "head")

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.close()
        if self._slot:
            self._connections.release(self._slot)
        # uvicorn notifies only the newest request of the disconnect; with pipelining, an older one may be in progress.
        for cycle in (self._active, *(queued for queued, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)
        self._active = self.cycle = None  # type: ignore[assignment]  # break the reference cycle

    @property
    def idle_since(self) -> float | None:
        """See `connections.Evictable`."""
        return self._idle_from if self._active is None else None

    def evict(self) -> None:
        """Close the connection at once, to make room for another."""
        self.transport.abort()

    def shutdown(self) -> None:
        """Close the connection after the responses to the requests already received."""
        if self._active is None:
            self.transport.close()
            return
        for cycle in (self._active, *(queued for queued, _ in self.pipeline)):
            cycle.keep_alive = False

    # ---- deadlines ---------------------------------------------------------------------------------------------------
    def _deadline_expired(self) -> None:
        if self.transport.is_closing():
            return
        match self._deadline.state:
            case "head" if self._in_head:
                seconds = self.limits.head_s
                self._refuse(
                    Refused(408, f"the head of the request was not complete within {seconds:g} s", "request_timeout")
                )
            case "body":
                self._check_body_rate()
            case "lingering":
                self.transport.abort()
            case _:
                self._idle_from = self.loop.time()
                self.transport.close()

    def _check_body_rate(self) -> None:
        """Start the next window, or answer 408 if the body was too slow in this one."""
        window, rate = self.limits.body_window_s, self.limits.body_bytes_per_s
        cycle = self.cycle
        if self.flow.read_paused or cycle.waiting_for_100_continue or self._body_bytes >= window * rate:
            self._body_bytes = 0
            self._deadline.set(window, "body")
            return
        self._refuse(
            Refused(
                408,
                f"the body arrived more slowly than {rate} bytes/s for {window:g} s; send it again",
                "request_timeout",
            )
        )

    # ---- bytes -------------------------------------------------------------------------------------------------------
    def data_received(self, data: bytes) -> None:
        if self._refused is not None:
            self._discard(len(data))
            return
        try:
            for place in range(0, len(data), PIECE_BYTES):
                piece = data if len(data) <= PIECE_BYTES else data[place : place + PIECE_BYTES]
                self._framing_bytes += len(piece)
                self.parser.feed_data(piece)
                if self._in_head:
                    self._head.add_bytes(len(piece), PIECE_BYTES)
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
        self._update_deadline()

    def _update_deadline(self) -> None:
        """Set the deadline of the state that the received bytes led to."""
        if self._refused is not None or self.transport.is_closing() or self.parser is None:
            return
        if self._in_body:
            if self._active is None:
                if self._dropped_bytes > self.limits.linger_bytes:
                    self.transport.abort()
            elif self._deadline.state != "body":
                self._body_bytes = 0
                self._deadline.set(self.limits.body_window_s, "body")
        elif self._in_head:
            if self._deadline.state != "head":
                self._deadline.set(self.limits.head_s, "head")
        elif self._active is not None:
            self._deadline.clear()
        elif self._deadline.state == "draining":
            self._become_idle()

    def _discard(self, size: int) -> None:
        self._dropped_bytes += size
        if self._dropped_bytes > self.limits.linger_bytes:
            self.transport.abort()

    def _upgrade(self) -> None:
        if self._should_upgrade() and self._active is None:
            self._deadline.close()
            self.handle_websocket_upgrade()
        elif self._active is not None and self.cycle is not None:
            # An upgrade to another protocol, such as h2c, is ignored: the request is answered as HTTP/1.1, and the
            # following bytes, which belong to the other protocol, are not read.
            self.cycle.keep_alive = False

    def handle_websocket_upgrade(self) -> None:
        super().handle_websocket_upgrade()
        if self._slot:
            self._slot.connection = None
            self.transport.get_protocol().adopt(self._connections, self._slot)  # type: ignore[attr-defined]

    # ---- refusals ----------------------------------------------------------------------------------------------------
    def _refuse(self, refused: Refused) -> None:
        """Answer with this error and close the connection, after the responses to earlier requests."""
        if self._refused is not None:
            return
        self._refused, cycle = refused, self.cycle
        if self._in_body:  # the unread body belongs to the newest request
            if cycle is None or cycle.response_complete:
                self.transport.close()
                return
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle is self._active:
                self._active = None
                # A response that has begun cannot be replaced by an error: closing the connection shows that it is
                # incomplete.
                if cycle.response_started:
                    self.transport.close()
                    return
            else:
                self.pipeline = type(self.pipeline)(pair for pair in self.pipeline if pair[0] is not cycle)
        if self._active is None:
            self._send_refusal()

    def _send_refusal(self) -> None:
        """Write the refusal and linger. Closing at once would send a reset if the client is still sending, and the
        client could lose the response."""
        assert self._refused is not None
        if self._is_lingering or self.transport.is_closing():
            return
        fault, self._is_lingering = self._refused, True
        if self._slot is not None:  # otherwise `admit` counted it
            totals.refuse(fault.code, self.client[0] if self.client else "")
        self.transport.write(refusals.response(fault.status, self._refusal(fault.status, fault.sentence, fault.code)))
        self._idle_from = self.loop.time()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._deadline.set(self.limits.linger_s, "lingering")

    def send_400_response(self, msg: str) -> None:
        self._refuse(Refused(400, "this is not a request of HTTP/1.1", "malformed_request"))

    # ---- callbacks of the parser ----------------------------------------------------------------------------------
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._in_body = True, False
        self._head.begin()
        self._framing_bytes = 0
        self._deadline.state = ""

    def on_url(self, url: bytes) -> None:
        self.url += url
        self._head.set_url_bytes(len(self.url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # trailers are not part of the head (RFC 9110 6.5.1)
        name = name.lower()
        self._head.add_field(name, value)
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        version, method = self.parser.get_http_version(), self.parser.get_method().decode("ascii")
        self._head.check(version)
        if len(self.pipeline) >= self.limits.pipelined:
            limit = self.limits.pipelined
            raise Refused(429, f"more than {limit} requests are pipelined on one connection", "too_many_pipelined")
        self.scope["method"] = method
        if version != "1.1":
            self.scope["http_version"] = version
        if self.parser.should_upgrade() and self._should_upgrade():
            if self._active is not None:
                raise Refused(400, "a WebSocket cannot follow a request in progress", "malformed_request")
            check_handshake(method, version, self.headers)
            self._in_head, self._in_body = False, True
            return
        raw_path, query = split_target(self.url)
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
        app: Any = partial(respond_to_head, self.app) if method == "HEAD" else self.app
        if self._active is None:
            self._active = cycle
            self._start_asgi_task(cycle, app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, app))

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
        if self._active is None and self.closes_after_body:
            self.transport.close()
        self._deadline.state = "draining" if self._active is None else ""

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        self._active = None
        if self.transport.is_closing():
            return
        if self.pipeline:
            self.flow.resume_reading()
            cycle, app = self.pipeline.pop()
            self._active = cycle  # type: ignore[assignment]
            self._start_asgi_task(cycle, app)
        elif self._refused is not None:
            self._send_refusal()
        elif self._in_body:
            self.flow.resume_reading()
            self._idle_from = self.loop.time()
            self._deadline.set(self.limits.drain_s, "draining")
        else:
            self.flow.resume_reading()
            self._become_idle()

    def _become_idle(self) -> None:
        """Wait for the next request; it may have begun already."""
        self._idle_from = self.loop.time()
        if not self._in_head:
            self._deadline.set(self.limits.idle_s, "idle")
