"""The cache of the API's answers: freshness, single flight, and what it returns while the API is down."""

import asyncio

import pytest

from komputer.domain.errors import Unavailable
from komputer.kube.ttl_cache import TTLCache


class Api:
    """Counts requests. Raises `Unavailable` while it is down."""

    def __init__(self) -> None:
        self.requests = 0
        self.is_down = False
        self.answer = "yes"

    async def fetch(self) -> str:
        self.requests += 1
        await asyncio.sleep(0)
        if self.is_down:
            raise Unavailable("down")
        return self.answer


async def test_a_fresh_answer_is_used_and_an_expired_one_is_fetched_again() -> None:
    api, cache = Api(), TTLCache[str, str](lambda answer: 60.0 if answer == "yes" else 0.0, 8)
    assert [await cache.get("a", api.fetch) for _ in range(3)] == ["yes"] * 3
    assert api.requests == 1
    api.answer = "no"
    assert [await cache.get("b", api.fetch) for _ in range(2)] == ["no", "no"]
    assert api.requests == 3
    assert cache.last("b") == "no", "expired, and still known"


async def test_concurrent_calls_share_one_request_and_its_failure() -> None:
    api, cache = Api(), TTLCache[str, str](lambda _: 60.0, 8)
    api.is_down = True
    failed = await asyncio.gather(*(cache.get("a", api.fetch) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(each, Unavailable) for each in failed)
    assert api.requests == 1
    api.is_down = False
    assert await cache.get("a", api.fetch) == "yes", "a failure is not kept"


async def test_a_caller_that_is_cancelled_does_not_cancel_the_request_of_the_others() -> None:
    api, cache = Api(), TTLCache[str, str](lambda _: 60.0, 8)
    first, second = (asyncio.create_task(cache.get("a", api.fetch)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "yes"
    assert api.requests == 1


async def test_an_expired_answer_is_used_while_the_api_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    api, cache = Api(), TTLCache[str, str](lambda _: 0.0, 8)
    await cache.get("a", api.fetch)
    api.is_down = True
    assert await cache.get("a", api.fetch) == "yes"
    monkeypatch.setattr("komputer.kube.ttl_cache.STALE_IF_ERROR_S", 0.0)
    with pytest.raises(Unavailable):
        await cache.get("a", api.fetch)


async def test_answers_of_one_kind_never_displace_those_of_another() -> None:
    api, cache = Api(), TTLCache[str, str](lambda _: 60.0, 2, kind=lambda answer: answer)
    await cache.get("valid", api.fetch)
    api.answer = "no"
    for n in range(9):
        await cache.get(f"invalid-{n}", api.fetch)
    assert cache.last("valid") == "yes"
    assert [cache.last(f"invalid-{n}") for n in (6, 7, 8)] == [None, "no", "no"]
