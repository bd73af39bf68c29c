"""What a connector's server may tell of its tools, by real answers on loopback."""

import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from komputer.domain.addresses import AddressRules
from komputer.domain.errors import ServerFailed
from komputer.services.connectors import tools
from komputer.services.connectors.egress import EgressClient

RULES = AddressRules(loopback=True, own_ports=frozenset({6443}))


def offered(name: str, description: str = "") -> dict[str, Any]:
    return {"name": name, "description": description, "inputSchema": {"type": "object"}}


@asynccontextmanager
async def server(page: bytes, coding: str = "", *, as_stream: bool = False) -> AsyncIterator[tuple[str, list[str]]]:
    """An MCP server of the older generation whose every page of tools is `page`, with another after it. Its url, and
    with which method and for which coding it was asked."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(f"{request.method} {request.headers.get('accept-encoding')}")
        message = json.loads(await request.read() or b"{}")
        if "id" not in message:
            return web.Response(status=202 if message else 405)
        whole: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
        match message["method"]:
            case "initialize":
                who = {"name": "many", "version": "1"}
                whole["result"] = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": who}
            case "tools/list":
                text = json.dumps(whole | {"result": {"tools": ["page"], "nextCursor": "more"}}).encode()
                text = text.replace(b'"page"', page)
                if as_stream:
                    events = b"id: 1\ndata:\n\nid: 2\ndata: " + text + b"\n\n"
                    return web.Response(body=events, content_type="text/event-stream")
                if coding:
                    headers = {"content-encoding": coding}
                    return web.Response(body=gzip.compress(text), content_type="application/json", headers=headers)
                return web.Response(body=text, content_type="application/json")
            case _:
                whole["error"] = {"code": -32601, "message": "no such method"}
        return web.json_response(whole)

    app = web.Application(client_max_size=2**20)
    app.router.add_route("*", "/mcp", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/mcp", asked
    finally:
        await runner.cleanup()


@pytest.fixture
async def egress() -> AsyncIterator[EgressClient]:
    made = EgressClient(RULES)
    await made.start()
    yield made
    await made.close()


async def test_an_answer_that_is_compressed_is_refused_and_never_unpacked(egress: EgressClient) -> None:
    bomb = json.dumps(offered("bomb", "0" * 3 * 2**20)).encode()
    async with server(bomb, "gzip") as (url, asked):
        with pytest.raises(ServerFailed, match="compresses") as refused:
            await tools.tools_of(egress, url, None)
    assert refused.value.code == "mcp_protocol"
    assert set(asked) == {"POST identity"}


@pytest.mark.parametrize("as_stream", [False, True])
async def test_all_pages_together_may_be_so_long_and_no_longer(egress: EgressClient, *, as_stream: bool) -> None:
    page = json.dumps(offered("long", "0" * (tools.EXCHANGE_LIMIT_BYTES // 6))).encode()
    async with server(page, as_stream=as_stream) as (url, asked):
        with pytest.raises(ServerFailed, match="list of tools is larger than") as refused:
            await tools.tools_of(egress, url, None)
    assert refused.value.code == "mcp_protocol"
    assert len(asked) < 15
    assert set(asked) == {"POST identity"}, "it is not asked for the rest of a stream either"


async def test_a_short_text_of_very_many_values_is_not_parsed(egress: EgressClient) -> None:
    async with server(b",".join([b"{}"] * tools.VALUES_LIMIT)) as (url, _):
        with pytest.raises(ServerFailed, match="list of tools is larger than"):
            await tools.tools_of(egress, url, None)


async def test_of_many_tools_the_first_are_told_and_of_long_texts_the_beginning(egress: EgressClient) -> None:
    name, description = "n" * 2 * tools.NAME_LIMIT, "d" * 2 * tools.DESCRIPTION_LIMIT
    page = b",".join([json.dumps(offered(name, description)).encode()] + [json.dumps(offered("x")).encode()] * 600)
    async with server(page) as (url, asked):
        found = await tools.tools_of(egress, url, None)
    assert len(found) == tools.TOOLS_LIMIT
    assert found[0] == tools.OfferedTool(
        name=name[: tools.NAME_LIMIT], description=description[: tools.DESCRIPTION_LIMIT]
    )
    assert len(asked) < 10, "pages beyond the limit are not asked for"
