"""What the gateway adds to a model request and to an MCP call: each with and without it, one after another."""

import asyncio
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import httpx2
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

from benchmarks.measures import Row, milliseconds
from tests.e2e.laptop import Laptop
from tests.e2e.platform import script, until
from tests.fixtures.mcp_servers import McpServer

WAITS = script({"tool": "Bash", "input": {"command": "tail -f /dev/null"}})
QUESTION = {"model": "claude-sonnet-4-6", "max_tokens": 10, "messages": [{"role": "user", "content": "Hello."}]}


def open_task(laptop: Laptop, name: str, **fields: Any) -> dict[str, str]:
    """An agent in the middle of a task. The answer is its pod's authorization."""
    laptop.assign(name, WAITS, **fields)
    laptop.event(name, "tool_call")
    uid = laptop.manifest(name)["metadata"]["uid"]
    (token,) = until(
        lambda: [
            path
            for path in (laptop.data_dir / "pods").glob("*/volumes/komputer-token/token")
            if uid in _owner(laptop, path.parents[2].name)
        ],
        "its pod's token",
    )
    return {"authorization": f"Bearer {token.read_text().strip()}"}


def _owner(laptop: Laptop, pod_uid: str) -> str:
    pods = (laptop.kubernetes("GET", "/api/v1/pods") or {})["items"]
    return next(
        (json.dumps(pod["metadata"]["ownerReferences"]) for pod in pods if pod["metadata"]["uid"] == pod_uid), ""
    )


def one_after_another(ask: Callable[[], httpx.Response], times: int) -> list[float]:
    """Seconds of each, the first ten left out."""
    found = []
    for _ in range(times + 10):
        begun = time.perf_counter()
        answer = ask()
        found.append(time.perf_counter() - begun)
        assert answer.status_code == 200, answer.text
    return found[10:]


def model(laptop: Laptop, times: int) -> list[Row]:
    token = open_task(laptop, "asks")
    with httpx.Client(trust_env=False, timeout=30) as client:
        straight = f"{laptop.address('model')}/v1/messages"
        through = f"{laptop.address('gateway')}/model/v1/messages"
        direct = one_after_another(lambda: client.post(straight, json=QUESTION), times)
        passed = one_after_another(lambda: client.post(through, json=QUESTION, headers=token), times)
    laptop.http.delete("/agents/asks")
    return [
        Row("a model request, straight to the offline model", milliseconds(direct), ""),
        Row("the same through the gateway", milliseconds(passed), ""),
        added(direct, passed),
    ]


def added(direct: list[float], passed: list[float]) -> Row:
    over = statistics.median(passed) - statistics.median(direct)
    return Row("the gateway adds (medians)", f"{over * 1000:.1f} ms", "p50 < 3 ms")


def connector(laptop: Laptop, folder: Path, times: int) -> list[Row]:
    """Calls of a real MCP server's tool, by the MCP SDK's client."""
    with McpServer(folder) as server:
        made = {"name": "adder", "service": "custom", "url": server.url, "authType": "none"}
        laptop.http.post("/connectors", json=made).raise_for_status()
        token = open_task(laptop, "calls", connectors=["adder"])
        direct = asyncio.run(calls(server.url, {}, times))
        passed = asyncio.run(calls(f"{laptop.address('gateway')}/connectors/adder", token, times))
    laptop.http.delete("/agents/calls")
    laptop.http.delete("/connectors/adder")
    return [
        Row("a tool call, straight to the MCP server", milliseconds(direct), ""),
        Row("the same through the gateway", milliseconds(passed), ""),
        added(direct, passed),
    ]


async def calls(url: str, headers: dict[str, str], times: int) -> list[float]:
    """Seconds of each, the first ten left out."""
    found = []
    async with (
        httpx2.AsyncClient(headers=headers, timeout=30, trust_env=False) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        for _ in range(times + 10):
            begun = time.perf_counter()
            answer = await client.call_tool("add", {"a": 20, "b": 22})
            found.append(time.perf_counter() - begun)
            assert not answer.is_error
    return found[10:]
