"""Fifty readers, good and bad ones, while 5000 events are published; and what is published through outages."""

import asyncio
import signal
from collections.abc import Callable, Iterator

import aiohttp
import pytest

from komputer.domain.errors import Unavailable
from komputer.events.log import Numbered
from tests.contract.log.events import Producer, said
from tests.contract.stream.world import WITHIN_S, Api, World, cut, numbers, publish, stop_reading
from tests.fixtures.valkey import LogServer, engines, running

COUNT = 5000
Start = Callable[..., Api]


@pytest.fixture
def engine() -> str:
    """One engine is enough here: contract/log tests what a restart keeps on each of them."""
    return "valkey"


@pytest.fixture
def server(engine: str) -> Iterator[LogServer]:
    """A server that a test may kill without cutting off the shared API."""
    yield from running(engine)


@pytest.fixture
def prefix(server: LogServer) -> str:
    return server.prefix()


@pytest.fixture
def world(own_world: World) -> World:
    return own_world


async def follow(world: World, got: list[int], upto: int, api: Api | None = None, after: str = "0-0") -> None:
    """Follow like a good client: reconnect with the cursor after each disconnect."""
    while not got or got[-1] < upto - 1:
        try:
            async with world.ws(after=after, api=api) as socket:
                async for message in socket.ws:
                    event = message.json()
                    assert event["type"] == "text", event
                    after = event["id"]
                    got += numbers([event])
                    if got[-1] == upto - 1:
                        return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.1)


async def returning(world: World, got: list[int], upto: int) -> None:
    """Comes back with its cursor every second."""
    after = "0-0"
    while not got or got[-1] < upto - 1:
        async with world.ws(after=after) as socket:
            try:
                async with asyncio.timeout(1.0):
                    while True:
                        event = await socket.next()
                        after = event["id"]
                        got += numbers([event])
                        if got[-1] == upto - 1:
                            return
            except TimeoutError:
                pass


async def following_all(world: World, got: dict[str, list[int]], upto: int, cut_after: int) -> None:
    """Server-Sent Events of all agents; cut off again and again after some events."""
    last = "1-0"
    while any(len(each) < upto for each in got.values()):
        try:
            async with world.sse("/events/stream", last=last, namespace=world.namespace) as sse:
                for _ in range(cut_after):
                    event = await sse.next()
                    assert sse.last
                    last = sse.last
                    got[event["agentName"]] += numbers([event])
                    if all(len(each) >= upto for each in got.values()):
                        return
        except (aiohttp.ClientError, EOFError, AssertionError):
            await asyncio.sleep(0.1)


