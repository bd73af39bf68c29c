"""Methods, browser requests, WebSocket handshakes and bodies, which the servers handle differently."""

import base64
import json
import os

import pytest

from tests.contract.http.servers import WITHIN_S, Server, parsed

CLOSE = "Connection: close"
API = pytest.mark.parametrize("server", ["api"], indirect=True)
ADMIN = "Authorization: Bearer admin"


@pytest.mark.parametrize(
    ("server", "method", "path", "allow"),
    [
        ("api", "PUT", "/api/v1/agents", "GET, HEAD, POST"),
        ("api", "POST", "/api/v1/agents/ada", "GET, HEAD, PATCH, DELETE"),
        ("api", "DELETE", "/api/v1/agents/ada/cancel", "POST"),
        ("api", "HEAD", "/api/v1/agents/ada/cancel", "POST"),
        ("gateway", "GET", "/v1/events", "POST"),
        ("gateway", "POST", "/v1/assignment", "GET, HEAD"),
        ("gateway", "PUT", "/connectors/git", "DELETE, GET, HEAD, POST"),
        ("kubernetes", "POST", "/version", "HEAD, GET"),
        ("kubernetes", "POST", "/api/v1/namespaces/default/configmaps/ada", "HEAD, GET, PUT, PATCH, DELETE"),
        ("kubernetes", "PUT", "/api/v1/configmaps", "HEAD, GET, DELETE"),
    ],
    indirect=["server"],
)
def test_405_names_every_method_of_the_path(server: Server, method: str, path: str, allow: str) -> None:
    fields = [CLOSE, ADMIN] if server.name == "kubernetes" else [CLOSE]
    status, found, body = parsed(server.ask(server.head(method, path, *fields)))
    assert status == 405
    assert {part.strip() for part in found["allow"].split(",")} == {part.strip() for part in allow.split(",")}
    assert found["content-type"] == "application/json"
    assert method == "HEAD" or json.loads(body)


@API
def test_a_browser_gets_a_page_and_an_icon(server: Server) -> None:
    status, fields, body = parsed(server.ask(server.head("GET", "/", CLOSE, "Accept: text/html")))
    assert (status, fields["content-type"]) == (200, "text/html; charset=utf-8")
    assert b'href="/docs"' in body
    assert b"//" not in body, "nothing is loaded from elsewhere"
    status, fields, body = parsed(server.ask(server.head("GET", "/favicon.ico", CLOSE)))
    assert (status, fields["content-type"]) == (200, "image/svg+xml")
    assert body.startswith(b"<svg ")


@API
def test_a_stream_is_not_chunked_for_http_1_0_and_ends_at_once_for_head(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /api/v1/events/stream HTTP/1.0\r\nHost: localhost\r\n\r\n")
        got = b""
        while b"retry:" not in got:
            got += connection.recv(65536)
    _, fields, body = parsed(got)
    assert "transfer-encoding" not in fields
    assert body.startswith(b"retry: ")
    answer = server.ask(server.head("HEAD", "/api/v1/events/stream", CLOSE))
    assert parsed(answer)[1]["content-type"].startswith("text/event-stream")


@API
@pytest.mark.parametrize(
    ("offered", "answered"),
    [
        ("komputer.events", "komputer.events"),
        ("first, second", "first"),
        ("base64url.bearer.authorization.k8s.io.dG9rZW4, other", "other"),
        ("base64url.bearer.authorization.k8s.io.dG9rZW4", None),
    ],
)
def test_one_of_the_offered_subprotocols_is_selected(server: Server, offered: str, answered: str | None) -> None:
    key = base64.b64encode(os.urandom(16)).decode()
    fields = ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
    with server.connect() as connection:
        connection.settimeout(WITHIN_S)
        connection.sendall(
            server.head("GET", "/api/v1/agents/nobody/ws", *fields, f"Sec-WebSocket-Protocol: {offered}")
        )
        status, found, _ = parsed(connection.recv(65536))
    assert (status, found.get("sec-websocket-protocol")) == (101, answered)


@API
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (["Sec-WebSocket-Version: 13"], 400),
        (["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 8"], 426),
    ],
)
def test_an_invalid_handshake_is_refused_as_json(server: Server, fields: list[str], status: int) -> None:
    sent = server.head("GET", "/api/v1/agents/nobody/ws", "Upgrade: websocket", "Connection: Upgrade", *fields)
    found, _, body = parsed(server.ask(sent))
    assert (found, server.code(body)) == (status, "malformed_request")


def post(server: Server, path: str, body: bytes) -> tuple[int, bytes]:
    fields = [CLOSE, "Content-Type: application/json", f"Content-Length: {len(body)}", ADMIN]
    status, found, answer = parsed(server.ask(server.head("POST", path, *fields) + body))
    assert found["content-type"] == "application/json"
    return status, answer


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 100_000, id="deep and unfinished"),
        pytest.param(b'{"a":' * 5000 + b"1" + b"}" * 5000, id="deep"),
        pytest.param(b'{"name": "\xff\xfe"}', id="invalid UTF-8"),
        pytest.param(b'{"name": "\\ud800"}', id="half a surrogate pair"),
        pytest.param(b"NaN", id="NaN"),
        pytest.param(b"", id="empty"),
    ],
)
@pytest.mark.parametrize(
    ("server", "path"),
    [("api", "/api/v1/agents"), ("kubernetes", "/api/v1/namespaces/default/configmaps")],
    indirect=["server"],
)
def test_an_unreadable_body_is_refused_as_json(server: Server, path: str, body: bytes) -> None:
    status, answer = post(server, path, body)
    assert status in (400, 413, 422), answer
    assert json.loads(answer)


@pytest.mark.parametrize(
    ("server", "path"),
    [("api", "/api/v1/agents"), ("kubernetes", "/api/v1/namespaces/default/configmaps")],
    indirect=["server"],
)
def test_a_body_with_too_many_values_is_refused(server: Server, path: str) -> None:
    status, _ = post(server, path, b'{"name": [' + b"{}," * 300_000 + b"{}]}")
    assert status == 413


@API
def test_an_undecodable_path_or_query_is_answered_with_json(server: Server) -> None:
    for path in ("/api/v1/agents/%ff%fe", "/api/v1/agents?namespace=%ff", "/api/v1/agents/%00", "/%2e%2e/%2e%2e/etc"):
        status, fields, body = parsed(server.ask(server.head("GET", path, CLOSE)))
        assert 400 <= status < 500 or status == 503, (path, body)
        assert fields["content-type"] == "application/json"
