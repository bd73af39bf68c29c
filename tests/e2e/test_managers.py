"""A manager and the agents that it makes: what it asks for comes back once, whatever dies meanwhile."""

import json
import signal
from typing import Any

import pytest

from tests.e2e.platform import Json, Platform, check_log, script, until


def call(tool: str, **given: Any) -> Json:
    return {"tool": f"mcp__komputer__{tool}", "input": given}


def results(platform: Platform, name: str, tool: str) -> list[Json]:
    """The manager's tool results, in order."""
    return [
        event["payload"]
        for event in platform.events(name)
        if event["type"] == "tool_result" and event["payload"]["tool"] == f"mcp__komputer__{tool}"
    ]


def answers(platform: Platform, name: str, tool: str) -> list[Any]:
    return [json.loads(result["output"]) for result in results(platform, name, tool)]


def work(seconds: float, say: str) -> str:
    return script({"tool": "Bash", "input": {"command": f"sleep {seconds}; echo slept"}}, {"say": say})


def test_a_manager_makes_two_workers_and_gets_both_results(platform: Platform) -> None:
    platform.assign(
        "boss",
        script(
            call("create_agent", name="boss-one", instructions=work(1, "One is done.")),
            call("create_agent", name="boss-two", instructions=script({"fail": 400, "times": 20, "message": "no"})),
            call("wait_for_agents", agents=["boss-one", "boss-two"]),
            {"say": "Both have ended."},
        ),
    )
    end = platform.end("boss", within_s=90)
    assert end["payload"].get("result") == "Both have ended.", end
    (waited,) = answers(platform, "boss", "wait_for_agents")
    made = answers(platform, "boss", "create_agent")
    assert [(each["agent"], each["task_id"]) for each in waited] == [(m["agent"], m["task_id"]) for m in made]
    assert (waited[0]["outcome"], waited[0]["result"]) == ("completed", "One is done.")
    assert (waited[1]["outcome"], waited[1]["code"]) == ("error", "model_invalid_request")
    child = platform.manifest("boss-one")
    assert child["metadata"]["labels"]["komputer.ai/office"] == "boss-office"
    assert child["spec"]["officeManager"] == "boss"
    assert child["spec"]["role"] == "worker"
    assert child["metadata"]["ownerReferences"][0]["uid"] == platform.manifest("boss")["metadata"]["uid"]
    for name in ("boss", "boss-one", "boss-two"):
        check_log(platform.events(name))
    assert platform.http.delete("/agents/boss").status_code == 200
    until(lambda: platform.http.get("/agents/boss-one").status_code == 404, "the workers go with their manager")


def test_a_manager_deletes_what_it_needs_no_longer(platform: Platform) -> None:
    platform.assign(
        "tidy",
        script(
            call("create_agent", name="tidy-one", instructions=script({"say": "Done."})),
            call("wait_for_agents", agents=["tidy-one"]),
            call("delete_agent", agent="tidy-one"),
            {"say": "Tidy."},
        ),
    )
    end = platform.end("tidy", within_s=90)
    assert end["payload"].get("result") == "Tidy.", end
    until(lambda: platform.http.get("/agents/tidy-one").status_code == 404, "it is gone")


def test_the_platform_is_killed_while_a_manager_waits(own_platform: Platform) -> None:
    own_platform.assign(
        "captain",
        script(
            call("create_agent", name="mate", instructions=work(4, "Mate is done.")),
            call("wait_for_agents", agents=["mate"]),
            call("wait_for_agents", agents=["mate"]),
            {"say": "All have ended."},
        ),
    )
    own_platform.event("captain", "tool_call", 2)
    own_platform.event("mate", "tool_call")
    own_platform.kill()
    own_platform.start()
    end = own_platform.end("captain", within_s=120)
    assert end["payload"].get("result") == "All have ended.", end
    found = answers(own_platform, "captain", "wait_for_agents")[-1]
    assert [(each["agent"], each["outcome"], each["result"]) for each in found] == [
        ("mate", "completed", "Mate is done.")
    ]
    for name in ("captain", "mate"):
        check_log(own_platform.events(name))
        assert [e["type"] for e in own_platform.events(name)].count("task_completed") == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_gateway_leaves_while_a_manager_waits_and_claude_does_not_notice(platform: Platform, number: int) -> None:
    boss, slow = f"patient-{number}", f"slow-{number}"
    platform.assign(
        boss,
        script(
            call("create_agent", name=slow, instructions=work(4, "Slow is done.")),
            call("wait_for_agents", agents=[slow]),
            {"say": "I waited once."},
        ),
    )
    platform.event(boss, "tool_call", 2)
    platform.event(slow, "tool_call")
    platform.kill_part("gateway", number)
    end = platform.end(boss, within_s=90)
    assert end["payload"].get("result") == "I waited once.", end
    ((found,),) = answers(platform, boss, "wait_for_agents")
    assert (found["outcome"], found["result"]) == ("completed", "Slow is done.")
    assert not any(e["type"] == "task_resumed" for e in platform.events(boss))


