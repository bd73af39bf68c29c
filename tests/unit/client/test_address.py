"""How people write the API's address, and names that may not become paths."""

from collections.abc import Callable
from functools import partial

import pytest

from komputer.client import ApiError, Client
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
    ],
)
def test_what_is_no_address_is_refused_with_a_sentence(written: str) -> None:
    with pytest.raises(ValueError, match="address of an API"):
        normalized(written)


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
