"""Agents at work on one machine, over REST: the ordered examples, and what a client relies on."""

import re
from concurrent.futures import ThreadPoolExecutor

from tests.e2e.platform import Json, Platform, check_log, script, until


def test_a_new_agent_is_answered_201_and_starts_at_once(platform: Platform) -> None:
    answer = platform.post("first", script({"say": "Hello from the first."}))
    assert answer.status_code == 201
    body = answer.json()
    assert body.keys() == {"name", "namespace", "model", "status", "createdAt"}
    assert body["name"] == "first"
    assert body["namespace"] == "default"
    assert body["model"] == "claude-sonnet-4-6"
    assert body["status"] == "Pending"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", body["createdAt"])
    end = platform.end("first")
    assert end["type"] == "task_completed"
    assert end["payload"]["result"] == "Hello from the first."
    assert {"cost_usd", "duration_ms", "turns", "stop_reason", "session_id", "usage", "model"} <= end["payload"].keys()
    started = platform.event("first", "task_started")
    assert "Hello from the first." in started["payload"]["instructions"]
    assert started["payload"]["resuming_session"] is False
    assert started.keys() == {"id", "agentName", "namespace", "type", "timestamp", "payload"}
    check_log(platform.events("first"))


def test_the_status_and_the_last_message_follow_the_task(platform: Platform) -> None:
    platform.assign("watched", script({"tool": "Bash", "input": {"command": "sleep 10; echo done"}}, {"say": "So."}))
    platform.event("watched", "tool_call")
    busy = platform.agent("watched")
    assert busy["status"] == "Running"
    assert busy["taskStatus"] == "InProgress"
    assert busy["lastTaskMessage"] == "Calling Bash: sleep 10; echo done"
    listed = platform.http.get("/agents", params={"namespace": "default"}).json()["agents"]
    assert any(agent["name"] == "watched" and agent["taskStatus"] == "InProgress" for agent in listed)
    platform.end("watched")
    done = platform.settled("watched", taskStatus="Complete", lastTaskOutcome="completed")
    assert done["lastTaskMessage"] == "So."
    result = platform.event("watched", "tool_result")["payload"]
    call = platform.event("watched", "tool_call")["payload"]
    assert result["id"] == call["id"]
    assert result["output"].strip() == "done"
    assert result["is_error"] is False
    assert result["duration_ms"] >= 9000
    until(lambda: platform.agent("watched").get("totalCostUSD"), "the cost is accounted")
    assert re.fullmatch(r"\d+\.\d{4,}", platform.agent("watched")["totalCostUSD"])


def test_a_busy_agent_answers_409_and_an_idle_one_takes_the_next_task(platform: Platform) -> None:
    platform.assign("worker", script({"tool": "Bash", "input": {"command": "sleep 1; echo one"}}, {"say": "One."}))
    platform.event("worker", "task_started")
    refused = platform.post("worker", "something else")
    assert refused.status_code == 409
    assert refused.json()["code"] == "busy"
    first = platform.end("worker", 1)
    taken = platform.post("worker", script({"say": "Two."}))
    assert taken.status_code == 200, "right after task_completed was read a task is always accepted"
    second = platform.end("worker", 2)
    assert second["payload"]["result"] == "Two."
    assert second["payload"]["session_id"] == first["payload"]["session_id"]
    assert platform.event("worker", "task_started", 2)["payload"]["resuming_session"] is True
    check_log(platform.events("worker"))


def test_of_twenty_simultaneous_posts_exactly_one_is_accepted(platform: Platform) -> None:
    platform.assign("crowded", script({"say": "Ready."}))
    platform.end("crowded")
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda n: platform.post("crowded", script({"say": f"I am {n}."})), range(20)))
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [200] + [409] * 19
    platform.end("crowded", 2)
    check_log(platform.events("crowded"))
    assert len([e for e in platform.events("crowded") if e["type"] == "task_started"]) == 2


def test_two_agents_work_at_once_and_share_nothing(platform: Platform) -> None:
    for name in ("left", "right"):
        steps: list[Json] = [
            {"tool": "Bash", "input": {"command": f"echo {name} > mine.txt; sleep 0.5; cat mine.txt; ls"}},
            {"say": name},
        ]
        platform.assign(name, script(*steps))
    for name in ("left", "right"):
        assert platform.end(name)["payload"]["result"] == name
        assert platform.event(name, "tool_result")["payload"]["output"].split() == [name, "mine.txt"]


def test_agents_of_one_name_in_two_namespaces_share_nothing(platform: Platform) -> None:
    for namespace in ("team-a", "team-b"):
        platform.assign("twin", script({"say": f"I am of {namespace}."}), namespace=namespace)
    for namespace in ("team-a", "team-b"):
        until(
            lambda ns=namespace: [e for e in platform.events("twin", ns) if e["type"] == "task_completed"],  # type: ignore[misc]
            f"end of {namespace}/twin",
        )
        results = [e["payload"]["result"] for e in platform.events("twin", namespace) if e["type"] == "task_completed"]
        assert results == [f"I am of {namespace}."]
    assert platform.http.get("/agents/twin").status_code == 404


def test_files_and_the_conversation_persist_from_task_to_task(platform: Platform) -> None:
    platform.assign(
        "keeper",
        script({"tool": "Write", "input": {"file_path": "/workspace/note.txt", "content": "kept"}}, {"say": "ok"}),
    )
    platform.end("keeper")
    platform.assign(
        "keeper", script({"tool": "Bash", "input": {"command": "cat /workspace/note.txt"}}, {"say": "read"})
    )
    platform.end("keeper", 2)
    assert platform.event("keeper", "tool_result", 2)["payload"]["output"].strip() == "kept"


