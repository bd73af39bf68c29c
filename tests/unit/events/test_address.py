"""Addresses of the event log: what is one, and what is refused with a sentence that holds no password."""

from pathlib import Path

import pytest

from komputer.domain.errors import Invalid
from komputer.redis.address import Address


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://:secret@redis:6379/3",
        "rediss://redis.example.com:6380/0",
        "unix:///run/redis.sock?db=2",
        "redis+sentinel://one:26379,two/komputer/1",
        "rediss+sentinel://[::1]:26379/komputer",
    ],
)
def test_what_is_an_address(url: str) -> None:
    assert Address(url).client() is not None


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "begins with nothing"),
        ("http://redis", "begins with http"),
        ("redis+sentinel://one:26379", "names no master"),
        ("redis+sentinel://one:port/komputer", "no sentinel's host:port"),
        ("redis+sentinel://one/komputer/first", "names no master"),
        ("redis+sentinel:///komputer", "no sentinel's host:port"),
    ],
)
def test_what_is_none_is_refused(url: str, says: str) -> None:
    with pytest.raises(Invalid, match=says) as refused:
        Address(url)
    assert refused.value.code == "redis_address"


def test_a_password_stands_in_one_place_and_in_no_message(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as refused:
        Address("redis://:hunter2@redis", password_file=tmp_path / "password")
    assert "hunter2" not in refused.value.message
