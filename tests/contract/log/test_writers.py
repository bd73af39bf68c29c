"""Many writers at once, and keys in which something else stands."""

import asyncio

import pytest

from komputer.domain.errors import Unavailable
from komputer.domain.ref import ObjectRef
from komputer.events.log import Log, LogKey, Numbered
from komputer.events.schema import Event
from tests.contract.log.events import KEY, Producer, completed, everything, producer, said, started


async def test_twenty_writers_of_one_term_take_each_number_once(log: Log) -> None:
    """Two connections that overtake each other, twenty times: every writer offers every number."""
    runtime = await producer(log)
    batch = [Numbered(i, said("t1", str(i))) for i in range(1, 31)]

    async def write(offset: int) -> int:
        taken = 0
        for start in range(0, 30, 3):
            part = batch[start : start + 3]
            answers = await log.append(KEY, runtime.term, part)
            while "gap" in answers:
                answers = await log.append(KEY, runtime.term, part)
            taken += answers.count("ok")
        return taken

    assert sum(await asyncio.gather(*(write(i) for i in range(20)))) == 30
    events = await everything(log)
    assert [event["payload"]["content"] for event in events] == [str(i) for i in range(1, 31)]
    stamps = [event["timestamp"] for event in events]
    assert stamps == sorted(set(stamps))


async def test_of_twenty_runtimes_that_say_hello_at_once_one_may_speak(log: Log) -> None:
    runtimes = [Producer(log) for _ in range(20)]
    await asyncio.gather(*(runtime.hello() for runtime in runtimes))
    assert len({runtime.term for runtime in runtimes}) == 20
    answers = await asyncio.gather(*(runtime.post(started("t1")) for runtime in runtimes))
    assert sorted(answer for (answer,) in answers) == ["fenced"] * 19 + ["ok"]


async def test_twenty_agents_write_at_once_and_each_log_is_its_own(log: Log) -> None:
    async def work(number: int) -> None:
        key = LogKey("team", f"agent-{number}", f"uid-{number}")
        runtime = await producer(log, key)
        for task in range(5):
            events: list[Event] = [started(f"t{task}"), *(said(f"t{task}") for _ in range(8)), completed(f"t{task}")]
            assert set(await runtime.post(*events)) == {"ok"}
        assert [end.payload["task_id"] for end in await log.ends_after(key, None)] == [f"t{i}" for i in range(5)]

    await asyncio.gather(*(work(i) for i in range(20)))
    live = await log.live_many([ObjectRef("team", f"agent-{i}") for i in range(21)])
    assert len(live) == 20
    assert all(one.has_ended and one.task_id == "t4" for one in live.values())
    assert len(await log.all_logs()) == 20


async def test_foreign_data_under_our_names_is_an_error_of_the_log(log: Log) -> None:
    await log.server.redis.set(log.stream_and_live(KEY.ref)[0], "not a stream")
    with pytest.raises(Unavailable):
        await log.page("team", "ada", limit=5)
    runtime = await producer(log)  # a new log begins with clean keys
    await log.server.redis.set(log.stream_and_live(KEY.ref)[0], "not a stream")
    with pytest.raises(Unavailable):
        await runtime.post(started("t1"))


async def test_texts_of_every_kind_go_through_unchanged(log: Log) -> None:
    runtime = await producer(log)
    samples = ["", "\x00\x01\x7f", '"}],\\u0000', "é😀\u2028\r\n", "x" * 60_000, "{0} %s $1 \\n"]
    assert set(await runtime.post(*(said("t1", sample) for sample in samples))) == {"ok"}
    assert [event["payload"]["content"] for event in await everything(log)] == samples


async def test_a_full_batch_is_one_round_trip(log: Log) -> None:
    runtime = await producer(log)
    before = (await log.server.redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert len(await runtime.post(*(said("t1", "y" * 1000) for _ in range(500)))) == 500
    assert (await log.server.redis.info("commandstats"))["cmdstat_evalsha"]["calls"] == before + 1
