"""Retention, pages and messages are limited in bytes too."""

import asyncio
from itertools import pairwise

import orjson
import pytest

from komputer.domain.errors import Conflict
from komputer.events import schema
from komputer.events.log import EXPIRY, RETENTION, Log, LogKey, LogPage
from komputer.events.ranges import PAGE_BYTES
from komputer.events.reading import ENDS_AT_ONCE
from tests.contract.log.events import KEY, Producer, completed, everything, ids, producer, read, said, started, texts

KIB = 1024
LIMIT = 100 * KIB
COUNTED = 128 + len("t" + "text" + "p" + '{"task_id":"t1","content":""}')
"""Bytes of a text of the task `t1`, as the log counts them, beside those of the text."""


def small(log: Log, limit: int = LIMIT, retention: int = RETENTION) -> Log:
    """The same log with a small limit."""
    return Log(log.server, prefix=log._prefix, retention=retention, retention_bytes=limit, expiry=EXPIRY)


async def in_redis(log: Log, key: LogKey = KEY) -> int:
    stream, _ = log.stream_and_live(key.ref)
    return int(await log.server.redis.memory_usage(stream, samples=0))


async def counted(log: Log) -> int:
    _, live = log.stream_and_live(KEY.ref)
    return int((await log.server.redis.hget(live, "bytes")).partition(b"@")[0])


async def held(log: Log) -> int:
    """Return what the log should have counted."""
    stream, _ = log.stream_and_live(KEY.ref)
    entries = await log.server.redis.xrange(stream)
    return sum(128 + sum(len(key) + len(value) for key, value in fields.items()) for _, fields in entries)


