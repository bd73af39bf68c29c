"""The published Python SDK, unmodified, as judge: every operation of ours that it knows, against a living platform."""

import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from komputer_ai.client import KomputerClient
from komputer_ai.exceptions import ApiException, BadRequestException, ConflictException, NotFoundException

from tests.e2e.platform import Platform, script, until


@pytest.fixture
def sdk(compat: Platform) -> Iterator[Any]:
    with KomputerClient(compat.url) as client:
        yield client


@pytest.fixture
def name() -> str:
    return f"sdk-{uuid4().hex[:8]}"


def idle(sdk: Any, name: str) -> Any:
    """The agent when its task is accounted."""

    def look() -> Any:
        agent = sdk.get_agent(name)
        return agent if agent.task_status == "Complete" and agent.total_cost_usd else None

    return until(look, f"{name} is done")


def test_an_agent_is_created_read_listed_and_deleted(sdk: Any, name: str) -> None:
    made = sdk.create_agent(name, script({"say": "Hello."}), model="claude-sonnet-4-6", role="worker")
    assert (made.name, made.namespace, made.status) == (name, "default", "Pending")
    done = idle(sdk, name)
    assert done.last_task_message == "Hello."
    assert float(done.total_cost_usd) > 0
    assert done.conditions
    listed = sdk.list_agents(q=name, sort="-createdAt", limit=5, offset=0)
    assert [agent.name for agent in listed.agents] == [name]
    assert listed.total == 1
    for key in ("created", "lastActive", "status", "model", "cost", "name"):
        assert [agent.name for agent in sdk.list_agents(q=name, sort=f"-{key}").agents] == [name]
    assert "default" in listed.facets.namespaces
    assert any(agent.name == name for agent in sdk.list_agents().agents)
    assert sdk.delete_agent(name) == {"status": "deleted", "name": name}
    with pytest.raises(NotFoundException):
        sdk.get_agent(name)
    sdk.create_agent(name, script({"say": "Again."}))
    assert idle(sdk, name).last_task_message == "Again."


def test_an_idle_agent_takes_the_next_task_and_a_busy_one_is_told_as_busy(sdk: Any, name: str) -> None:
    sdk.create_agent(name, script({"say": "One."}))
    idle(sdk, name)
    sdk.create_agent(name, script({"tool": "Bash", "input": {"command": "tail -f /dev/null"}}, {"say": "Never."}))
    with pytest.raises(ConflictException):  # its POST is answered 409, and the PATCH that it tries then as well
        sdk.create_agent(name, "Something else.")
    assert sdk.cancel_agent_task(name) == {"status": "cancelling", "name": name}
    until(lambda: sdk.get_agent(name).task_status == "Complete", "it is cancelled")
    with pytest.raises(ConflictException):
        sdk.cancel_agent_task(name)


def test_an_agent_is_changed(sdk: Any, name: str) -> None:
    sdk.create_agent(name, script({"say": "One."}))
    idle(sdk, name)
    changed = sdk.patch_agent(
        name,
        model="claude-haiku-4-5",
        system_prompt="Be brief.",
        labels={"team": "blue"},
        allowed_tools=["Bash", "Read"],
        disallowed_tools=["Bash(rm:*)"],
        effort="low",
    )
    assert (changed.model, changed.system_prompt, changed.labels) == ("claude-haiku-4-5", "Be brief.", {"team": "blue"})
    assert (changed.allowed_tools, changed.disallowed_tools) == (["Bash", "Read"], ["Bash(rm:*)"])
    assert changed.effort == "low"
    assert [agent.name for agent in sdk.list_agents(label=["team=blue"]).agents] == [name]
    assert sdk.patch_agent(name, remove_labels=["team"]).labels is None
    with pytest.raises(BadRequestException) as refused:
        sdk.patch_agent(name, connectors=["nobody"])
    assert "nobody" in str(refused.value.body)
    assert sdk.patch_agent(name, instructions=script({"say": "Two."})).task_status == "InProgress"
    until(lambda: sdk.get_agent(name).last_task_message == "Two.", "the second task")


def test_events_and_costs(sdk: Any, name: str) -> None:
    sdk.create_agent(name, script({"say": "One."}))
    idle(sdk, name)
    page = sdk.get_agent_events(name)
    assert [event["type"] for event in page["events"]] == ["task_started", "text", "task_completed"]
    first = page["events"][0]
    later = sdk.agents.get_agent_events(name, after=first["timestamp"], limit=1)
    assert [event["type"] for event in later["events"]] == ["text"]
    costs = sdk.get_agent_cost_breakdown(name, limit=10, events=True)
    assert (costs.agent, costs.task_count) == (name, 1)
    (task,) = costs.tasks
    assert task.cost_usd == pytest.approx(costs.total_cost)
    assert task.event_count == len(task.events) == 3


