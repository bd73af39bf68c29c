"""The tail of a process on a real log: what it costs, and what it does when the log is lost."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from komputer.domain.ref import ObjectRef
from komputer.events.follow.cursors import Cursor, parse_cursor
from komputer.events.follow.notifier import Notifier
from komputer.events.follow.sources import READ_COUNT, AllAgents, Delivery
from komputer.events.follow.tail import LiveReader, StreamEnded, Tail
from komputer.events.log import EXPIRY, RETENTION, Log, LogKey
from komputer.events.ranges import PAGE_BYTES, Read
from tests.contract.log.events import KEY, producer, said, started
from tests.contract.stream.world import WITHIN_S, publish
from tests.fixtures.valkey import LogServer

REF = KEY.ref


@pytest.fixture
def prefix(server: LogServer) -> str:
    """A prefix for each test: all of them write the log of the same agent."""
    return server.prefix()


@asynccontextmanager
async def tailing(log: Log) -> AsyncIterator[Tail]:
    notifier = Notifier(log.notifications())
    ringing, tail = asyncio.create_task(notifier.run()), Tail(log, notifier)
    try:
        yield tail
    finally:
        await tail.close()
        ringing.cancel()
        await asyncio.gather(ringing, return_exceptions=True)


async def take(reader: LiveReader, count: int) -> list[Delivery]:
    found: list[Delivery] = []
    async with asyncio.timeout(WITHIN_S):
        while len(found) < count:
            found += await reader.take()
    return found


async def reads(log: Log) -> int:
    stats = await log.server.redis.info("commandstats")
    return int(stats.get("cmdstat_xrange", {}).get("calls", 0))


async def test_many_readers_of_one_log_share_each_read(log: Log) -> None:
    ada = await producer(log)
    async with tailing(log) as tail:
        readers = [tail.follow(REF, KEY.uid, None) for _ in range(30)]
        for reader in readers:
            await reader.begin()
        await ada.post(said("t", "0"))
        await asyncio.gather(*(take(reader, 1) for reader in readers))
        before = await reads(log)
        for n in range(1, 21):
            taking = [asyncio.create_task(take(reader, 1)) for reader in readers]
            await publish(ada, n, 1)
            await asyncio.gather(*taking)
        assert await reads(log) - before <= 2 * 20 + 5
        assert len(tail) == 1
        for reader in readers:
            await reader.close()
        assert len(tail) == 0


async def test_a_reader_far_behind_catches_up_by_itself_while_others_go_on(log: Log) -> None:
    ada = await producer(log)
    async with tailing(log) as tail:
        quick, late = tail.follow(REF, KEY.uid, None), tail.follow(REF, KEY.uid, None)
        for reader in (quick, late):
            await reader.begin()
        await ada.post(said("t", "0"))
        await asyncio.gather(take(quick, 1), take(late, 1))
        for n in range(1, 5001, 500):
            await publish(ada, n, 500, batch=100)
            assert len(await take(quick, 500)) == 500
        found = await take(late, 5000)
        assert len(found) == 5000
        assert [each.micros for each in found] == sorted({each.micros for each in found})


async def test_a_lost_log_is_a_gap_and_later_events_are_delivered(log: Log) -> None:
    ada = await producer(log)
    async with tailing(log) as tail:
        one, other = tail.follow(REF, KEY.uid, None), tail.follow(REF, KEY.uid, None)
        for reader in (one, other):
            await reader.begin()
        await ada.post(started("t"))
        await asyncio.gather(take(one, 1), take(other, 1))
        await log.server.redis.delete(*await log.server.redis.keys(f"{log.stream_and_live(REF)[0]}*"))
        await log.server.redis.delete(log.stream_and_live(REF)[1])
        await ada.hello()
        await ada.post(said("t", "1"))
        for reader in (one, other):
            assert [told.type for told in await take(reader, 2)] == ["gap", "text"]


async def test_another_agent_of_the_name_ends_the_readers_of_the_former(log: Log) -> None:
    ada = await producer(log)
    async with tailing(log) as tail:
        reader = tail.follow(REF, KEY.uid, Cursor(0))
        await ada.post(said("t", "1"))
        assert len(await take(reader, 1)) == 1
        await producer(log, KEY.__class__(KEY.namespace, KEY.name, "uid-2"))
        with pytest.raises(StreamEnded):
            await take(reader, 1)


@pytest.mark.parametrize("cursor", [Cursor(9_000_000_000_000_000), Cursor(5, {REF: 9_000_000_000_000_000})])
async def test_a_cursor_from_the_future_blocks_nothing(log: Log, cursor: Cursor) -> None:
    ada = await producer(log)
    async with tailing(log) as tail:
        forged = tail.follow_all(cursor)
        waiting = asyncio.create_task(take(forged, 1))
        await asyncio.sleep(0.2)
        honest = tail.follow_all(None)
        await honest.begin()
        await ada.post(said("t", "1"))
        assert len(await take(honest, 1)) == 1
        assert [told.type for told in await waiting] == ["text"]


class Counted(Log):
    """Counts the events that are read, and the bytes of the largest read."""

    def __init__(self, log: Log, prefix: str, retention: int = RETENTION) -> None:
        super().__init__(log.server, prefix=prefix, retention=retention, expiry=EXPIRY)
        self.read = self.held = 0

    async def since(self, wanted: Mapping[ObjectRef, int], count: int, room: int = PAGE_BYTES) -> dict[ObjectRef, Read]:
        found = await super().since(wanted, count, room)
        self.read += sum(len(read.rows) for read in found.values())
        self.held = max(self.held, sum(len(row.payload) for read in found.values() for row in read.rows))
        return found


async def test_who_reads_many_logs_from_their_beginning_holds_little_of_them_at_once(log: Log, prefix: str) -> None:
    logs, events = 6, 1500
    for n in range(logs):  # each log's events lie behind all of the one before
        await publish(await producer(log, LogKey("team", f"a{n}", f"uid-{n}")), 0, events, batch=500)
    counted, got = Counted(log, prefix), list[tuple[str, int]]()
    source = AllAgents(counted, Cursor(0))
    while not source.is_current:
        told = await source.more()
        assert len(told) <= READ_COUNT
        got += [(each.ref[1], each.micros) for each in told]
        assert counted.read - len(got) <= 2 * READ_COUNT
        if told and len(got) % 3 == 0:  # cut off, and back with the cursor
            counted.read = len(got)
            source = AllAgents(counted, parse_cursor(told[-1].cursor_text))
    assert [name for name, _ in got] == [f"a{n}" for n in range(logs) for _ in range(events)]
    assert [micros for _, micros in got] == sorted({micros for _, micros in got})


async def test_what_retention_takes_of_a_log_while_it_waits_for_its_turn_is_a_gap(log: Log, prefix: str) -> None:
    short = Counted(log, prefix, retention=1000)
    first, second = [await producer(short, LogKey("team", name, f"uid-{name}")) for name in ("first", "second")]
    await publish(first, 0, 1000, batch=500)
    await publish(second, 0, 1000, batch=500)
    source = AllAgents(short, Cursor(0))
    told = await source.more()
    await publish(second, 1000, 1000, batch=500)
    while not source.is_current:
        told += await source.more()
    assert [each.type for each in told if each.ref[1] == "first"] == ["text"] * 1000
    of_second = [each.type for each in told if each.ref[1] == "second"]
    assert of_second.count("gap") == 1
    held = of_second.index("gap")
    assert 0 < held < 1000
    assert of_second[held + 1 :] == ["text"] * 1000
