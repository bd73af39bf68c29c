"""A reader of an agent gets each of its events once, in order, as REST returns them."""

import asyncio
import time
from collections.abc import Callable

import aiohttp
import pytest

from komputer.api.stream import WRITE_TIMEOUT_S
from komputer.events import schema
from komputer.events.log import EXPIRY, Log
from komputer.kube import NAMESPACES
from tests.contract.log.events import Producer, completed, said, started
from tests.contract.stream.world import (
    WITHIN_S,
    Api,
    World,
    go_on_reading,
    narrow,
    numbers,
    publish,
    stop_reading,
)


async def test_events_are_the_same_in_rest_websocket_and_sse(world: World) -> None:
    ada = await world.writer()
    async with (
        world.ws() as ws,
        world.sse("/agents/ada/events/stream", namespace=world.namespace) as sse,
        world.sse("/events/stream", namespace=world.namespace) as all_sse,
    ):
        await ada.post(started("t"), said("t", "grüße"), completed("t"))
        by_ws, by_sse, by_all = await ws.take(3), await sse.take(3), await all_sse.take(3)
    events = (await world.rest())["events"]
    assert by_ws == by_sse == by_all == events
    assert [event["type"] for event in events] == ["task_started", "text", "task_completed"]
    assert sse.last == events[-1]["id"]


async def test_the_first_event_of_a_new_agent_arrives_at_once(world: World) -> None:
    ada = await world.agent()
    async with world.ws() as ws, world.sse("/events/stream", namespace=world.namespace) as sse:
        await asyncio.sleep(0.5)
        await ada.hello()
        await ada.post(started("t"))
        async with asyncio.timeout(5):
            assert (await ws.next())["type"] == (await sse.next())["type"] == "task_started"


@pytest.mark.parametrize("after", ["0-0", "event", "time"])
async def test_a_cursor_replays_what_lies_behind_it_and_goes_on_without_a_hole(world: World, after: str) -> None:
    ada = await world.writer()
    await publish(ada, 0, 700)
    events = (await world.rest(limit="200"))["events"]
    given = {"0-0": "0-0", "event": events[0]["id"], "time": events[0]["timestamp"]}[after]
    first = 0 if after == "0-0" else 501
    async with world.ws(after=given) as ws:
        publishing = asyncio.create_task(publish(ada, 700, 300))
        assert numbers(await ws.take(1000 - first)) == list(range(first, 1000))
        await publishing


async def test_a_cursor_from_before_retention_gets_the_gap_first(world: World, log: Log, prefix: str) -> None:
    ada = await world.agent()
    short = Producer(Log(log.server, prefix=prefix, retention=10, expiry=EXPIRY), ada.key)
    await short.hello()
    await publish(short, 0, 5)
    old = (await world.rest())["events"][0]["id"]
    await publish(short, 5, 30)
    async with (
        world.ws(after=old) as ws,
        world.sse("/agents/ada/events/stream", last=old, namespace=world.namespace) as sse,
        world.sse("/events/stream", after=old, namespace=world.namespace) as all_sse,
    ):
        for stream in (ws, sse, all_sse):
            notice = await stream.next()
            assert (notice["type"], notice["agentName"], notice["payload"]["after"]) == ("gap", "ada", old)
            assert numbers(await stream.take(10)) == list(range(25, 35))
            assert notice["timestamp"] < (await world.rest(limit="10"))["events"][0]["timestamp"]


async def test_without_a_namespace_the_default_comes_first_then_the_only_one(world: World) -> None:
    other = f"{world.namespace}-other"
    await world.cluster.create(NAMESPACES, {"metadata": {"name": other}})
    name = f"only-{world.namespace}"
    here = await world.writer(name)
    async with world.ws(name, namespace="") as ws:
        await here.post(said("t", "1"))
        assert numbers(await ws.take(1)) == [1]
    there = await world.writer(name, other)
    async with world.ws(name, namespace="") as ws:
        assert await ws.code() == 4400
    async with world.ws(name) as ws, world.ws(name, namespace=other) as ws_other:
        await there.post(said("t", "2"))
        await here.post(said("t", "3"))
        assert numbers(await ws.take(1)) == [3]
        assert numbers(await ws_other.take(1)) == [2]
    await world.cluster.delete(NAMESPACES, other)


