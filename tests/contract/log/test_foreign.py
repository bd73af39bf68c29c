"""Foreign content in Redis is an error of that item only: everything else can still be read and written."""

import asyncio
from typing import Any

import pytest

from komputer.domain.errors import Unavailable
from komputer.domain.ref import ObjectRef
from komputer.events.follow.cursors import Cursor
from komputer.events.follow.groups import Member
from komputer.events.follow.notifier import Notifier
from komputer.events.follow.sources import AllAgents, OneAgent
from komputer.events.log import Log, LogKey
from komputer.redis.connector_health import HealthRecord
from komputer.redis.idempotency import Unreadable
from tests.contract.log.events import KEY, Producer, completed, producer, read, said, started, texts

REF = KEY.ref
BOB = LogKey("team", "bob", "uid-bob")
ENTRIES: list[dict[Any, Any]] = [
    {"x": "y"},
    {"t": "text"},
    {"t": "text", "p": "no json"},
    {"t": "text", "p": "[1, 2]"},
    {"t": b"\xff\x00", "p": "{}"},
    {"t": 'text","payload":{}}', "p": "{}"},
    {"t": "text", "p": b'{"content": "\xff"}'},
    {"t": "text", "p": '{\r\n"content": "ours after all"\n}'},
    {"t": "task_completed", "p": '{"cost_usd": 1e308, "task_id": []}'},
]
SEPARATORS = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\x1dh\x1ei\rj\nk\x00l\r\n\r\nevent: end\r\ndata: m"


def key_of(log: Log, kind: str, key: LogKey = KEY) -> str:
    return f"{log._prefix}{kind}:{key.namespace}:{key.name}"


async def test_every_separator_is_stored_unchanged(log: Log) -> None:
    runtime = await producer(log)
    await runtime.post(started("t1"), said("t1", SEPARATORS), said("t1", "half \ud800 a pair"))
    await log.message(KEY, "t1", SEPARATORS)
    page = await log.page(*REF, limit=9)
    assert texts(page) == [SEPARATORS, "half \ufffd a pair"]
    assert read(page)[-1]["payload"]["content"] == SEPARATORS
    assert [each.payload["content"] for each in await log.messages(KEY, None)] == [SEPARATORS]
    told = await OneAgent(log, REF, KEY.uid, Cursor(0)).more()
    assert [each.text.encode() for each in told] == page.entries
    live = await log.live(*REF)
    assert live is not None
    assert live.message == "a"


async def test_foreign_entries_are_reported_at_their_position(log: Log) -> None:
    runtime = await producer(log)
    await runtime.post(started("t1"), said("t1", "before"))
    for fields in ENTRIES:
        await log.server.redis.xadd(key_of(log, ""), fields)
    await asyncio.sleep(0.002)  # ids of the server's own are those of a millisecond
    await runtime.post(said("t1", "after"))
    page = await log.page(*REF, limit=50)
    kinds = [event["type"] for event in read(page)]
    unreadable = ["unreadable"] * 7
    assert kinds == ["task_started", "text", *unreadable, "text", "task_completed", "text"]
    assert texts(page) == ["before", "ours after all", "after"]
    assert [event["type"] for event in read(await log.page(*REF, limit=9, types={"unreadable"}))] == unreadable
    for source in (OneAgent(log, REF, KEY.uid, Cursor(0)), AllAgents(log, Cursor(0))):
        told = await source.more()
        assert [each.type for each in told] == kinds
        assert all("\n" not in each.text and "\r" not in each.text for each in told)


async def test_foreign_ids_block_no_reader(log: Log) -> None:
    runtime = await producer(log)
    await runtime.post(said("t1", "before"))
    last = int(read(await log.page(*REF, limit=1))[0]["id"].partition("-")[0])
    for n in range(3):
        await log.server.redis.xadd(
            key_of(log, ""), {"t": "text", "p": '{"content":"odd"}'}, id=f"{last + 1}-{5000 + n}"
        )
    await asyncio.sleep(0.01)  # until their millisecond is over
    await runtime.post(said("t1", "after"))
    assert texts(await log.page(*REF, limit=9))[-1] == "after"
    after, found = "0-0", list[str]()
    while (page := await log.page(*REF, limit=1, after=after)).entries:
        found += texts(page)
        after = page.last_id or ""
    assert (found[0], found[-1]) == ("before", "after")
    source, told = OneAgent(log, REF, KEY.uid, Cursor(0)), list[str]()
    while not source.is_current:
        told += [each.type for each in await source.more()]
    assert await source.more() == []
    member = Member(log, Notifier(log.notifications()), REF, KEY.uid, "workers", Cursor(0))
    await member.begin()
    got = await member.take()
    assert len(got) == 5
    await member.confirm(got, None)
    await member.close()
    assert (await log.server.redis.xpending(key_of(log, ""), "workers"))["pending"] == 0


async def test_ends_and_messages_that_are_not_ours_are_passed_by(log: Log) -> None:
    runtime = await producer(log)
    await runtime.post(started("t1"))
    for fields in ENTRIES:
        await log.server.redis.xadd(key_of(log, "-ends"), fields)
    await log.server.redis.xadd(key_of(log, "-messages"), {"t": "t1", "p": "no json"})
    await asyncio.sleep(0.002)
    assert await log.message(KEY, "t1", "hello")
    await runtime.post(completed("t1"))
    ends = await log.ends_after(KEY, None)
    assert (len(ends), ends[-1].payload["task_id"]) == (len(ENTRIES) + 1, "t1")
    await log.trim_ends(KEY, ends[-1].id)
    assert await log.ends_after(KEY, None) == []


