"""How people write the API's address, and names that may not become paths."""

import contextlib
import socket
import threading
from collections.abc import Callable
from functools import partial

import pytest

from komputer.client import ApiError, Client, Unreachable
from komputer.client.address import normalized


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("http://127.0.0.1:8080/api/v1", "http://127.0.0.1:8080"),
        ("http://127.0.0.1:8080/api/v1/", "http://127.0.0.1:8080"),
        (" 127.0.0.1:8080/api/v1 ", "http://127.0.0.1:8080"),
        ("localhost:8080", "http://localhost:8080"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("HTTPS://komputer.example.com", "https://komputer.example.com"),
        ("komputer.example.com/team/api/v1/", "https://komputer.example.com/team"),
        ("http://komputer-api.komputer.svc:8080", "http://komputer-api.komputer.svc:8080"),
    ],
)
def test_an_address_is_understood_in_every_form(written: str, meant: str) -> None:
    assert normalized(written) == meant


@pytest.mark.parametrize(
    "written",
    [
        "",
        "  ",
        "ftp://host",
        "http://",
        "http://host:99999",
        "http://[::1",
        "http://host/?a=b",
        "ho st",
        "host:0",
        "a\nb",
        "http://host#part",
        "https://user:password@host",
        "http://höst",
        "8080",
        ":8080",
        "::1",
        "::1:8080",
        "http:127.0.0.1:8080",
        "http:/127.0.0.1:8080",
        "https//host",
        "http://127.0.0.1:eighty",
    ],
)
def test_what_is_no_address_is_refused_with_a_sentence(written: str) -> None:
    with pytest.raises(ValueError, match="address of an API") as refused:
        normalized(written)
    assert "cast to integer" not in str(refused.value)


def test_a_server_that_does_not_speak_tls_is_named_as_such() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(ConnectionError):
                connection.recv(1024)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.recv(1024)

        answering = threading.Thread(target=answer)
        answering.start()
        with Client(f"https://127.0.0.1:{server.getsockname()[1]}") as client, pytest.raises(Unreachable) as refused:
            client.agents()
        answering.join()
    assert "it does not speak TLS: write http://" in refused.value.message


def test_a_client_without_an_address_takes_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOMPUTER_API", "ftp://host")
    with pytest.raises(ApiError, match="ftp") as refused:
        Client()
    assert refused.value.code == "invalid_address"


@pytest.mark.parametrize(
    "name",
    ["../connectors", "..", ".", "", "a/b", "a%2fb", "a?b", "a#b", "A", "a\nb", "\udcff", "a\\b", "a" * 300, "-a"],
)
def test_no_name_leads_to_another_resource(name: str) -> None:
    with Client("http://127.0.0.1:9") as client:  # nothing is ever sent
        calls: list[Callable[[str], object]] = [
            client.agent,
            client.cancel,
            client.delete,
            client.compact,
            client.events,
            client.last_event,
            partial(client.send, content="x"),
            lambda each: next(client.follow(each, "0-0")),
        ]
        for call in calls:
            with pytest.raises(ApiError) as refused:
                call(name)
            assert refused.value.code == "invalid_name"


def test_text_that_is_not_unicode_is_refused_before_it_is_sent() -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(ApiError) as refused:
        client.create("ada", "not \udcff text")
    assert refused.value.code == "invalid_text"


@pytest.mark.parametrize("token", ["made-up\ntoken", "made-up-t\u00f6ken", "made-up-\udcff"])
def test_a_token_that_no_header_can_carry_is_refused_and_not_quoted(token: str) -> None:
    with Client("http://127.0.0.1:9", token=token) as client, pytest.raises(ApiError) as refused:
        client.agents()
    assert refused.value.code == "invalid_token"
    assert "made-up" not in refused.value.message
