"""Subscribers get each change, also after a failure of the server."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from komputer.domain.ref import ObjectRef
from komputer.events.follow import notifier as notifiers
from komputer.events.log import EVERYTHING, Log, LogKey
from tests.contract.log.events import KEY, completed, producer, said, started
from tests.fixtures.valkey import engines, server_of

DEADLINE_S = 20.0


async def observed(notifications: AsyncIterator[frozenset[tuple[str, str]]], wanted: set[tuple[str, str]]) -> None:
    """Returns when all of `wanted` have rung."""
    async with asyncio.timeout(DEADLINE_S):
        while wanted:
            wanted = wanted - await anext(notifications)


async def test_the_first_notification_says_that_everything_may_have_changed(log: Log) -> None:
    notifications = log.notifications()
    async with asyncio.timeout(DEADLINE_S):
        assert await anext(notifications) == EVERYTHING
    await notifications.aclose()  # type: ignore[attr-defined]


async def test_each_kind_of_change_notifies(log: Log) -> None:
    notifications, ada = log.notifications(), {("team", "ada")}
    await anext(notifications)
    runtime = await producer(log)
    await observed(notifications, ada)
    await runtime.post(started("t1"))
    await observed(notifications, ada)
    await log.end(KEY, completed("t1"), generation=1, floor=None)
    await observed(notifications, ada)
    await log.purge(KEY)
    await observed(notifications, ada)
    await notifications.aclose()  # type: ignore[attr-defined]


async def test_many_changes_come_as_one_set_and_none_is_missed(log: Log) -> None:
    notifications = log.notifications()
    await anext(notifications)
    agents = {("team", f"agent-{i}") for i in range(30)}
    runtimes = [await producer(log, LogKey(namespace, name, "u")) for namespace, name in sorted(agents)]
    await asyncio.gather(*(runtime.post(*(said("t") for _ in range(9))) for runtime in runtimes))
    await observed(notifications, agents)
    await notifications.aclose()  # type: ignore[attr-defined]


async def test_a_reader_that_was_too_slow_learns_that_everything_may_have_changed(log: Log) -> None:
    notifications = log.notifications()
    await anext(notifications)
    runtime = await producer(log)
    for _ in range(1100):
        await runtime.post(said("t"))
    async with asyncio.timeout(DEADLINE_S):
        assert await anext(notifications) == EVERYTHING
    await runtime.post(said("t"))
    await observed(notifications, {("team", "ada")})
    await notifications.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize("engine", engines())
async def test_notifications_survive_a_restart_of_the_server(engine: str) -> None:
    with TemporaryDirectory(dir="/tmp") as folder:
        server = server_of(engine, Path(folder) / "data").start()
        log = Log.connect(server.url)
        notifications = log.notifications()
        assert await anext(notifications) == EVERYTHING
        waiting = asyncio.ensure_future(anext(notifications))
        await producer(log)
        async with asyncio.timeout(DEADLINE_S):
            assert await waiting == {("team", "ada")}
        waiting = asyncio.ensure_future(anext(notifications))
        server.kill()
        server.start()
        async with asyncio.timeout(DEADLINE_S):
            assert await waiting == EVERYTHING
        await producer(log, LogKey("team", "bob", "u"))
        await observed(notifications, {("team", "bob")})
        await notifications.aclose()  # type: ignore[attr-defined]
        await log.close()
        server.stop()


async def test_a_listener_that_is_cancelled_as_its_process_wakes_up_ends(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer and the cancellation come at once then, and redis-py loses the latter."""
    monkeypatch.setattr(notifiers, "BLOCK_S", 0.2)

    async def listen() -> None:
        async for _ in log.notifications():
            pass

    for turn in range(20):
        listening = asyncio.create_task(listen())
        await asyncio.sleep(0.05)
        time.sleep(0.3)  # noqa: ASYNC251 - the whole process stands still
        for _ in range(turn % 5):
            await asyncio.sleep(0)
        listening.cancel()
        done, _ = await asyncio.wait([listening], timeout=5)
        assert done, turn


async def test_no_event_gets_an_id_from_before_the_last_notification(log: Log) -> None:
    """Even if the clock was set back: here the last notification is from the next minute."""
    runtime = await producer(log)
    await runtime.post(said("t"))
    last = (await log.notified_since(None)).last
    assert last
    later = int(last.split("-")[0]) + 60_000
    stream = log.stream_and_live(ObjectRef("a", "b"))[0].removesuffix(":a:b") + "-bell"
    await log.server.redis.xadd(stream, {"k": "team/ada"}, id=f"{later}-0")
    await runtime.post(said("t"))
    page = await log.page("team", "ada", limit=1)
    assert page.last_id
    assert int(page.last_id.split("-")[0]) >= later


async def test_notifications_after_one_are_returned_or_else_that_some_may_be_missing(log: Log) -> None:
    assert await log.notified_since(None) == (None, None)
    ada, bob = await producer(log), await producer(log, LogKey("team", "bob", "u"))
    first = (await log.notified_since(None)).last
    assert await log.notified_since(first) == (frozenset(), first)
    await bob.post(said("t"))
    refs, last = await log.notified_since(first)
    assert refs == frozenset({("team", "bob")})
    for _ in range(1100):
        await ada.post(said("t"))
    missed = await log.notified_since(last)
    assert missed.refs is None
    assert await log.notified_since(missed.last) == (frozenset(), missed.last)
