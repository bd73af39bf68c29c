"""Google's access tokens for a service account's key, from a token endpoint on loopback."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from komputer.gateway import UpstreamUnreachable
from komputer.serve.google import GoogleToken

AUDIENCE = "https://oauth2.googleapis.com/token"


class TokenServer:
    """Google's, as far as RFC 7523 goes: takes assertions signed with `key`, answers with a token of `lifetime_s`."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.lifetime_s = 3600
        self.given = 0
        told = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
                try:
                    claims = jwt.decode(
                        form["assertion"][0], told.key.public_key(), algorithms=["RS256"], audience=AUDIENCE
                    )
                except jwt.InvalidTokenError:
                    self.answer(401, {"error": "invalid_grant"})
                    return
                assert claims["scope"] == "https://www.googleapis.com/auth/cloud-platform"
                told.given += 1
                self.answer(200, {"access_token": f"token-{told.given}", "expires_in": told.lifetime_s})

            def answer(self, status: int, body: dict[str, Any]) -> None:
                raw = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/token"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def write_key(self, path: Path, key: rsa.RSAPrivateKey | None = None) -> Path:
        pem = (key or self.key).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        account = {"type": "service_account", "client_email": "komputer@acme-ai.example", "token_uri": self.url}
        path.write_text(json.dumps({**account, "private_key": pem.decode()}))
        return path


@pytest.fixture
def google() -> Iterator[TokenServer]:
    server = TokenServer()
    yield server
    server.server.shutdown()
    server.server.server_close()


async def test_a_token_is_asked_for_once_and_again_before_it_ends(
    google: TokenServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = GoogleToken(google.write_key(tmp_path / "key.json"))
    assert [(await token()).header for _ in range(3)] == [("authorization", "Bearer token-1")] * 3
    google.lifetime_s = 60  # the library renews what ends within minutes
    short = GoogleToken(tmp_path / "key.json")
    assert [(await short()).value for _ in range(2)] == ["token-2", "token-2"], "not at each request"
    monkeypatch.setattr("komputer.serve.google.RETRY_S", 0.0)
    assert (await short()).value == "token-3"


async def test_while_google_is_away_a_token_that_is_still_good_counts(
    google: TokenServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("komputer.serve.google.RETRY_S", 0.0)
    google.lifetime_s = 60
    token = GoogleToken(google.write_key(tmp_path / "key.json"))
    assert (await token()).value == "token-1"
    google.write_key(tmp_path / "key.json", rsa.generate_private_key(public_exponent=65537, key_size=2048))
    assert (await token()).value == "token-1"


@pytest.mark.parametrize("content", ["", "{}", '{"type": "service_account"}', "no JSON"])
async def test_an_invalid_key_file_is_reported_without_its_content(tmp_path: Path, content: str) -> None:
    (tmp_path / "key.json").write_text(content)
    with pytest.raises(UpstreamUnreachable, match="Google gives the platform no access token"):
        await GoogleToken(tmp_path / "key.json")()


async def test_a_refused_key_is_unreachable_and_tried_again(google: TokenServer, tmp_path: Path) -> None:
    key = google.write_key(tmp_path / "key.json", rsa.generate_private_key(public_exponent=65537, key_size=2048))
    token = GoogleToken(key)
    with pytest.raises(UpstreamUnreachable):
        await token()
    google.write_key(key)
    assert (await token()).value == "token-1"
