"""Connectors on one machine: agents that call the tools of a real MCP server through the gateway."""

from collections.abc import Iterator

import pytest

from tests.e2e.laptop import Json, Laptop, script
from tests.fixtures.mcp_servers import McpServer

TOKEN = "tok-made-up-0123456789abcdef"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[McpServer]:
    with McpServer(tmp_path_factory.mktemp("mcp"), f"authorization: Bearer {TOKEN}") as running:
        yield running


def make(laptop: Laptop, name: str, url: str, **fields: object) -> Json:
    answer = laptop.http.post("/connectors", json={"name": name, "service": "custom", "url": url, **fields})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def add(connector: str, a: int = 1, b: int = 2) -> Json:
    return {"tool": f"mcp__{connector}__add", "input": {"a": a, "b": b}}


def test_an_agent_calls_a_tool_of_a_connector_and_gets_its_answer(laptop: Laptop, server: McpServer) -> None:
    made = make(laptop, "sums", server.url, token=TOKEN)
    assert TOKEN not in str(made)
    laptop.assign("caller", script(add("sums", 20, 22), {"say": "done"}), connectors=["sums"])
    end = laptop.end("caller")
    result = laptop.event("caller", "tool_result")["payload"]
    assert result["tool"] == "mcp__sums__add"
    assert "sum=42" in result["output"]
    assert result["is_error"] is False
    assert end["type"] == "task_completed"
    assert {request["status"] for request in server.seen} == {200}, "the header was there at every request"