def test_a_cancelled_manager_takes_along_what_it_waits_for_and_nothing_else(platform: Platform) -> None:
    endless = script({"tool": "Bash", "input": {"command": "echo on; tail -f /dev/null"}}, {"say": "Never."})
    platform.assign("stranger", endless)
    platform.assign(
        "chief",
        script(
            call("create_agent", name="chief-hand", instructions=endless),
            call("wait_for_agents", agents=["chief-hand", "stranger"]),
            {"say": "Never."},
        ),
    )
    platform.event("chief", "tool_call", 2)
    for name in ("chief-hand", "stranger"):
        platform.event(name, "tool_call")
    assert platform.http.post("/agents/chief/cancel").status_code == 200
    assert platform.end("chief")["type"] == "task_cancelled"
    assert platform.end("chief-hand")["type"] == "task_cancelled"
    assert platform.agent("stranger")["taskStatus"] == "InProgress"
    assert platform.http.post("/agents/stranger/cancel").status_code == 200
    platform.end("stranger")


def test_the_task_that_was_asked_about_and_never_an_older_one(platform: Platform) -> None:
    platform.assign(
        "lead",
        script(
            call("create_agent", name="lead-hand", instructions=script({"say": "First."})),
            call("wait_for_agents", agents=["lead-hand"]),
            call("assign_task", agent="lead-hand", instructions=work(1, "Second.")),
            call("wait_for_agents", agents=["lead-hand"]),
            {"say": "Done."},
        ),
    )
    assert platform.end("lead", within_s=90)["payload"].get("result") == "Done."
    (first,), (second,) = answers(platform, "lead", "wait_for_agents")
    assert (first["result"], second["result"]) == ("First.", "Second.")
    assert second["task_id"] == answers(platform, "lead", "assign_task")[0]["task_id"] != first["task_id"]


def test_a_worker_has_no_tools_of_the_platform(platform: Platform) -> None:
    platform.assign("drone", script(call("list_agents"), {"say": "Done."}), role="worker")
    platform.end("drone")
    (refused,) = results(platform, "drone", "list_agents")
    assert refused["is_error"]
    assert "No such tool" in refused["output"]


def test_a_manager_acts_only_on_its_own_agents_and_within_limits(platform: Platform) -> None:
    platform.assign("outsider", script({"say": "Done."}), role="worker")
    platform.end("outsider")
    nested = script(
        call("create_agent", name="deep-three", instructions=script({"say": "Too deep."})), {"say": "Two ends."}
    )
    platform.assign(
        "deep",
        script(
            call("assign_task", agent="outsider", instructions="x"),
            call("cancel_task", agent="outsider"),
            call("delete_agent", agent="outsider"),
            call("create_agent", name="outsider", instructions="x"),
            call("create_agent", name="deep-one", instructions="x", connectors=["secrets"]),
            call("create_agent", name="Bad Name", instructions="x"),
            call(
                "create_agent",
                name="deep-one",
                role="manager",
                instructions=script(
                    call("create_agent", name="deep-two", role="manager", instructions=nested),
                    call("wait_for_agents", agents=["deep-two"]),
                    {"say": "One ends."},
                ),
            ),
            call("wait_for_agents", agents=["deep-one"]),
            call("list_connectors"),
            {"say": "All is said."},
        ),
    )
    assert platform.end("deep", within_s=120)["payload"].get("result") == "All is said."
    refusals = [
        e["payload"]["output"]
        for e in platform.events("deep")
        if e["type"] == "tool_result" and e["payload"]["is_error"]
    ]
    codes = ["not_your_agent", "not_your_agent", "not_your_agent", "exists", "not_yours_to_give", "invalid"]
    assert [text.rsplit("(", 1)[1].rstrip(")") for text in refusals] == codes
    (too_deep,) = results(platform, "deep-two", "create_agent")
    assert "too_deep" in too_deep["output"]
    assert platform.http.delete("/agents/deep").status_code == 200
    for name in ("deep-one", "deep-two"):
        until(lambda name=name: platform.http.get(f"/agents/{name}").status_code == 404, f"{name} goes")  # type: ignore[misc]
    assert platform.http.get("/agents/outsider").status_code == 200