def test_cancel_in_the_middle_of_a_tool_keeps_session_pod_and_cost(platform: Platform) -> None:
    platform.assign("stopped", script({"tool": "Bash", "input": {"command": "tail -f /dev/null"}}, {"say": "never"}))
    platform.event("stopped", "tool_call")
    pod = platform.manifest("stopped")["status"]["podName"]
    answer = platform.http.post("/agents/stopped/cancel")
    assert (answer.status_code, answer.json()) == (200, {"status": "cancelling", "name": "stopped"})
    end = platform.end("stopped")
    assert end["type"] == "task_cancelled"
    assert end["payload"]["cost_usd"] > 0
    settled = platform.settled("stopped", taskStatus="Complete", lastTaskOutcome="cancelled")
    assert platform.http.post("/agents/stopped/cancel").status_code == 409
    until(lambda: not platform.agent_processes("tail -f /dev/null", "stopped"), "its tool is gone")
    platform.assign("stopped", script({"say": "Again."}))
    second = platform.end("stopped", 2)
    assert second["payload"]["session_id"] == end["payload"]["session_id"]
    assert platform.manifest("stopped")["status"]["podName"] == pod
    assert settled["name"] == "stopped"
    check_log(platform.events("stopped"))


def test_cancel_in_the_middle_of_the_models_words_ends_the_task(platform: Platform) -> None:
    platform.assign("talker", script({"say": "I begin"}, {"wait": 60}, {"say": "and never end"}))
    platform.event("talker", "task_started")
    until(lambda: platform.http.post("/agents/talker/cancel").status_code == 200, "cancel")
    end = platform.end("talker", within_s=20)
    assert end["type"] == "task_cancelled"
    check_log(platform.events("talker"))


def test_the_models_errors_have_codes_that_a_client_can_act_on(platform: Platform) -> None:
    platform.assign("refused", script({"fail": 403, "times": 50}, {"say": "never"}))
    end = platform.end("refused")
    assert (end["type"], end["payload"]["code"]) == ("error", "model_forbidden")
    platform.settled("refused", taskStatus="Error", lastTaskOutcome="error")
    platform.assign("retried", script({"fail": 529, "times": 1}, {"say": "At last."}))
    assert platform.end("retried")["payload"]["result"] == "At last."
    assert platform.event("retried", "retry")["payload"]["status"] == 529


def test_a_deleted_agent_leaves_no_process_file_or_event(platform: Platform) -> None:
    platform.assign("doomed", script({"tool": "Bash", "input": {"command": "tail -f /dev/null"}}))
    platform.event("doomed", "tool_call")
    uid = platform.manifest("doomed")["metadata"]["uid"]
    answer = platform.http.delete("/agents/doomed")
    assert (answer.status_code, answer.json()) == (200, {"status": "deleted", "name": "doomed"})
    assert platform.http.get("/agents/doomed").status_code == 404
    assert platform.http.get("/agents/doomed/events").status_code == 404
    until(lambda: platform.workspace("doomed") is None, "its disk is gone")
    until(lambda: not platform.agent_processes("tail -f /dev/null"), "its processes are gone")
    platform.assign("doomed", script({"say": "I am new."}))
    end = platform.end("doomed")
    assert end["payload"]["result"] == "I am new."
    assert platform.manifest("doomed")["metadata"]["uid"] != uid
    assert [e["type"] for e in platform.events("doomed")].count("task_started") == 1


def test_an_agent_of_a_bad_request_is_never_made(platform: Platform) -> None:
    wrong = [
        ({}, "name"),
        ({"name": "a"}, "instructions"),
        ({"name": "Ünicode", "instructions": "x"}, "name"),
        ({"name": "-a", "instructions": "x"}, "name"),
        ({"name": "a" * 64, "instructions": "x"}, "name"),
        ({"name": "bad", "instructions": 5}, "instructions"),
        ({"name": "bad", "instructions": "  "}, "instructions"),
        ({"name": "bad", "instructions": "x", "role": "king"}, "role"),
        ({"name": "bad", "instructions": "x", "model": "no model"}, "model"),
        ({"name": "bad", "instructions": "x", "connectors": ["nope"]}, "nope"),
        ({"name": "bad", "instructions": "x", "lifecycle": "Sleep"}, "lifecycle"),
        ({"name": "bad", "instructions": "x", "namespace": "No"}, "namespace"),
    ]
    for body, named in wrong:
        answer = platform.http.post("/agents", json=body)
        assert answer.status_code == 400, (body, answer.text)
        assert answer.json().keys() == {"error", "code"}
        assert named in answer.json()["error"], (body, answer.text)
    assert platform.http.get("/agents/bad").status_code == 404
    assert platform.http.post("/agents", content=b"{").status_code == 400
    assert platform.http.post("/agents", content=b"x" * 1_100_000).status_code == 413
    assert platform.http.get("/nothing").json()["code"] == "no_route"
    assert platform.http.put("/agents").status_code == 405
    for limit in ("0", "-1", "x", "1.5"):
        assert platform.http.get("/agents/first/events", params={"limit": limit}).status_code == 400
    assert platform.http.get("/agents", headers={"Origin": "http://evil.example"}).status_code == 403
