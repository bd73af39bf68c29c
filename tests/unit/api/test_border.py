"""Whom the API answers when it asks nobody who they are."""

import pytest

from komputer.api.middleware import is_loopback


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8080", "127.0.0.1:1", "127.9.9.9", "[::1]:80", "a.localhost", "LOCALHOST", "::1", "[::1]"],
)
def test_loopback_names_are_answered(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "0.0.0.0",
        "null",
        "::",
        "2001:db8::1",
        "::1:80",
    ],
)
def test_other_names_are_not(host: str) -> None:
    assert not is_loopback(host)