async def test_fifty_readers_each_see_all_of_5000_events_once_and_in_order(world: World) -> None:
    ada = await world.writer()
    healthy: list[list[int]] = [[] for _ in range(47)]
    comes_back: list[int] = []
    async with aiohttp.ClientSession() as http:
        url = f"{world.api.url}/agents/ada/ws?namespace={world.namespace}"
        stuck, killed = await http.ws_connect(url), await http.ws_connect(url)
        stop_reading(stuck)
        async with asyncio.TaskGroup() as group:
            for got in healthy:
                group.create_task(follow(world, got, COUNT))
            group.create_task(returning(world, comes_back, COUNT))
            await publish(ada, 0, COUNT // 2, batch=20)
            cut(killed)
            await publish(ada, COUNT // 2, COUNT // 2, batch=20)
        for got in [*healthy, comes_back]:
            assert got == list(range(COUNT))
        cut(stuck)


async def test_nothing_is_missed_or_repeated_when_log_and_api_die_in_mid_stream(
    world: World, server: LogServer, api_process: Start
) -> None:
    names = ("ada", "bob", "eve")
    writers = [await world.writer(name) for name in names]
    other = api_process()
    await world.answers(f"/agents/ada?namespace={world.namespace}", other.url)
    of_all: list[dict[str, list[int]]] = [{name: [] for name in names} for _ in range(3)]
    of_ada: list[list[int]] = [[] for _ in range(4)]
    async with asyncio.TaskGroup() as group:
        for got, cut_after in zip(of_all, (7, 100, 10_000), strict=True):
            group.create_task(following_all(world, got, 1000, cut_after))
        for n, mine in enumerate(of_ada):
            group.create_task(follow(world, mine, 1000, other if n % 2 else None))
        for step in range(4):
            publishing = [asyncio.create_task(stubborn(writer, step * 250, 250)) for writer in writers]
            await asyncio.sleep(0.2)
            if step == 1:
                server.kill()
                await asyncio.sleep(0.5)
                server.start()
            if step == 2:
                world.api.kill()
                await asyncio.sleep(0.5)
                world.api.start()
            await asyncio.gather(*publishing)
    for got in of_all:
        assert got == {name: list(range(1000)) for name in names}
    assert of_ada == [list(range(1000))] * 4


async def stubborn(writer: Producer, first: int, count: int) -> None:
    """Post like a runtime: repeat the same numbers until the log has answered."""
    for n in range(first, first + count):
        while True:
            try:
                answer = await writer.log.append(writer.key, writer.term, [Numbered(n + 1, said("t", str(n)))])
                assert answer in (["ok"], ["duplicate"])
                break
            except Unavailable:
                await asyncio.sleep(0.05)


@pytest.mark.parametrize(("engine", "by"), [*((engine, "restart") for engine in engines()), ("valkey", "silence")])
async def test_while_the_log_is_away_readers_wait_and_requests_say_so(world: World, server: LogServer, by: str) -> None:
    ada = await world.writer()
    async with (
        world.ws() as ws,
        world.sse("/events/stream", namespace=world.namespace) as sse,
    ):
        await publish(ada, 0, 5)
        assert numbers(await ws.take(5)) == numbers(await sse.take(5)) == list(range(5))
        assert server.process
        server.kill() if by == "restart" else server.process.send_signal(signal.SIGSTOP)
        try:
            async with world.http.get(f"{world.api.url}/agents") as answer:
                assert (answer.status, "ada" in await answer.text()) == (200, True)
            if by == "restart":
                for path in (f"/agents/ada/events?namespace={world.namespace}", "/events/stream"):
                    async with world.http.get(world.api.url + path) as answer:
                        assert answer.status == 503, await answer.text()
                        assert int(answer.headers["retry-after"]) > 0
                async with world.ws() as late:
                    assert await late.code() == 1013
            one, its_events = (
                f"{world.api.url}/agents/ada{end}?namespace={world.namespace}" for end in ("", "/events")
            )
            async with asyncio.timeout(5), world.http.get(one) as answer:
                assert answer.status == 200, "as it was known last"
            if by == "silence":
                async with asyncio.timeout(40), world.http.get(its_events) as answer:
                    assert (answer.status, answer.headers["retry-after"].isdigit()) == (503, True)
        finally:
            server.start() if by == "restart" else server.process.send_signal(signal.SIGCONT)
        await publish(ada, 5, 20, batch=1)
        assert numbers(await ws.take(20)) == numbers(await sse.take(20)) == list(range(5, 25))


async def test_a_server_that_stops_sends_its_readers_back(world: World) -> None:
    ada = await world.writer()
    await publish(ada, 0, 3)
    async with world.ws(after="0-0") as ws, world.sse("/events/stream", after="1-0", namespace=world.namespace) as sse:
        assert numbers(await ws.take(3)) == numbers(await sse.take(3)) == [0, 1, 2]
        world.api.stop()
        async with asyncio.timeout(WITHIN_S):
            assert await ws.code() in (1001, 1012)
        with pytest.raises(EOFError):
            await sse.next()
    world.api.start()
    await publish(ada, 3, 3)
    async with world.sse("/events/stream", last=sse.last, namespace=world.namespace) as again:
        assert numbers(await again.take(3)) == [3, 4, 5]