def test_a_watcher_sees_every_event_once_from_the_first_to_the_last(sdk: Any, name: str) -> None:
    steps = [{"tool": "Bash", "input": {"command": f"echo {n}"}} for n in range(10)]
    sdk.create_agent(name, script(*steps, {"say": "Done."}))
    seen = []
    with sdk.watch_agent(name) as events:
        for event in events:
            seen.append(event)
            if event.type == "task_completed":
                break
    kinds = [event.type for event in seen]
    assert kinds.count("tool_call") == kinds.count("tool_result") == 10
    assert (kinds[0], seen[-1].payload.result) == ("task_started", "Done.")
    stamps = [event.timestamp for event in seen]
    assert stamps == sorted(set(stamps))


def test_of_two_watchers_of_a_group_each_event_goes_to_one(sdk: Any, name: str) -> None:
    sdk.create_agent(name, script({"say": "One."}))
    idle(sdk, name)
    streams = [sdk.watch_agent(name, group="g") for _ in range(2)]
    live: list[tuple[int, str]] = []

    def read(n: int) -> None:
        for event in streams[n]:
            if event.timestamp > begun:
                live.append((n, f"{event.timestamp}:{event.type}"))

    begun = sdk.get_agent_events(name)["events"][-1]["timestamp"]
    threads = [threading.Thread(target=read, args=(n,), daemon=True) for n in range(2)]
    for thread in threads:
        thread.start()
    steps = [{"tool": "Bash", "input": {"command": f"echo {n}"}} for n in range(8)]
    sdk.create_agent(name, script(*steps, {"say": "Done."}))
    until(lambda: any(event.endswith("task_completed") for _, event in live), "the end reaches one of them")
    until(lambda: len(live) >= 19, "all of them arrive")
    assert len({event for _, event in live}) == len(live) == 19
    for stream in streams:
        stream.close()


def test_a_conversation_is_compacted(sdk: Any, name: str) -> None:
    sdk.create_agent(name, script({"say": "One."}))
    idle(sdk, name)
    assert sdk.compact_agent_task(name, instructions="Keep the names.") == {"status": "compacting", "name": name}

    def types() -> list[str]:
        return [event["type"] for event in sdk.get_agent_events(name)["events"]]

    until(lambda: types().count("task_completed") == 2, "the compaction ends")
    assert types().count("compaction") == 1


def test_secrets(sdk: Any, name: str) -> None:
    made = sdk.create_secret(name, {"token": "hunter-two"})
    assert (made.name, made.keys, made.managed) == (name, ["token"], True)
    assert sdk.create_secret(name, {"token": "hunter-three", "user": "me"}) is not None, "a 409 becomes an update"
    (found,) = [secret for secret in sdk.list_secrets().secrets if secret.name == name]
    assert found.keys == ["token", "user"]
    sdk.create_agent(name, script({"say": "One."}), secret_refs=[name])
    (found,) = [secret for secret in sdk.list_secrets().secrets if secret.name == name]
    assert (found.attached_agents, found.agent_names) == (1, [name])
    assert sdk.get_agent(name).secrets == [name]
    assert sdk.delete_secret(name)["status"] == "deleted"
    with pytest.raises(NotFoundException):
        sdk.delete_secret(name)


def test_connectors(sdk: Any, name: str) -> None:
    made = sdk.create_connector(name, "custom", "https://mcp.example.com/mcp", auth_type="none", display_name="Mine")
    assert (made.name, made.service, made.url, made.attached_agents) == (
        name,
        "custom",
        "https://mcp.example.com/mcp",
        0,
    )
    with pytest.raises(ConflictException):
        sdk.create_connector(name, "custom", "https://mcp.example.com/mcp")
    sdk.create_agent(name, script({"say": "One."}), connectors=[name])
    found = sdk.get_connector(name)
    assert (found.attached_agents, found.agent_names) == (1, [name])
    assert sdk.update_connector(name, disabled=True).disabled is True
    assert not sdk.update_connector(name, disabled=False).disabled
    assert any(connector["name"] == name for connector in sdk.list_connectors()["connectors"])
    assert any(template["service"] == "github" for template in sdk.list_connector_templates()["templates"])
    with pytest.raises(ApiException) as unreachable:
        sdk.list_connector_tools(name)
    assert unreachable.value.status == 502
    assert sdk.delete_connector(name)["status"] == "deleted"
    with pytest.raises(NotFoundException):
        sdk.get_connector(name)


def test_templates_and_namespaces(sdk: Any) -> None:
    assert {"name": "default", "scope": "cluster"} in sdk.list_templates()["templates"]
    assert "default" in sdk.list_namespaces()["namespaces"]


def test_what_is_not_there_yet_is_told_and_not_pretended(sdk: Any, name: str) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: sdk.create_agent(name, "x", lifecycle="Sleep"),
        lambda: sdk.create_agent(name, "x", budget_usd="1.00"),
        lambda: sdk.sleep_agent(name),
        lambda: sdk.list_squads(),
    ]
    for call, status in zip(calls, (400, 400, 404, 404), strict=True):
        with pytest.raises(ApiException) as refused:
            call()
        assert refused.value.status == status