async def test_an_error_has_a_close_code(world: World) -> None:
    await world.writer()
    for code, name, query in (
        (4404, "nobody", {}),
        (4400, "ada", {"after": "nonsense"}),
        (4400, "ada", {"namespace": "No Name"}),
        (4400, "ada", {"group": "no name"}),
    ):
        async with world.ws(name, None, **query) as ws:
            assert await ws.code() == code
    for status, path in (
        (404, "/agents/nobody/events/stream"),
        (400, f"/agents/ada/events/stream?namespace={world.namespace}&after=x"),
        (400, "/events/stream?after=1-1~x"),
    ):
        assert await world.status(path) == status


async def test_readers_of_a_deleted_agent_learn_that_nothing_follows(world: World) -> None:
    ada = await world.writer()
    async with world.ws() as ws, world.sse("/agents/ada/events/stream", namespace=world.namespace) as sse:
        await ada.post(said("t", "1"))
        assert numbers(await ws.take(1)) == numbers(await sse.take(1)) == [1]
        await world.http.delete(f"{world.api.url}/agents/ada", params={"namespace": world.namespace})
        code, reason = await ws.end()
        assert (code, "was deleted" in reason) == (4410, True)
        assert await sse.end() == "agent_deleted"
    again = await world.writer()
    async with world.ws(after="0-0") as ws:
        await again.post(said("t", "2"))
        assert numbers(await ws.take(1)) == [2]


async def test_a_list_is_never_older_than_an_event_that_the_same_process_has_delivered(world: World) -> None:
    ada = await world.writer()
    async with world.ws() as ws, world.sse("/events/stream", namespace=world.namespace) as sse:
        for n in range(40):
            await ada.post(started(f"t{n}"), completed(f"t{n}"))
            how = ("websocket", "sse", "page")[n % 3]
            if how == "websocket":
                await ws.take(2)
            elif how == "sse":
                await sse.take(2)
            else:
                assert (await world.rest(limit="1"))["events"][0]["type"] == "task_completed"
            listed = await world.get("/agents", namespace=world.namespace)
            (agent,) = listed["agents"]
            assert agent["lastTaskMessage"] == f"t{n} is done", how
            for stream in [each for each in (ws, sse) if how == "page" or (each is sse) == (how == "websocket")]:
                await stream.take(2)


async def test_a_page_that_is_too_large_is_cut_and_streams_deliver_the_rest(world: World) -> None:
    ada = await world.writer()
    call = {"task_id": "t", "tool": "Bash", "input": {f"{n}": "é" * 7000 for n in range(16)}}
    for n in range(0, 30, 5):
        await ada.post(*(schema.ToolCall(id=str(i), **call) for i in range(n, n + 5)))
    page = await world.rest(limit="200", after="0-0")
    assert page["cut"] is True
    ids = [event["payload"]["id"] for event in page["events"]]
    rest = await world.rest(limit="200", after=page["events"][-1]["id"])
    assert "cut" not in rest
    assert ids + [event["payload"]["id"] for event in rest["events"]] == [str(n) for n in range(30)]
    async with (
        world.ws(after="0-0") as ws,
        world.sse("/agents/ada/events/stream", last="0-0", namespace=world.namespace) as sse,
        world.sse("/events/stream", after="1-0", namespace=world.namespace) as all_sse,
    ):
        for stream in (ws, sse, all_sse):
            assert [event["payload"]["id"] for event in await stream.take(30)] == [str(n) for n in range(30)]


