"""Limits for requests of unauthenticated clients, on every HTTP server."""

import json
import os
import socket
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.http.servers import LIMITS, WITHIN_S, Server, everything, parsed

CHUNKED = "Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 2**24, 431, "head_too_large", id="endless"),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 2**16 + b"\r\n\r\n", 431, "head_too_large", id="64 KiB"
        ),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: a\r\n" * 100_000 + b"\r\n",
            431,
            "head_too_large",
            id="fields",
        ),
        pytest.param(
            b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 414, "uri_too_long", id="70 kB URL"
        ),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: 127.0.0.1\r\n\r\n", 400, "duplicate_host", id="two hosts"
        ),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, "missing_host", id="no host"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01" * 50, 400, "malformed_request", id="TLS"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "malformed_request", id="HTTP/2"),
        pytest.param(b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed_request", id="CONNECT"),
        pytest.param(
            b"GET /\xff HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400, "malformed_request", id="raw bytes in the path"
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            "malformed_request",
            id="two lengths",
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            501,
            "unsupported_transfer_encoding",
            id="gzip",
        ),
        pytest.param(
            b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            "malformed_request",
            id="chunks in 1.0",
        ),
        pytest.param(b"GET / HTT", 408, "request_timeout", id="unfinished"),
    ],
)
def test_an_invalid_head_is_refused_as_json(server: Server, sent: bytes, status: int, code: str) -> None:
    found, fields, body = parsed(server.ask(sent))
    assert (found, server.code(body)) == (status, code)
    assert fields["content-type"] == "application/json"
    assert int(fields["content-length"]) == len(body)
    assert server.answers()


def test_a_head_within_the_limits_is_answered(server: Server) -> None:
    fields = [f"X-{n}: {'a' * 500}" for n in range(100)]
    status, _, _ = parsed(server.ask(server.head("GET", None, "Connection: close", *fields)))
    assert status == server.status


def test_a_silent_connection_is_closed(server: Server) -> None:
    with server.connect() as connection:
        assert everything(connection) == b""


def test_an_idle_connection_is_closed_after_its_answer(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(server.head())
        status, _, _ = parsed(everything(connection))
        assert status == server.status


def test_a_head_sent_byte_by_byte_gets_no_extra_time(server: Server) -> None:
    began = time.monotonic()
    with server.connect() as connection:
        connection.settimeout(0.05)
        got = b""
        for byte in server.head("GET", None, *[f"X-{n}: a" for n in range(100)]):
            try:
                connection.sendall(bytes([byte]))
                got = connection.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                break
            break
        assert time.monotonic() - began < WITHIN_S
        assert parsed(got)[0] == 408


def test_unfinished_heads_do_not_block_other_clients(server: Server) -> None:
    """There are more of them than free connections: the oldest idle ones are closed."""
    waiting = [server.connect() for _ in range(40)]
    try:
        for connection in waiting:
            try:
                connection.sendall(b"GET / HTTP/1.1\r\nX: " + b"a" * 60_000)
            except OSError:
                continue
        assert server.answers()
    finally:
        for connection in waiting:
            connection.close()


def test_a_trailer_is_not_a_header_and_its_size_is_limited(server: Server) -> None:
    head = server.head("POST", "/v1/messages", CHUNKED)
    endless = server.ask(head + b"1\r\na\r\n0\r\nX: " + b"a" * 2**22)
    assert parsed(endless)[0] in (400, 401, 403, 404, 405)
    # The trailer is complete here, so a second request is read on the same connection.
    second = server.head("GET", None, "Connection: close")
    both = server.ask(head + b"1\r\na\r\n0\r\nHost: evil\r\n\r\n" + second)
    assert both.count(b"HTTP/1.1 ") == 2


def test_pipelined_requests_are_answered_in_order_up_to_a_limit(server: Server) -> None:
    answers = server.ask(server.head() * 200)
    first, last = answers.index(b"HTTP/1.1 "), answers.rindex(b"HTTP/1.1 ")
    assert parsed(answers[first:])[0] == server.status
    assert parsed(answers[last:])[0] == 429
    assert 2 < answers.count(b"HTTP/1.1 ") <= LIMITS.pipelined + 2


def test_an_error_after_a_request_is_sent_after_its_response(server: Server) -> None:
    answers = server.ask(server.head() + b"nonsense\r\n\r\n")
    assert parsed(answers)[0] == server.status
    assert parsed(answers[answers.rindex(b"HTTP/1.1 ") :])[0] == 400


def test_an_unread_body_does_not_keep_the_connection_open(server: Server) -> None:
    """The response was sent at once, and the rest of the body never arrives."""
    answer = server.ask(server.head("POST", "/nowhere", "Content-Length: 10"))
    assert parsed(answer)[0] in (401, 403, 404, 405, 408)


def test_head_is_answered_like_get_without_a_body(server: Server) -> None:
    got = parsed(server.ask(server.head("GET", None, "Connection: close")))
    status, fields, body = parsed(server.ask(server.head("HEAD", None, "Connection: close")))
    assert (status, body) == (server.status, b"")
    assert fields.get("content-length") == got[1].get("content-length")
    assert fields.get("content-type") == got[1].get("content-type")


def test_an_unsupported_upgrade_is_answered_as_http(server: Server) -> None:
    status, fields, _ = parsed(server.ask(server.head("GET", None, "Upgrade: h2c", "Connection: Upgrade")))
    assert (status, fields["connection"]) == (server.status, "close")


def test_an_http_1_0_answer_ends_with_its_connection(server: Server) -> None:
    status, fields, _ = parsed(server.ask(f"GET {server.path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode()))
    assert status == server.status
    assert "transfer-encoding" not in fields
    assert fields["connection"] == "close"


WORDS = st.sampled_from(
    [
        *(
            b"GET /healthz HTTP/1.1\r\n",
            b"POST /v1/events HTTP/1.1\r\n",
            b"Host: 127.0.0.1\r\n",
            b"\r\n",
            b"\r\n\r\n",
            b"\n",
        ),
        *(
            b"Content-Length: 5\r\n",
            b"Content-Length: -1\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Expect: 100-continue\r\n",
        ),
        *(
            b"Connection: close\r\n",
            b"Upgrade: websocket\r\nConnection: Upgrade\r\n",
            b"5\r\nhello\r\n",
            b"0\r\n\r\n",
            b"\0",
        ),
        *(
            b"Authorization: Bearer \xff\xfe\r\n",
            b" folded\r\n",
            b"HEAD /docs HTTP/1.0\r\n",
            b"GET http://a/ HTTP/1.1\r\n",
        ),
        *(
            b"GET /api/v1/agents/%ff%00?namespace=%ff HTTP/1.1\r\n",
            b"\xe2\x80\xa8",
            b"Content-Type: application/json\r\n",
        ),
    ]
)


@settings(max_examples=60, deadline=None)
@given(sent=st.lists(st.one_of(WORDS, st.binary(max_size=20)), max_size=12).map(b"".join))
def test_for_any_input_errors_are_json_and_the_server_keeps_answering(server: Server, sent: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        got = everything(connection)
    for answer in got.split(b"HTTP/1.1 ")[1:]:
        status, fields, body = parsed(b"HTTP/1.1 " + answer)
        if status >= 400 and body:
            assert fields["content-type"] == "application/json", (sent, got)
            json.loads(body)
    assert status_of_process()
    assert server.answers()


def status_of_process() -> bool:
    """The connections are closed afterwards: most descriptors of this process are free."""
    return len(os.listdir("/proc/self/fd")) < 400
