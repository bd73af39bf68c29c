"""Every operation of the REST API, answered for real and compared with the OpenAPI document without tolerance."""

import json
from typing import Any, get_args

import httpx
import pytest

from komputer.events import schema
from komputer.events.log import LogKey
from komputer.kube import AGENTS
from tests.contract.api.test_api import created, runtime, settled
from tests.contract.gateway.world import World
from tests.contract.log.events import Producer
from tests.fixtures.mcp_generations import TOKEN, new_mcp_server
from tests.fixtures.mcp_servers import McpServer
from tests.openapi import CONTRACT, DOCUMENT, Contract

__all__ = ["new_mcp_server"]

STREAMS = {"follow_agent", "follow_all"}
EVENTS: tuple[schema.Event, ...] = (
    schema.TaskStarted(task_id="t", instructions="x", resuming_session=True, model="m", kind="compact", session_id="s"),
    schema.TaskResumed(task_id="t", attempt=2, cause="restart"),
    schema.UserMessage(task_id="t", content="x", steer=True),
    schema.Thinking(task_id="t", content="x", truncated=True),
    schema.AgentText(task_id="t", content="x"),
    schema.ToolCall(task_id="t", id="1", tool="Bash", input={"command": "ls", "deep": [{"a": None}]}),
    schema.ToolResult(task_id="t", id="1", tool="Bash", input={}, output="x", is_error=False, duration_ms=1),
    schema.Compaction(task_id="t", trigger="auto", tokens_before=2, tokens_after=1),
    schema.Retry(task_id="t", attempt=1, max_retries=3, delay_ms=10, status=529),
    schema.TaskCompleted(
        task_id="t", result="x", cost_usd=0.25, duration_ms=1, turns=1, usage={"input_tokens": 1}, last_usage={"a": 1}
    ),
    schema.TaskCancelled(task_id="t2", reason="asked for"),
    schema.TaskFailed(task_id="t3", error="x", code="internal"),
)


async def of(world: World, name: str) -> dict[str, Any]:
    return await world.cluster.get(AGENTS, name, world.namespace)


async def test_every_operation_answers_as_documented(
    rest: httpx.AsyncClient, world: World, new_mcp_server: McpServer
) -> None:
    CONTRACT.answered.clear()
    for path in ("/healthz", "/readyz"):
        assert (await rest.get(rest.base_url.join(path))).is_success
    for path in ("/namespaces", "/templates", "/connector-templates", "/agents", "/connectors", "/secrets?all=true"):
        assert (await rest.get(path)).is_success, path
    # An agent that has everything that an agent may have.
    assert (await rest.post("/secrets", json={"name": "key", "data": {"a": "b"}})).status_code == 201
    assert (await rest.patch("/secrets/key", json={"data": {"a": "c"}, "typo": 1})).is_success
    full = {
        "name": "full",
        "instructions": "Say hello.",
        "systemPrompt": "Be brief.",
        "secretRefs": ["key"],
        "allowedTools": ["Bash"],
        "disallowedTools": ["Write"],
        "effort": "low",
        "labels": {"team": "blue"},
        "secrets": {"own": "value"},
        "mistyped": True,
    }
    connector = {"name": "git", "service": "custom", "url": new_mcp_server.url, "token": TOKEN, "mistyped": True}
    assert (await rest.post("/connectors", json=connector)).status_code == 201
    assert (await rest.get("/connectors/git/tools")).is_success
    assert (await rest.post("/agents", json=full | {"connectors": ["git"]})).status_code == 201
    assert (await rest.get("/connectors/git")).json()["agentNames"] == ["full"]
    assert (await rest.patch("/connectors/git", json={"displayName": "Git", "token": "other"})).is_success
    assert (await rest.get("/secrets")).json()["secrets"]
    assert (await rest.patch("/agents/full", json={"effort": "high", "mistyped": True})).json()["warnings"]
    # An agent in each state of its tasks.
    await created(rest)
    assert (await rest.get("/agents/ada")).json()["taskStatus"] == "InProgress"
    runner = await runtime(world)
    assert (await rest.post("/agents/ada/messages", json={"content": "Faster."})).status_code == 202
    assert (await rest.post("/agents/ada/cancel")).is_success
    await runner.end(session_id="s1")
    await settled(rest, taskStatus="Complete")
    assert (await rest.post("/agents/ada/compact", json={"instructions": "Keep names."})).is_success
    assert (await rest.get("/agents/ada")).json()["taskStatus"] == "Compacting"
    assert (await rest.get("/agents", params={"limit": 1})).json()["nextOffset"] == 1
    for query in ("events=true", ""):
        assert (await rest.get(f"/agents/ada/cost?{query}")).json()["taskCount"]
    assert (await rest.get("/agents/ada/events")).json()["events"]
    assert (await rest.delete("/connectors/git")).json()["agentNames"] == ["full"]
    for path in ("/secrets/key", "/agents/full", "/agents/ada"):
        assert (await rest.delete(path)).is_success
    succeeded = {operation for operation, status in CONTRACT.answered if status < 300}
    assert CONTRACT.operations() - STREAMS == succeeded


async def test_events_of_every_type_are_documented(rest: httpx.AsyncClient, world: World) -> None:
    await created(rest)
    writer = Producer(world.log, LogKey(world.namespace, "ada", (await of(world, "ada"))["metadata"]["uid"]))
    await writer.hello()
    assert set(await writer.post(*EVENTS)) == {"ok"}
    events = (await rest.get("/agents/ada/events")).json()["events"]
    assert {event["type"] for event in events} == schema.TYPES
    async with rest.stream("GET", "/agents/ada/events/stream", params={"after": "0-0"}) as stream:
        followed: list[Any] = []
        async for line in stream.aiter_lines():
            if line.startswith("data: "):
                followed.append(json.loads(line.removeprefix("data: ")))
                CONTRACT.check_event(followed[-1])
            if len(followed) == len(events):
                break
    assert followed == events


def test_the_events_here_are_of_every_type() -> None:
    assert {type(event) for event in EVENTS} == set(get_args(schema.Event))


@pytest.mark.parametrize("schema_name", ["AgentResponse", "EventBody", "ErrorBody"])
def test_an_undocumented_field_is_found(schema_name: str) -> None:
    """The check itself can fail: what it accepts is refused with one field more."""
    contract = Contract(DOCUMENT)
    agent: dict[str, Any] = {
        "name": "a",
        "namespace": "n",
        "model": "m",
        "status": "Running",
        "createdAt": "",
        "priority": 0,
    }
    event: dict[str, Any] = {
        "id": "1-0",
        "agentName": "a",
        "namespace": "n",
        "type": "text",
        "timestamp": "",
        "payload": {},
    }
    event["payload"] = {"task_id": "t", "content": "x"}
    cases: dict[str, tuple[str, str, int, dict[str, Any]]] = {
        "AgentResponse": ("GET", "/api/v1/agents/a", 200, agent),
        "EventBody": ("GET", "/api/v1/agents/a/events", 200, {"agent": "a", "events": [event]}),
        "ErrorBody": ("GET", "/api/v1/agents/a", 404, {"error": "x", "code": "y"}),
    }
    method, path, status, body = cases[schema_name]

    def check(more: dict[str, Any]) -> None:
        contract.check(method, path, status, "application/json", json.dumps(body | more).encode())

    check({})
    with pytest.raises(AssertionError, match="is not as documented"):
        check({"more": 1})
    if schema_name == "EventBody":
        event["payload"] = {"task_id": "t", "content": "x", "more": 1}
        with pytest.raises(AssertionError, match="is not as documented"):
            check({})
