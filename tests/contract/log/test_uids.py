"""An agent that is deleted, and one that has its name afterwards."""

from datetime import timedelta

import pytest

from komputer.domain.errors import Conflict
from komputer.events.log import Log, LogKey
from tests.contract.log.events import KEY, Producer, completed, everything, failed, ids, producer, said, started
from tests.fixtures.valkey import LogServer

NEXT = LogKey("team", "ada", "uid-2")


async def test_a_hello_of_a_new_uid_begins_a_new_log_and_the_old_uid_is_dead(log: Log) -> None:
    old = await producer(log)
    await old.post(started("t1"), completed("t1"), started("t2"))
    cursor = (await everything(log))[-1]["id"]
    new = Producer(log, NEXT)
    welcome = await new.hello(["t1", "t2"])
    assert (welcome.started, welcome.ended, welcome.open) == ([], [], [])
    assert await everything(log) == []
    assert await old.post(said("t2")) == ["fenced"]
    assert await log.end(KEY, failed("t2"), generation=9, floor=None) == "fenced"
    with pytest.raises(Conflict) as refused:
        await old.hello()
    assert refused.value.code == "fenced"
    assert await new.post(started("t1")) == ["ok"], "nothing of the old agent's tasks is known"
    page = await log.page("team", "ada", limit=9, after=cursor)
    assert page.gap
    assert len(page.entries) == 1
    assert ids(page)[0] > cursor
    assert await log.ends_after(KEY, None) == []


async def test_an_end_by_the_operator_for_a_new_uid_begins_a_new_log_too(log: Log) -> None:
    old = await producer(log)
    await old.post(started("t1"))
    assert await log.end(NEXT, failed("t9"), generation=1, floor=None) == "ok"
    live = await log.live("team", "ada")
    assert live
    assert (live.uid, live.task_id, live.term) == ("uid-2", "t9", 0)
    assert await old.post(said("t1")) == ["fenced"]


async def test_an_append_of_another_uid_takes_nothing_over(log: Log) -> None:
    first = await producer(log)
    stranger = Producer(log, NEXT)
    stranger.term = first.term
    assert await stranger.post(started("t1")) == ["fenced"]
    assert await first.post(started("t1")) == ["ok"]


async def test_a_purged_agent_leaves_only_its_tombstone(log: Log) -> None:
    runtime = await producer(log)
    await runtime.post(started("t1"), completed("t1"))
    assert await log.all_logs() == [("team", "ada", "uid-1")]
    await log.purge(KEY)
    left = {key.decode() for key in await log.server.redis.keys(f"{log._prefix}*")}
    assert left == {f"{log._prefix}-bell", f"{log._prefix}-dead"}
    assert await log.all_logs() == []
    assert await runtime.post(said("t1")) == ["fenced"]
    with pytest.raises(Conflict):
        await runtime.hello()
    assert await log.end(KEY, failed("t1"), generation=1, floor=None) == "fenced"
    await log.purge(KEY)
    assert await log.live("team", "ada") is None


async def test_purging_an_agent_does_not_touch_the_next_of_its_name(log: Log) -> None:
    await producer(log)
    new = await producer(log, NEXT)
    await new.post(started("t1"))
    await log.purge(KEY)
    assert len(await everything(log)) == 1
    assert await new.post(said("t1")) == ["ok"]


async def test_an_agent_that_is_purged_before_its_first_event_can_never_write_one(log: Log) -> None:
    new = await producer(log, NEXT)
    await log.purge(KEY)
    with pytest.raises(Conflict):
        await Producer(log).hello()
    assert await new.post(started("t1")) == ["ok"]


async def test_ids_keep_increasing_after_a_purge_even_if_the_clock_was_set_back(log: Log) -> None:
    ahead = 4_000_000_000_000
    old = Producer(log, floor=f"{ahead}-0")
    await old.hello()
    await old.post(started("t1"))
    last = (await everything(log))[-1]["id"]
    await log.purge(KEY)
    new = await producer(log, NEXT)
    await new.post(started("t1"))
    first = (await everything(log))[0]["id"]
    assert (last, first) == (f"{ahead}-1", f"{ahead}-2")


async def test_agents_of_one_name_in_two_namespaces_share_nothing(log: Log) -> None:
    here, there = await producer(log), await producer(log, LogKey("other", "ada", "uid-9"))
    await here.post(started("t1"), completed("t1"))
    assert await there.post(started("t1")) == ["ok"]
    await log.purge(KEY)
    assert len(await everything(log, there.key)) == 1


async def test_a_page_can_be_held_to_one_uid(log: Log) -> None:
    runtime = await producer(log)
    await runtime.post(started("t1"))
    assert len((await log.page("team", "ada", limit=5, uid="uid-1")).entries) == 1
    assert (await log.page("team", "ada", limit=5, uid="uid-2")).entries == []


async def test_all_keys_of_a_log_expire_at_one_moment_and_writing_moves_it(server: LogServer) -> None:
    prefix = server.prefix()
    log = Log.connect(server.url, prefix=prefix, expiry=timedelta(days=3))
    runtime = await producer(log)
    await runtime.post(said("t1"))
    await runtime.post(started("t1"), completed("t1"))
    redis = log.server.redis
    keys = [key for key in await redis.keys(f"{prefix}*") if b":team:ada" in key]
    assert len(keys) == 6
    assert len({await redis.expiretime(key) for key in keys}) == 1
    assert 0 < await redis.ttl(keys[0]) <= 3 * 86400
    longer = Log.connect(server.url, prefix=prefix, expiry=timedelta(days=9))
    runtime.log = longer
    await runtime.post(said("t2"))
    assert {await redis.expiretime(key) for key in keys} == {await redis.expiretime(keys[0])}
    assert await redis.ttl(keys[0]) > 8 * 86400
    await log.close()
    await longer.close()
