"""Compaction on request: a conversation becomes shorter and goes on."""

import pytest

from tests.e2e.laptop import Laptop, check_log, script, until
from tests.e2e.test_crashes import in_agent


def test_a_conversation_is_compacted_and_goes_on(laptop: Laptop) -> None:
    laptop.assign("long", script({"say": "One."}))
    first = laptop.end("long")
    answer = laptop.http.post("/agents/long/compact", json={"instructions": "keep\nthe names"})
    assert (answer.status_code, answer.json()) == (200, {"status": "compacting", "name": "long"})
    end = laptop.end("long", 2)
    assert end["type"] == "task_completed", end
    assert end["payload"]["session_id"] == first["payload"]["session_id"]
    assert end["payload"]["cost_usd"] > 0
    events = laptop.events("long")
    check_log(events)
    assert [e["type"] for e in events][3:] == ["task_started", "compaction", "task_completed"]
    start, compaction = events[3]["payload"], events[4]["payload"]
    assert (start["kind"], start["instructions"]) == ("compact", "/compact keep the names")
    assert "kind" not in events[0]["payload"]
    assert compaction["trigger"] == "manual"
    assert compaction["tokens_before"] > 0
    assert compaction["tokens_after"] > 0
    laptop.settled("long", taskStatus="Complete", lastTaskOutcome="completed")
    laptop.assign("long", script({"say": "Two."}))
    third = laptop.end("long", 3)
    assert third["payload"]["result"] == "Two."
    assert third["payload"]["session_id"] == first["payload"]["session_id"]
    total = sum(e["payload"]["cost_usd"] for e in (first, end, third))
    until(
        lambda: float(laptop.agent("long").get("totalCostUSD", 0)) == pytest.approx(total, abs=1e-9),
        "each cost is counted once",
    )


def test_an_agent_without_a_conversation_says_so(laptop: Laptop) -> None:
    laptop.assign("mute", script({"say": "Never."}), templateRef="missing")
    busy = laptop.http.post("/agents/mute/compact")
    assert (busy.status_code, busy.json()["code"]) == (409, "busy")
    assert laptop.http.post("/agents/mute/cancel").status_code == 200
    laptop.end("mute")
    refused = laptop.http.post("/agents/mute/compact")
    assert (refused.status_code, refused.json()["code"]) == (409, "no-conversation")
    assert "no conversation yet" in refused.json()["error"]
    assert laptop.http.post("/agents/nobody/compact").status_code == 404
    assert laptop.http.post("/agents/mute/compact", json={"instructions": 1}).status_code == 400


def test_an_agent_shows_that_it_compacts_and_takes_no_message_then(laptop: Laptop) -> None:
    laptop.assign("press", script({"say": "One."}))
    laptop.end("press")
    laptop.settled("press", lastTaskOutcome="completed")
    assert laptop.http.post("/agents/press/compact").status_code == 200
    assert laptop.agent("press")["taskStatus"] == "Compacting"
    answer = laptop.http.post("/agents/press/messages", json={"content": "Hello?"})
    assert answer.status_code == 409
    laptop.end("press", 2)


def test_a_compaction_survives_the_death_of_the_runtime(laptop: Laptop) -> None:
    laptop.assign("vise", script({"say": "One."}))
    laptop.end("vise")
    laptop.settled("vise", lastTaskOutcome="completed")
    assert laptop.http.post("/agents/vise/compact").status_code == 200
    for process in laptop.agent_processes("komputer.runtime"):
        if in_agent(laptop, process, "vise"):
            process.kill()
    assert laptop.end("vise", 2, within_s=90)["type"] == "task_completed"
    events = laptop.events("vise")
    check_log(events)
    laptop.assign("vise", script({"say": "Two."}))
    assert laptop.end("vise", 3)["payload"]["result"] == "Two."
