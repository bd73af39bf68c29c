"""Compacting the conversation of an agent, on one machine."""

from collections.abc import Callable

from tests.e2e.laptop import Json, Laptop, check_log, script, until


def compact(laptop: Laptop, name: str, **body: str) -> None:
    answer = laptop.http.post(f"/agents/{name}/compact", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"status": "compacting", "name": name}


def of_kind(laptop: Laptop, name: str, kind: str) -> list[Json]:
    return [event["payload"] for event in laptop.events(name) if event["type"] == kind]


def test_a_conversation_is_compacted_and_goes_on(laptop: Laptop) -> None:
    name = "talkative"
    laptop.assign(name, script({"say": "A long story."}))
    laptop.end(name)
    before_usd = until(lambda: laptop.agent(name).get("totalCostUSD"), "the cost is accounted")
    compact(laptop, name, instructions="Keep the names.")
    end = laptop.end(name, 2)
    assert end["type"] == "task_completed"
    (compaction,) = of_kind(laptop, name, "compaction")
    assert compaction["trigger"] == "manual"
    assert end["payload"]["result"].startswith(f"Compacted the conversation from {compaction['tokens_before']} to ")
    done = laptop.settled(name, taskStatus="Complete", lastTaskOutcome="completed")
    until(lambda: float(laptop.agent(name)["totalCostUSD"]) > float(before_usd), "the compaction's cost is accounted")
    assert done["lastTaskMessage"].startswith("Compacted the conversation")
    laptop.assign(name, script({"say": "And on."}))
    last = laptop.end(name, 3)
    assert (last["payload"]["result"], last["payload"]["session_id"]) == ("And on.", end["payload"]["session_id"])
    check_log(laptop.events(name))


def test_while_a_task_runs_a_compaction_is_refused_and_nothing_is_changed(laptop: Laptop) -> None:
    name = "occupied"
    laptop.assign(name, script({"tool": "Bash", "input": {"command": "sleep 2; echo x"}}, {"say": "Done."}))
    laptop.event(name, "tool_call")
    answer = laptop.http.post(f"/agents/{name}/compact")
    assert (answer.status_code, answer.json()["code"]) == (409, "busy")
    assert laptop.end(name)["payload"]["result"] == "Done."
    assert laptop.http.post("/agents/nobody/compact").status_code == 404


def test_an_agent_is_compacting_until_the_end_and_takes_no_messages(new_laptop: Callable[..., Laptop]) -> None:
    laptop, name = new_laptop(), "patient"
    laptop.assign(name, script({"say": "A long story."}))
    laptop.end(name)
    until(lambda: laptop.agent(name).get("totalCostUSD"), "accounted")
    laptop.part("model").suspend()
    try:
        compact(laptop, name)
        laptop.event(name, "task_started", 2)
        assert laptop.settled(name, taskStatus="Compacting")["taskStatus"] == "Compacting"
        answer = laptop.http.post(f"/agents/{name}/messages", json={"content": "Hello?"})
        assert (answer.status_code, answer.json()["code"]) == (409, "compacting")
        (cli,) = until(lambda: laptop.agent_processes("_bundled/claude"), "Claude runs")
        cli.kill()
    finally:
        laptop.part("model").resume()
    end = laptop.end(name, 2)
    assert end["type"] == "task_completed"
    assert len(of_kind(laptop, name, "compaction")) == 1
    check_log(laptop.events(name))