async def test_as_many_bytes_are_kept_as_the_limit_says_and_not_one_event_more(log: Log) -> None:
    short = small(log)
    runtime = await producer(short)
    size = 10 * KIB
    for n in range(40):
        await runtime.post(said("t1", f"{n:03}".ljust(size, "x")))
        assert await counted(short) == await held(short) <= LIMIT
    kept = [int(text[:3]) for text in texts(await short.page("team", "ada", limit=100))]
    assert kept == list(range(40 - LIMIT // (size + COUNTED), 40))


async def test_a_batch_that_is_larger_than_the_limit_leaves_its_newest_events(log: Log) -> None:
    short = small(log)
    runtime = await producer(short)
    await runtime.post(started("t1"), *(said("t1", f"{n:03}".ljust(16 * KIB, "x")) for n in range(100)))
    assert [text[:3] for text in texts(await short.page("team", "ada", limit=200))] == [
        f"{n:03}" for n in range(94, 100)
    ]


async def test_an_event_that_is_larger_than_the_limit_is_kept_until_the_next(log: Log) -> None:
    short = small(log, 1000)
    runtime = await producer(short)
    for n in range(3):
        await runtime.post(said("t1", f"{n}".ljust(5000, "x")))
        assert [text[0] for text in texts(await short.page("team", "ada", limit=9))] == [str(n)]


async def test_what_the_limit_took_is_a_gap_and_an_end_that_is_not_accounted_stays(log: Log) -> None:
    short = small(log)
    runtime = await producer(short)
    await runtime.post(started("t1"), said("t1", "first"), completed("t1"))
    seen = ids(await short.page("team", "ada", limit=9))
    for n in range(0, 40, 4):
        await runtime.post(*(said("t2", f"{n + i:03}".ljust(10 * KIB, "x")) for i in range(4)))
    left = read(await short.page("team", "ada", limit=100))
    for cursor in seen:
        page = await short.page("team", "ada", limit=100, after=cursor)
        assert (page.gap, read(page)) == (True, left), cursor
    assert not (await short.page("team", "ada", limit=100, after=left[0]["id"])).gap
    assert [end.payload["task_id"] for end in await short.ends_after(KEY, None)] == ["t1"]


async def test_the_number_of_events_is_bounded_as_well_whatever_comes_first(log: Log) -> None:
    both = small(log, retention=10)
    runtime = await producer(both)
    await runtime.post(*(said("t1", str(n)) for n in range(25)))
    assert texts(await both.page("team", "ada", limit=99)) == [str(n) for n in range(15, 25)]
    await runtime.post(*(said("t1", "x" * 30 * KIB) for _ in range(3)))
    assert len(await everything(both)) == 10
    await runtime.post(*(said("t1", "x" * 30 * KIB) for _ in range(3)))
    assert len(await everything(both)) == 3
    assert await counted(both) == await held(both)


@pytest.mark.parametrize("was", ["never counted", "counted before another release wrote", "nonsense"])
async def test_a_log_that_was_written_without_counting_is_counted_at_the_next_event(log: Log, was: str) -> None:
    runtime = await producer(log)
    await runtime.post(*(said("t1", f"{n:03}".ljust(10 * KIB, "x")) for n in range(50)))
    _, live = log.stream_and_live(KEY.ref)
    before = {"never counted": None, "counted before another release wrote": "7@1", "nonsense": "many"}[was]
    if before is None:
        await log.server.redis.hdel(live, "bytes")
    else:
        await log.server.redis.hset(live, "bytes", before)
    old = ids(await log.page("team", "ada", limit=100))
    short = small(log)
    again = Producer(short)
    await again.hello()
    await again.post(said("t1", "new"))
    kept = ids(await short.page("team", "ada", limit=100))
    assert await counted(short) == await held(short) <= LIMIT
    assert kept[:-1] == old[-len(kept) + 1 :]
    assert (await short.page("team", "ada", limit=100, after=old[-len(kept) - 1])).gap
    assert not (await short.page("team", "ada", limit=100, after=old[-len(kept)])).gap


@pytest.mark.parametrize("size", [20, 400, 3000, 16_000, 60_000])
async def test_what_is_counted_is_about_what_the_server_holds(log: Log, size: int) -> None:
    runtime = await producer(log)
    for _ in range(min(20, max(1, 2 * 1024 * KIB // size // 100))):
        await runtime.post(*(said("t1", "x" * size) for _ in range(100)))
    assert await in_redis(log) < 1.2 * await counted(log)


async def test_a_page_ends_before_it_is_too_large_and_says_so(log: Log) -> None:
    runtime = await producer(log)
    big = [schema.ToolCall(task_id="t1", id=str(n), tool="Bash", input={"x": "x" * 200 * KIB}) for n in range(40)]
    for n in range(0, 40, 10):
        await runtime.post(*big[n : n + 10])
    everything_kept = [str(n) for n in range(40)]

    def calls(page: LogPage) -> list[str]:
        assert sum(map(len, page.entries)) < PAGE_BYTES + 100 * KIB
        return [event["payload"]["id"] for event in read(page)]

    newest = await log.page("team", "ada", limit=50)
    assert (newest.is_cut, calls(newest)) == (True, everything_kept[-len(newest.entries) :])
    found: list[str] = []
    after = "0-0"
    while True:
        page = await log.page("team", "ada", limit=50, after=after, types={"tool_call"})
        found += calls(page)
        if not page.is_cut and len(page.entries) < 50:
            break
        after = page.last_id or after
    assert found == everything_kept
    middle = read(await log.page("team", "ada", limit=10, before=read(newest)[0]["id"]))[-1]
    around = await log.page("team", "ada", limit=50, around=middle["id"])
    assert around.is_cut, len(around.entries)
    assert middle["payload"]["id"] in calls(around)
    assert all(int(b) == int(a) + 1 for a, b in pairwise(calls(around)))
    few = await log.page("team", "ada", limit=3)
    assert (few.is_cut, calls(few)) == (False, everything_kept[-3:])


async def test_a_task_takes_no_more_messages_than_are_bounded(log: Log) -> None:
    runtime = await producer(log)
    await runtime.post(started("t1"))
    text = "x" * 16_000
    given = [await log.message(KEY, "t1", text, str(n)) for n in range(4 * 1024 * KIB // 16_400)]
    assert all(given)
    with pytest.raises(Conflict) as full:
        await asyncio.gather(*(log.message(KEY, "t1", text) for _ in range(50)))
    assert full.value.code == "too_many_messages"
    assert await log.message(KEY, "t1", text, "0") == given[0], "what was said is answered as the first time"
    assert len(await log.messages(KEY, None)) > 200
    await runtime.post(completed("t1"), started("t2"))
    assert await log.message(KEY, "t2", text), "the next task begins anew"


async def test_many_short_messages_are_too_many_as_well(log: Log) -> None:
    runtime = await producer(log)
    await runtime.post(started("t1"))
    assert await log.message(KEY, "t1", "0")
    stream = f"{log._prefix}-messages:{KEY.namespace}:{KEY.name}"
    async with log.server.redis.pipeline(transaction=False) as pipe:
        for n in range(1, 1000):
            pipe.xadd(
                stream, {"t": "t1", "p": orjson.dumps({"task_id": "t1", "content": str(n), "steer": True}), "r": ""}
            )
        await pipe.execute()
    with pytest.raises(Conflict):
        await log.message(KEY, "t1", "one more")
    found = [each.payload["content"] for each in await log.messages(KEY, None)]
    assert found == [str(n) for n in range(1000)]


async def test_a_log_that_grew_since_it_was_read_is_read_within_the_bounds_all_the_same(log: Log) -> None:
    runtime = await producer(log)
    await runtime.post(said("t1", "small"))
    assert len((await log.page("team", "ada", limit=50)).entries) == 1
    big = [schema.ToolCall(task_id="t1", id=str(n), tool="Bash", input={"x": "x" * 200 * KIB}) for n in range(30)]
    for n in range(0, 30, 10):
        await runtime.post(*big[n : n + 10])
    for _ in range(2):  # by the plain commands, then by the script
        page = await log.page("team", "ada", limit=50, after="0-0")
        assert page.is_cut
        assert sum(map(len, page.entries)) < PAGE_BYTES + 100 * KIB
        rest = await log.page("team", "ada", limit=50, after=page.last_id)
        assert len(page.entries) + len(rest.entries) == 31


async def test_ends_are_read_some_at_a_time_and_none_is_lost(log: Log) -> None:
    runtime = await producer(log)
    for n in range(20):
        await runtime.post(started(f"t{n}"), completed(f"t{n}"))
    found: list[str] = []
    last: str | None = None
    while ends := await log.ends_after(KEY, last):
        assert len(ends) <= ENDS_AT_ONCE
        found += [end.payload["task_id"] for end in ends]
        last = ends[-1].id
    assert found == [f"t{n}" for n in range(20)]
