"""A server that asks for a password, and a database that is not the first."""

import asyncio
from collections.abc import Iterator

import pytest
from redis.asyncio import Redis

from komputer.domain.errors import Unavailable
from komputer.events.follow.notifier import Notifier
from komputer.events.log import Log
from tests.contract.log.events import KEY, everything, producer, started
from tests.fixtures.valkey import LogServer, engines, running

PASSWORD = "made-up-0123456789"


@pytest.fixture(params=engines())
def own_server(request: pytest.FixtureRequest) -> Iterator[LogServer]:
    yield from running(request.param)


async def test_log_notifications_and_script_work_with_a_password_in_another_database(own_server: LogServer) -> None:
    async with Redis.from_url(own_server.url) as admin:
        await admin.config_set("requirepass", PASSWORD)
    log = Log.connect(f"unix://:{PASSWORD}@{own_server.socket}?db=3")
    notifications, changed = Notifier(log.notifications()), asyncio.Event()
    notifications.on(KEY.ref, changed.set)
    listening = asyncio.create_task(notifications.run())
    try:
        assert await (await producer(log)).post(started("t1")) == ["ok"]
        assert len(await everything(log)) == 1
        async with asyncio.timeout(10):
            await changed.wait()
        for wrong in ("", ":other@"):
            stranger = Log.connect(f"unix://{wrong}{own_server.socket}?db=3")
            with pytest.raises(Unavailable):
                await stranger.ping()
            await stranger.close()
        first = Log.connect(f"unix://:{PASSWORD}@{own_server.socket}")
        assert await everything(first) == []
        await first.close()
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await log.close()
