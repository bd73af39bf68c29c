"""One agent cannot take the memory or the places of all others."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.contract.gateway.serving import WITHIN_S
from tests.contract.gateway.world import Runner, World, asking
from tests.waiting import eventually

MIB = 2**20
MODEL = "/model/v1/messages"
CONNECTOR = "/connectors/git"


@pytest.fixture
async def ada(world: World) -> Runner:
    ada = await world.agent(connectors=["git"])
    await ada.start()
    return ada


@pytest.fixture
async def bob(world: World) -> Runner:
    bob = await world.agent("bob", connectors=["git"])
    await bob.start()
    return bob


@asynccontextmanager
async def slow(
    agent: Runner, path: str, sent: bytes = b"{", *, is_taken: bool = True
) -> AsyncIterator[asyncio.StreamReader]:
    """A request that tells of 8 MiB, sends a part of it, and then nothing more. Begins when that part was taken."""
    before = held_of(agent)
    address = urlsplit(agent.world.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    headers = {**await agent.authorization(), "host": "gateway", "content-length": str(8 * MIB)}
    writer.write(f"POST {path} HTTP/1.1\r\n".encode())
    writer.write("".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode() + b"\r\n" + sent)
    await writer.drain()
    if is_taken:
        await eventually(lambda: held_of(agent) == before + len(sent))
    try:
        yield reader
    finally:
        writer.close()
        await writer.wait_closed()


def held_of(agent: Runner) -> int:
    """Bytes of its requests."""
    return agent.world.gateway.parts.quotas.held_bytes._taken.get(agent.key.uid, 0)


async def status(reader: asyncio.StreamReader) -> int:
    async with asyncio.timeout(WITHIN_S):
        return int((await reader.readline()).split()[1])


def large(size: int = MIB) -> dict[str, Any]:
    return asking(messages=[{"role": "user", "content": "x" * size}])


async def of_the_model(agent: Runner, size: int = 10) -> httpx.Response:
    return await agent.ask(large(size))


async def of_a_connector(agent: Runner, size: int = 10) -> httpx.Response:
    """No connector of that name is there, which is told when the request was let in."""
    return await agent.post(CONNECTOR, {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"x": "x" * size}})


Ask = Callable[..., Coroutine[Any, Any, httpx.Response]]
BOTH = pytest.mark.parametrize(("path", "ask"), [(MODEL, of_the_model), (CONNECTOR, of_a_connector)])


def has_status(ask: Ask, agent: Runner, expected: int, *size: int) -> Callable[[], Coroutine[Any, Any, bool]]:
    async def holds() -> bool:
        return (await ask(agent, *size)).status_code == expected

    return holds


@pytest.mark.parametrize("limits", [{"max_model_requests_of_agent": 2, "max_connector_requests_of_agent": 2}])
@BOTH
async def test_an_agent_with_too_many_requests_under_way_is_told_before_its_next_is_read_and_no_other_is(
    ada: Runner, bob: Runner, path: str, ask: Ask
) -> None:
    async with slow(ada, path), slow(ada, path):
        assert (await ask(ada)).status_code == 429
        async with slow(ada, path, b"", is_taken=False) as reader:
            assert await status(reader) == 429
        refused = await ask(ada)
        assert (refused.headers["retry-after"], refused.json()["code"]) == ("2", "too_many_requests")
        if path == MODEL:
            assert refused.json()["error"]["type"] == "rate_limit_error"
        assert (await ask(bob)).status_code == 200
    await eventually(has_status(ask, ada, 200))


@pytest.mark.parametrize("limits", [{"max_model_requests_of_agent": 1}])
async def test_counting_tokens_is_a_request_of_the_model_too(ada: Runner) -> None:
    async with slow(ada, f"{MODEL}/count_tokens"):
        assert (await of_the_model(ada)).status_code == 429


@pytest.mark.parametrize("limits", [{"max_held_bytes_of_agent": 2 * MIB}])
@BOTH
async def test_an_agent_whose_bodies_are_too_large_together_is_told_so_and_no_other_is(
    ada: Runner, bob: Runner, path: str, ask: Ask
) -> None:
    async with slow(ada, path, b" " * (MIB + MIB // 2)):
        assert (await ask(ada, MIB)).status_code == 429
        assert (await ask(ada)).status_code == 200, "a small one passes"
        assert (await ask(bob, MIB)).status_code == 200
    await eventually(has_status(ask, ada, 200, MIB))


@pytest.mark.parametrize("limits", [{"max_held_bytes_of_agent": 2 * MIB}])
async def test_a_body_is_refused_as_soon_as_it_is_too_much(ada: Runner) -> None:
    async with slow(ada, MODEL, b" " * (2 * MIB + 1), is_taken=False) as reader:
        assert await status(reader) == 429


@pytest.mark.parametrize("limits", [{"max_held_bytes": 2 * MIB}])
async def test_a_gateway_that_holds_too_much_asks_to_come_again_and_what_is_left_goes_to_who_has_little(
    ada: Runner, bob: Runner
) -> None:
    async with slow(ada, CONNECTOR, b" " * (MIB - 1000)):
        assert (await of_the_model(bob, MIB)).status_code == 529
        refused = await of_the_model(bob, MIB)
        assert refused.headers["retry-after"] == "2"
        assert refused.json()["error"]["type"] == "overloaded_error"
        assert (await of_the_model(ada)).status_code == 200
        assert (await of_the_model(bob, MIB // 4)).status_code == 200
    await eventually(has_status(of_the_model, bob, 200, MIB - 1000))


@pytest.mark.parametrize("limits", [{"max_held_bytes": 2 * MIB}])
async def test_bodies_that_wait_for_a_model_keep_neither_events_nor_signs_of_life_waiting(
    ada: Runner, bob: Runner
) -> None:
    async with slow(ada, MODEL, b" " * (MIB - 1000)), slow(bob, MODEL, b" " * (MIB // 2)):
        assert (await of_the_model(bob, MIB // 2)).status_code == 529
        event = {"seq": bob.n + 1, "type": "text", "payload": {"task_id": bob.task, "content": "x" * (MIB // 16)}}
        assert (await bob.post("/v1/events", {"term": bob.term, "events": [event]})).status_code == 200
        assert (await bob.post("/v1/heartbeat", {"term": bob.term})).status_code == 200


@pytest.mark.parametrize("limits", [{"max_posted_bytes_of_agent": MIB}])
async def test_events_count_as_large_as_they_are_as_objects(ada: Runner) -> None:
    def said(size: int) -> dict[str, Any]:
        event = {"seq": ada.n + 1, "type": "text", "payload": {"task_id": ada.task, "content": "x" * size}}
        return {"term": ada.term, "events": [event]}

    refused = await ada.post("/v1/events", said(MIB // 4))
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
    assert (await ada.post("/v1/events", said(MIB // 16))).json() == {"answers": ["ok"]}


async def test_a_managers_call_has_its_limit(world: World) -> None:
    boss = await world.agent("boss", role="manager")
    await boss.start()
    params = {"name": "list_agents", "arguments": {}, "_meta": {"x": "x" * MIB}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    accept = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}
    refused = await boss.post("/komputer/mcp", body, **accept)
    assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")
    assert (await boss.post("/komputer/mcp", body.replace(b"x" * MIB, b"x"), **accept)).status_code == 200
