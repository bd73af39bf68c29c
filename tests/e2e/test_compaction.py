"""Compaction on request: a conversation becomes shorter and goes on."""

import pytest

from tests.e2e.platform import Platform, check_log, script, until


def test_a_conversation_is_compacted_and_goes_on(platform: Platform) -> None:
    platform.assign("long", script({"say": "One."}))
    first = platform.end("long")
    answer = platform.http.post("/agents/long/compact", json={"instructions": "keep\nthe names"})
    assert (answer.status_code, answer.json()) == (200, {"status": "compacting", "name": "long"})
    end = platform.end("long", 2)
    assert end["type"] == "task_completed", end
    assert end["payload"]["session_id"] == first["payload"]["session_id"]
    assert end["payload"]["cost_usd"] > 0
    events = platform.events("long")
    check_log(events)
    assert [e["type"] for e in events][3:] == ["task_started", "compaction", "task_completed"]
    start, compaction = events[3]["payload"], events[4]["payload"]
    assert (start["kind"], start["instructions"]) == ("compact", "/compact keep the names")
    assert "kind" not in events[0]["payload"]
    assert compaction["trigger"] == "manual"
    assert compaction["tokens_before"] > 0
    assert compaction["tokens_after"] > 0
    platform.settled("long", taskStatus="Complete", lastTaskOutcome="completed")
    platform.assign("long", script({"say": "Two."}))
    third = platform.end("long", 3)
    assert third["payload"]["result"] == "Two."
    assert third["payload"]["session_id"] == first["payload"]["session_id"]
    total = sum(e["payload"]["cost_usd"] for e in (first, end, third))
    until(
        lambda: float(platform.agent("long").get("totalCostUSD", 0)) == pytest.approx(total, abs=1e-9),
        "each cost is counted once",
    )


def test_an_agent_without_a_conversation_says_so(platform: Platform) -> None:
    platform.assign("mute", script({"say": "Never."}), templateRef="missing")
    busy = platform.http.post("/agents/mute/compact")
    assert (busy.status_code, busy.json()["code"]) == (409, "busy")
    assert platform.http.post("/agents/mute/cancel").status_code == 200
    platform.end("mute")
    refused = platform.http.post("/agents/mute/compact")
    assert (refused.status_code, refused.json()["code"]) == (409, "no_conversation")
    assert "no conversation yet" in refused.json()["error"]
    assert platform.http.post("/agents/nobody/compact").status_code == 404
    assert platform.http.post("/agents/mute/compact", json={"instructions": 1}).status_code == 400


def test_an_agent_shows_that_it_compacts_and_takes_no_message_then(platform: Platform) -> None:
    platform.assign("press", script({"say": "One."}))
    platform.end("press")
    platform.settled("press", lastTaskOutcome="completed")
    assert platform.http.post("/agents/press/compact").status_code == 200
    assert platform.agent("press")["taskStatus"] == "Compacting"
    answer = platform.http.post("/agents/press/messages", json={"content": "Hello?"})
    assert answer.status_code == 409
    platform.end("press", 2)


def test_a_compaction_survives_the_death_of_the_runtime(platform: Platform) -> None:
    platform.assign("vise", script({"say": "One."}))
    platform.end("vise")
    platform.settled("vise", lastTaskOutcome="completed")
    assert platform.http.post("/agents/vise/compact").status_code == 200
    platform.kill_runtime("vise")
    assert platform.end("vise", 2, within_s=90)["type"] == "task_completed"
    events = platform.events("vise")
    check_log(events)
    platform.assign("vise", script({"say": "Two."}))
    assert platform.end("vise", 3)["payload"]["result"] == "Two."