async def test_a_message_that_cannot_be_read_is_answered_all_the_same(log: Log) -> None:
    runtime = await producer(log)
    await runtime.post(started("t1"))
    await log.server.redis.xadd(key_of(log, "-messages"), {"t": "t1", "p": "no json"})
    (message,) = await log.messages(KEY, None)
    assert "cannot be read" in message.payload["content"]


@pytest.mark.parametrize("field", ["last", "born", "lost", "gen", "term", "seen", "until", "bytes", "task", "ended"])
@pytest.mark.parametrize("value", [b"", b"x", b"-1", b"nan", b"inf", b"1e9", b"\xff\x00", b"9" * 30])
async def test_nonsense_in_a_live_hash_stops_neither_readers_nor_writers(log: Log, field: str, value: bytes) -> None:
    runtime = await producer(log)
    await runtime.post(started("t1"), said("t1", "one"))
    await log.server.redis.hset(key_of(log, "-live"), field, value)
    assert await log.live(*REF)
    assert texts(await log.page(*REF, limit=9)) == ["one"]
    await OneAgent(log, REF, KEY.uid, Cursor(0)).more()
    again = Producer(log)
    welcome = await again.hello(["t1"])
    assert welcome.started == ["t1"]
    assert await again.post(said("t1", "two")) == ["ok"]
    assert texts(await log.page(*REF, limit=9)) == ["one", "two"]


@pytest.mark.parametrize("kind", ["", "-live", "-ends", "-messages"])
async def test_a_key_of_another_type_is_named_and_only_its_agent_suffers(log: Log, kind: str) -> None:
    ada, bob = await producer(log), await producer(log, BOB)
    await ada.post(started("t1"))
    await bob.post(started("t2"))
    redis = log.server.redis
    await redis.delete(key_of(log, kind))
    await redis.set(key_of(log, kind), "not ours")
    if kind in ("", "-live"):
        for call in (log.page(*REF, limit=1), OneAgent(log, REF, KEY.uid, Cursor(0)).more()):
            with pytest.raises(Unavailable) as damaged:
                await call
            assert (damaged.value.code, key_of(log, kind) in damaged.value.message) == ("log_damaged", True)
    if kind != "-messages":
        with pytest.raises(Unavailable) as damaged:
            await ada.post(completed("t1"))
        assert damaged.value.code == "log_damaged"
    if kind == "-live":
        with pytest.raises(Unavailable):
            await log.live(*REF)
        with pytest.raises(Unavailable):
            await log.state(REF)
    assert BOB.name in [name for _, name in await log.live_many([REF, ObjectRef("team", "bob")])]
    assert ("team", "bob") in await log.refs()
    source, told = AllAgents(log, Cursor(0)), list[str]()
    while not source.is_current:
        told += [each.ref[1] for each in await source.more()]
    assert "bob" in told
    assert await bob.post(completed("t2")) == ["ok"]
    await redis.rename(key_of(log, kind), f"{log._prefix}-put-aside")  # as the message says
    await (again := Producer(log)).hello()
    assert await again.post(said("t3")) == ["ok"]


async def test_notifications_and_keys_without_an_agent_are_ignored(log: Log) -> None:
    notifications = log.notifications()
    await anext(notifications)
    ada = await producer(log)
    source = AllAgents(log, None)
    await source.begin()
    redis = log.server.redis
    for fields in ({"k": b"\xff"}, {"x": "y"}, {"k": "no slash"}, {"k": "team/NO NAME~"}):
        await redis.xadd(f"{log._prefix}-bell", fields)
    for name in ("no-colon", "team:NO NAME~", b"\xff:\xff"):
        await redis.hset(
            f"{log._prefix}-live:".encode() + (name if isinstance(name, bytes) else name.encode()), "uid", "u"
        )
    await ada.post(said("t", "1"))
    async with asyncio.timeout(20):
        while REF not in (changed := await anext(notifications)):
            assert changed
    assert [each.type for each in await source.more()] == ["text"]
    assert await log.refs() == {REF}
    assert [name for _, name, _ in await log.all_logs()] == ["ada"]
    await notifications.aclose()  # type: ignore[attr-defined]


async def test_a_record_of_a_request_that_is_not_ours_is_refused_and_others_go_on(log: Log) -> None:
    requests = log.requests()
    await log.server.redis.set(requests._name("a"), b"\xff\x00")
    with pytest.raises(Unreadable):
        await requests.opened("a", "digest")
    assert (await requests.opened("b", "digest"))[1]


async def test_what_was_seen_of_one_connector_is_not_hidden_by_another_s_nonsense(log: Log) -> None:
    health = log.health()
    refs = [ObjectRef("team", name) for name in ("ok", "text", "bytes")]
    await health.note(refs[0], "u")
    await log.server.redis.set(health._key(refs[1]), "not ours")
    await log.server.redis.hset(health._key(refs[2]), mapping={"uid": "u", "state": "failed", "reason": b"\xff"})
    found = await health.read([(ref, "u") for ref in refs])
    assert found[refs[0]].state == "ok"
    assert refs[1] not in found
    assert found[refs[2]] == HealthRecord("failed", "", "", "\ufffd")
