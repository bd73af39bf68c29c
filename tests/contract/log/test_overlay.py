"""What lists tell of each agent's task is the log's newest word, also of what happened while it was read first."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager

from komputer.agents.overlay import Overlay
from komputer.events.bell import Bell, Place
from komputer.events.log import EXPIRY, RETENTION, Live, Log
from tests.contract.log.events import KEY, Producer, completed, producer, started
from tests.fixtures.valkey import LogServer
from tests.waiting import eventually

PLACE = (KEY.namespace, KEY.name)


class Eventful(Log):
    """While it is read for the first time, the task ends and the bell is heard."""

    writer: Producer
    rang: asyncio.Event
    reads = 0

    async def live_many(self, keys: Iterable[Place]) -> dict[Place, Live]:
        found = await super().live_many(keys)
        self.reads += 1
        if self.reads == 1:
            self.rang.clear()
            await self.writer.post(completed("t"))
            await self.rang.wait()
        return found


@asynccontextmanager
async def running(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_task_that_ends_while_all_agents_are_read_is_seen_to_have_ended(server: LogServer, log: Log) -> None:
    eventful = Eventful(log.server, prefix=server.prefix(), retention=RETENTION, expiry=EXPIRY)
    eventful.writer, eventful.rang = await producer(eventful), asyncio.Event()
    await eventful.writer.post(started("t"))
    bell = Bell(eventful.bell())
    bell.on_any(lambda _: eventful.rang.set())
    overlay = Overlay(eventful, bell, lambda: [PLACE])

    async def has_ended() -> bool:
        live = overlay.get(PLACE)
        return live is not None and live.task_status == "Complete"

    async with running(bell.run()):
        await asyncio.wait_for(eventful.rang.wait(), 20)  # its first ring, which nobody else has heard
        assert not overlay.is_filled
        async with running(overlay.run()):
            await eventually(has_ended, 20)
            assert overlay.is_filled