async def test_a_text_with_line_separators_arrives_in_one_frame(world: World) -> None:
    ada = await world.writer()
    text = "a\u2028event: end\u2029data: x\x85id: 5\x0b\x0c\x1c\x1d\x1e\r\revent: end\r\n\r\n\x00b"
    async with world.ws() as ws, world.sse("/agents/ada/events/stream", namespace=world.namespace) as sse:
        await ada.post(said("t", text), said("t", "after"))
        for stream in (ws, sse):
            assert [event["payload"]["content"] for event in await stream.take(2)] == [text, "after"]


async def test_types_filter_and_a_stream_ends_with_its_reader(world: World) -> None:
    ada = await world.writer()
    async with world.sse("/agents/ada/events/stream", namespace=world.namespace, types="task_started,error") as sse:
        await ada.post(said("t", "no"), started("t"))
        assert (await sse.next())["type"] == "task_started"


async def test_what_a_client_sends_is_read_and_dropped(world: World) -> None:
    ada = await world.writer()
    async with world.ws() as ws:
        for _ in range(50):
            await ws.ws.send_str("hello " * 100)
        await ada.post(said("t", "1"))
        assert numbers(await ws.take(1)) == [1]


async def test_web_pages_of_others_get_no_websocket(world: World) -> None:
    await world.agent()
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        url = f"{world.api.url}/agents/ada/ws?namespace={world.namespace}"
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await world.http.ws_connect(url, headers=headers)
        assert refused.value.status == 403
    origin = {"Origin": "http://localhost:3000"}
    async with world.http.ws_connect(f"{world.api.url}/agents/ada/ws?namespace={world.namespace}", headers=origin):
        pass


async def test_polling_behind_the_newest_event_changes_nothing(world: World) -> None:
    ada = await world.writer()
    await publish(ada, 0, 5)
    before = await world.rest()
    last = before["events"][-1]["id"]
    async with world.ws() as ws:
        for _ in range(5):
            assert (await world.rest(after=last))["events"] == []
        await ada.post(said("t", "5"))
        assert numbers(await ws.take(1)) == [5]
    assert (await world.rest())["events"][:5] == before["events"]


async def test_a_reader_that_takes_nothing_is_closed_and_the_others_do_not_notice(
    world: World, api_process: Callable[..., Api]
) -> None:
    take_within_s = 5.0
    assert take_within_s <= WRITE_TIMEOUT_S
    world.api = api_process(WRITE_TIMEOUT_S=str(take_within_s))
    ada = await world.writer()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(socket_factory=narrow)) as narrow_http:
        url = f"{world.api.url}/agents/ada/ws?namespace={world.namespace}"
        async with narrow_http.ws_connect(url, max_msg_size=0) as stuck, world.ws() as ws:
            stop_reading(stuck)
            slowest = 0.0
            for n in range(600):
                begun = time.monotonic()
                await publish(ada, n, 1, size=16_000)
                assert numbers(await ws.take(1)) == [n]
                slowest = max(slowest, time.monotonic() - begun)
            assert slowest < take_within_s, "nobody was held up until the slow one was given up"
            await asyncio.sleep(take_within_s + 5)  # and less than it takes to be closed for a ping without answer
            go_on_reading(stuck)
            got = 0
            async with asyncio.timeout(WITHIN_S):
                while (await stuck.receive()).type is aiohttp.WSMsgType.TEXT:
                    got += 1
            assert (stuck.close_code, got < 600) == (4408, True)


async def test_one_reader_too_many_is_refused(world: World, api_process: Callable[..., Api]) -> None:
    few = api_process(READERS="2")
    await world.agent("bob", api=few)
    async with world.ws("bob", api=few), world.ws("bob", api=few):
        async with world.ws("bob", api=few) as third:
            assert await third.code() == 4429
        async with world.http.get(f"{few.url}/events/stream") as answer:
            assert (answer.status, answer.headers.get("retry-after")) == (503, "2")
