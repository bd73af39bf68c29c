"""`?group=`: each event goes to one member, at least once, whichever member dies."""

import asyncio
import signal
from collections.abc import Callable

import aiohttp
import pytest

from komputer.events.log import Log
from tests.contract.log.events import said
from tests.contract.stream.world import Api, Json, Socket, World, cut, numbers, publish
from tests.waiting import eventually

Start = Callable[..., Api]


async def drain(socket: Socket, into: list[Json], more: Callable[[], bool]) -> None:
    """Takes what comes until `more` says that it is enough, or the socket is closed."""
    while more():
        try:
            async with asyncio.timeout(0.5):
                message = await socket.ws.receive()
        except TimeoutError:
            continue
        if message.type is not aiohttp.WSMsgType.TEXT:
            return
        into.append(message.json())


async def test_each_event_goes_to_one_member_also_of_two_processes(world: World, api_process: Start) -> None:
    ada = await world.writer()
    other = api_process()
    await world.answers(f"/agents/ada?namespace={world.namespace}", other.url)
    async with (
        world.ws(group="workers") as one,
        world.ws(group="workers", api=other) as two,
        world.ws(group="audit") as audit,
        world.ws(api=other) as everything,
    ):
        got: list[list[Json]] = [[], []]
        is_open = [True]
        taking = [asyncio.create_task(drain(s, g, lambda: is_open[0])) for s, g in zip((one, two), got, strict=True)]
        await publish(ada, 0, 200, batch=3)
        assert numbers(await audit.take(200)) == numbers(await everything.take(200)) == list(range(200))
        await eventually(lambda: len(got[0]) + len(got[1]) >= 200)
        is_open[0] = False
        await asyncio.gather(*taking)
        assert sorted(numbers(got[0] + got[1])) == list(range(200))
        assert all(numbers(each) == sorted(numbers(each)) and each for each in got)


async def test_what_a_member_did_not_take_goes_to_another_at_once(world: World) -> None:
    ada = await world.writer()
    async with world.ws(group="workers") as first:
        await publish(ada, 0, 20)
        assert numbers(await first.take(1)) == [0]
        cut(first.ws)
        async with world.ws(group="workers") as second:
            assert set(numbers(await second.take(20))) >= set(range(1, 20))


async def test_what_a_dead_process_was_given_is_claimed_by_another(world: World, api_process: Start) -> None:
    ada = await world.writer()
    limits = {"CLAIM_AFTER_S": "3", "RENEW_S": "1"}
    one, other = api_process(**limits), api_process(**limits)
    for api in (one, other):
        await world.answers(f"/agents/ada?namespace={world.namespace}", api.url)
    async with world.ws(group="workers", api=other) as doomed:
        await publish(ada, 0, 5)
        assert numbers(await doomed.take(2)) == [0, 1]
        assert other.process
        other.process.send_signal(signal.SIGSTOP)  # it has given the rest, and not heard that they were taken
        async with world.ws(group="workers", api=one) as heir:
            other.kill()
            await publish(ada, 5, 1)
            assert set(numbers(await heir.take(6))) == set(range(6))


async def test_a_group_without_members_continues_where_it_was(world: World) -> None:
    ada = await world.writer()
    await publish(ada, 0, 3)
    async with world.ws(group="workers") as ws:
        await publish(ada, 3, 3)
        assert numbers(await ws.take(3)) == [3, 4, 5]
        with pytest.raises(TimeoutError):  # answers pings: what it does not confirm another is told again
            await asyncio.wait_for(ws.ws.receive(), 3)
    await publish(ada, 6, 3)
    async with world.ws(group="workers") as ws:
        assert numbers(await ws.take(3)) == [6, 7, 8]
    async with world.ws(group="from-the-beginning", after="0-0") as ws:
        assert numbers(await ws.take(9)) == list(range(9))


async def test_a_group_that_waits_for_a_new_agent_gets_its_first_event(world: World) -> None:
    ada = await world.agent()
    async with world.ws(group="workers") as ws:
        await ada.hello()
        await publish(ada, 0, 2)
        assert numbers(await ws.take(2)) == [0, 1]


async def test_groups_are_deleted_with_the_agent(world: World, log: Log) -> None:
    ada = await world.writer()
    await ada.post(said("t", "0"))
    async with world.ws(group="workers", after="0-0") as ws:
        assert numbers(await ws.take(1)) == [0]
        await world.http.delete(f"{world.api.url}/agents/ada", params={"namespace": world.namespace})
        await log.purge(ada.key)
        assert await ws.code() == 4410
    assert await log.server.redis.keys(f"*:{world.namespace}:*") == []


async def test_names_of_groups_are_checked_and_there_are_not_too_many(world: World, log: Log) -> None:
    ada = await world.writer()
    await ada.post(said("t", "0"))
    stream, _ = log.stream_and_live(ada.key.ref)
    for n in range(64):
        await log.server.redis.xgroup_create(stream, f"g{n}")
    async with world.ws(group="one-more") as ws:
        assert await ws.code() == 4400
    async with world.ws(group="g1") as ws:
        await ada.post(said("t", "1"))
        assert numbers(await ws.take(1)) == [1]
