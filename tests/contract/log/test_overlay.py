"""Lists show the newest state of each agent's task, including changes during the first read."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager

from komputer.domain.ref import ObjectRef
from komputer.events.follow.cursors import Cursor
from komputer.events.follow.groups import Member
from komputer.events.follow.notifier import Notifier
from komputer.events.follow.sources import AllAgents, OneAgent
from komputer.events.log import EXPIRY, RETENTION, Live, Log
from komputer.services.agents.overlay import Overlay
from tests.contract.log.events import KEY, Producer, completed, producer, started
from tests.fixtures.valkey import LogServer
from tests.waiting import eventually

REF = KEY.ref


class Eventful(Log):
    """A log whose task ends, with a notification, during the first read."""

    writer: Producer
    rang: asyncio.Event
    reads = 0

    async def live_many(self, keys: Iterable[ObjectRef]) -> dict[ObjectRef, Live]:
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
    notifier = Notifier(eventful.notifications())
    notifier.on_any(lambda _: eventful.rang.set())
    overlay = Overlay(eventful, notifier, lambda: [REF])

    async def has_ended() -> bool:
        live = overlay.get(REF)
        return live is not None and live.task_status == "Complete"

    async with running(notifier.run()):
        await asyncio.wait_for(eventful.rang.wait(), 20)  # its first ring, which nobody else has heard
        assert not overlay.is_filled
        async with running(overlay.run()):
            await eventually(has_ended, 20)
            assert overlay.is_filled


async def test_a_list_is_never_older_than_events_that_were_read(log: Log) -> None:
    """The notifier does not run: the overlay knows only what the reads return."""
    runtime = await producer(log)
    overlay = Overlay(log, Notifier(log.notifications()), lambda: [REF])
    await runtime.post(started("t"))
    await overlay.current(REF)

    def status() -> str | None:
        live = overlay.get(REF)
        return live.task_status if live else None

    for n, reading in enumerate(("page", "follow", "follow all", "group")):
        assert status() == "InProgress"
        await runtime.post(completed("t" if n == 0 else f"t{n}"))
        if reading == "page":
            await log.page(*REF, limit=1)
        elif reading == "follow":
            await OneAgent(log, REF, KEY.uid, Cursor(0)).more()
        elif reading == "follow all":
            await AllAgents(log, Cursor(0)).more()
        else:
            member = Member(log, Notifier(log.notifications()), REF, KEY.uid, "workers", Cursor(0))
            await member.begin()
            await member.take()
            await member.close()
        assert status() == "Complete", reading
        await runtime.post(started(f"t{n + 1}"))
        await overlay.current(REF)


async def test_a_read_that_was_overtaken_changes_nothing(log: Log) -> None:
    runtime = await producer(log)
    await runtime.post(started("t"))
    slow = Slow(log)
    overlay = Overlay(slow, Notifier(log.notifications()), lambda: [REF])
    slow.holds = asyncio.Event()
    before = asyncio.create_task(overlay.current(REF))
    await slow.has_read.wait()
    await runtime.post(completed("t"))
    await slow.page(*REF, limit=1)
    slow.holds.set()
    await before
    live = overlay.get(REF)
    assert live is not None
    assert live.task_status == "Complete"
    await log.server.redis.delete(log.stream_and_live(REF)[1])
    assert await overlay.current(REF) is None, "a log that was lost is believed"
    assert overlay.get(REF) is None


class Slow(Log):
    """Returns the state at the moment of the call, but only when the test lets it."""

    def __init__(self, log: Log) -> None:
        super().__init__(log.server, prefix=log._prefix, retention=RETENTION, expiry=EXPIRY)
        self.holds: asyncio.Event | None = None
        self.has_read = asyncio.Event()

    async def live(self, namespace: str, name: str) -> Live | None:
        found = await super().live(namespace, name)
        self.has_read.set()
        if self.holds:
            await self.holds.wait()
        return found
