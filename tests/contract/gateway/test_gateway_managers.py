"""The MCP server `komputer` at the gateway's border: who gets in, and what a repeated call does."""

import asyncio
import json
from typing import Any

from komputer.kube import AGENTS
from tests.contract.gateway.serving import WITHIN_S
from tests.contract.gateway.world import Runner, World

VERSION = "2025-06-18"


async def call(runner: Runner, tool: str, use: str = "toolu_1", **given: Any) -> tuple[int, Any]:
    """The status, and the tool's answer or the refusal."""
    params = {"name": tool, "arguments": given, "_meta": {"claudecode/toolUseId": use}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {"accept": "application/json, text/event-stream", "mcp-protocol-version": VERSION}
    answer = await runner.post("/komputer/mcp", body, **headers)
    if answer.status_code != 200:
        return answer.status_code, answer.json()
    data = [line[5:] for line in answer.text.splitlines() if line.startswith("data:")]
    message = json.loads(data[-1] if data else answer.text)
    return 200, message["result"]


async def test_only_a_manager_with_an_open_task_gets_in(world: World) -> None:
    worker = await world.agent("drone", role="worker")
    await worker.start()
    status, refused = await call(worker, "list_agents")
    assert (status, refused["code"]) == (403, "not_a_manager")
    boss = await world.agent("boss", role="manager")
    assert (await call(boss, "list_agents"))[0] == 503, "its task is not open yet"
    await boss.start()
    assert (await call(boss, "list_agents"))[0] == 200
    await boss.end()
    await world.patch_status("boss", endedTasks=[boss.task])
    status, refused = await call(boss, "list_agents")
    assert (status, refused["code"]) == (403, "no_open_task")
    boss.token = "x"
    assert (await call(boss, "list_agents"))[0] == 401


async def test_the_same_call_again_makes_one_agent_and_one_task(world: World) -> None:
    boss = await world.agent("boss", role="manager")
    await boss.start()
    given = {"name": "hand", "instructions": "Count."}
    answers = await asyncio.gather(*(call(boss, "create_agent", **given) for _ in range(4)))
    told = {json.loads(answer["content"][0]["text"])["task_id"] for _, answer in answers}
    assert len(told) == 1
    hand = await world.cluster.get(AGENTS, "hand", world.namespace)
    assert hand["spec"]["task"]["id"] == told.pop()
    assert hand["spec"]["task"]["managerTaskID"] == boss.task
    _, other = await call(boss, "create_agent", "toolu_2", **given)
    assert other["isError"]
    assert "exists" in other["content"][0]["text"]
    task = hand["spec"]["task"]["id"]
    await world.patch_status("hand", endedTasks=[task], manifestTask={"digest": "0" * 32, "id": task})
    _, again = await call(boss, "create_agent", **given)
    assert json.loads(again["content"][0]["text"])["task_id"] == task, "also when the task has ended"


async def test_no_manager_reaches_another_namespace_or_makes_more_than_it_may(world: World) -> None:
    boss = await world.agent("boss", role="manager")
    await boss.start()
    for n in range(10):
        _, made = await call(boss, "create_agent", f"toolu_{n}", name=f"hand-{n}", instructions="Count.")
        assert not made.get("isError"), made
    _, refused = await call(boss, "create_agent", "toolu_x", name="hand-x", instructions="Count.")
    assert refused["isError"]
    assert "too_many_agents" in refused["content"][0]["text"]
    _, listed = await call(boss, "list_agents")
    names = {each["name"] for each in json.loads(listed["content"][0]["text"])}
    assert names == {"boss", *(f"hand-{n}" for n in range(10))}


async def test_a_wait_tells_how_it_goes_on_and_ends_with_the_task_that_was_asked_about(world: World) -> None:
    boss = await world.agent("boss", role="manager")
    await boss.start()
    await call(boss, "create_agent", name="hand", instructions="Count.")
    manifest = await world.cluster.get(AGENTS, "hand", world.namespace)
    hand = Runner(world, manifest, await world.pod(manifest), manifest["spec"]["task"]["id"])
    await hand.start()
    params = {
        "name": "wait_for_agents",
        "arguments": {"agents": [{"agent": "hand", "task_id": hand.task}]},
        "_meta": {"progressToken": "p1"},
    }
    body = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
    accept = {"accept": "application/json, text/event-stream", "mcp-protocol-version": VERSION}
    headers = {**await boss.authorization(), **accept}
    said: list[dict[str, Any]] = []
    url = world.url + "/komputer/mcp"
    async with asyncio.timeout(WITHIN_S), world.http.stream("POST", url, json=body, headers=headers) as answer:
        async for line in answer.aiter_lines():
            if not line.startswith("data:") or not line[5:].strip():
                continue
            said.append(json.loads(line[5:]))
            if len(said) == 1:
                await hand.end()
    assert said[0]["method"] == "notifications/progress"
    assert "waiting for hand" in said[0]["params"]["message"]
    (report,) = json.loads(said[-1]["result"]["content"][0]["text"])
    assert (report["outcome"], report["result"], report["task_id"]) == ("completed", "Hello.", hand.task)
    _, unknown = await call(boss, "wait_for_agents", agents=[{"agent": "hand", "task_id": boss.task}])
    assert "no_such_task" in unknown["content"][0]["text"]
