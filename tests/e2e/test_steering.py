"""Speaking to an agent while it works: heard once, in order, before the task is over."""

import json
from collections.abc import Callable

import httpx
import pytest

from tests.e2e.laptop import Laptop
from tests.e2e.platform import Json, Platform, check_log, script


def say(platform: Platform, name: str, content: str) -> httpx.Response:
    return platform.http.post(f"/agents/{name}/messages", json={"content": content})


def kinds(events: list[Json]) -> list[str]:
    return [event["type"] for event in events]


def tool(seconds: float) -> Json:
    return {"tool": "Bash", "input": {"command": f"sleep {seconds}; echo slept"}}


def test_a_message_while_a_tool_runs_is_heard_in_the_same_task(platform: Platform) -> None:
    platform.assign("helm", script(tool(3), {"say": "Nobody spoke."}))
    platform.event("helm", "tool_call")
    answer = say(platform, "helm", script({"say": "I have heard."}, text="Turn."))
    assert answer.status_code == 202, answer.text
    end = platform.end("helm")
    assert (end["type"], end["payload"]["result"]) == ("task_completed", "I have heard.")
    events = platform.events("helm")
    check_log(events)
    assert kinds(events) == ["task_started", "tool_call", "user_message", "tool_result", "text", "task_completed"]
    message = events[2]
    assert (message["id"], message["payload"]["steer"]) == (answer.json()["id"], True)
    assert message["payload"]["task_id"] == answer.json()["taskID"] == end["payload"]["task_id"]


def test_messages_while_the_model_speaks_are_answered_one_after_the_other(platform: Platform) -> None:
    platform.assign("speaker", script({"say": "I begin."}, {"wait": 2, "times": 1}, {"say": "I end."}))
    platform.event("speaker", "text")
    sent = [f"Number {n}." for n in range(5)]
    for content in sent:
        assert say(platform, "speaker", content).status_code == 202
    end = platform.end("speaker")
    assert end["type"] == "task_completed"
    assert "Number 4." in end["payload"]["result"]
    events = platform.events("speaker")
    check_log(events)
    assert [e["payload"]["content"] for e in events if e["type"] == "user_message"] == sent


def test_an_idle_agent_is_not_spoken_to(platform: Platform) -> None:
    platform.assign("deaf", script({"say": "Done."}))
    platform.end("deaf")
    answer = say(platform, "deaf", "Hello?")
    assert (answer.status_code, answer.json()["code"]) == (409, "idle")
    assert platform.http.post("/agents/nobody/messages", json={"content": "x"}).status_code == 404
    for body in ({}, {"content": ""}, {"content": " "}, {"content": 1}, {"content": "x" * 16_385}):
        answer = platform.http.post("/agents/deaf/messages", json=body)
        assert (answer.status_code, "content" in answer.json()["error"]) == (400, True), answer.text
    assert kinds(platform.events("deaf")) == ["task_started", "text", "task_completed"]


def test_whatever_is_accepted_at_the_end_of_a_task_is_answered(platform: Platform) -> None:
    """Messages from before the end until the first refusal: none is taken and lost."""
    platform.assign("late", script({"say": "Quick."}))
    accepted = 0
    for n in range(60):
        answer = say(platform, "late", f"Word {n}.")
        if answer.status_code == 202:
            accepted += 1
        elif accepted or any(e["type"] == "task_completed" for e in platform.events("late")):
            break
    end = platform.end("late")
    events = platform.events("late")
    check_log(events)
    messages = [e["payload"]["content"] for e in events if e["type"] == "user_message"]
    assert len(messages) == accepted
    if messages:
        assert messages[-1] in end["payload"]["result"]


def kill_claude(platform: Platform) -> None:
    platform.claude("survivor").kill()


def kill_gateway(platform: Platform) -> None:
    platform.kill_part("gateway")


@pytest.mark.parametrize("kill", [kill_claude, kill_gateway])
def test_messages_survive_a_death_before_they_were_read(
    new_laptop: Callable[..., Laptop], kill: Callable[[Laptop], None]
) -> None:
    laptop = new_laptop()
    laptop.assign("survivor", script(tool(4), {"say": "Noted."}))
    laptop.event("survivor", "tool_call")
    sent = ["First the bananas.", "Then the apples."]
    for content in sent:
        assert say(laptop, "survivor", content).status_code == 202
    kill(laptop)
    assert laptop.end("survivor")["type"] == "task_completed"
    events = laptop.events("survivor")
    check_log(events)
    assert [e["payload"]["content"] for e in events if e["type"] == "user_message"] == sent
    assert [times_read(laptop, content) for content in sent] == [1, 1]


def times_read(platform: Platform, content: str) -> int:
    """How often the only conversation has this as something that a person said."""
    folder = platform.workspace("survivor")
    assert folder
    (transcript,) = folder.glob("**/.claude/projects/*/*.jsonl")
    count = 0
    for line in transcript.read_text().splitlines():
        entry = json.loads(line)
        attached = entry.get("attachment") or {}
        if attached.get("type") == "queued_command":
            count += str(attached.get("prompt")).count(content)
        if entry.get("type") == "user":
            count += json.dumps(entry["message"]["content"]).count(content)
    return count


def test_the_command_line_speaks_and_compacts(platform: Platform) -> None:
    platform.assign("commanded", script(tool(10), {"say": "Noted."}))
    platform.event("commanded", "tool_call")
    sent = platform.cli("send", "commanded", "Mention the bananas.", "--json")
    assert sent.returncode == 0, sent.stderr
    assert json.loads(sent.stdout)["id"] == platform.event("commanded", "user_message")["id"]
    busy = platform.cli("compact", "commanded", "--json")
    assert (busy.returncode, json.loads(busy.stderr)["code"]) == (1, "busy")
    platform.end("commanded")
    idle = platform.cli("send", "commanded", "Too late.")
    assert (idle.returncode, idle.stderr.count("\n")) == (1, 1)
    done = platform.cli("compact", "commanded", "--instructions", "Keep the fruit.")
    assert done.returncode == 0, done.stderr
    assert "compacted the conversation (" in done.stdout
    assert platform.cli("send", "commanded").returncode == 2


def test_a_message_survives_the_death_of_the_runtime(platform: Platform) -> None:
    platform.assign("phoenix", script(tool(4), {"say": "Nobody spoke."}))
    platform.event("phoenix", "tool_call")
    assert say(platform, "phoenix", script({"say": "Heard after death."}, text="Turn.")).status_code == 202
    platform.kill_runtime("phoenix")
    end = platform.end("phoenix")
    events = platform.events("phoenix")
    assert end["payload"]["result"] == "Heard after death.", events
    check_log(events)
    assert kinds(events).count("user_message") == 1
    assert kinds(events).count("task_resumed") == 1


def test_a_message_survives_the_death_of_the_platform(own_platform: Platform) -> None:
    own_platform.assign("ark", script(tool(4), {"say": "Nobody spoke."}))
    own_platform.event("ark", "tool_call")
    assert say(own_platform, "ark", script({"say": "Heard after the flood."}, text="Turn.")).status_code == 202
    own_platform.kill()
    own_platform.start()
    assert own_platform.end("ark")["payload"]["result"] == "Heard after the flood."
    check_log(own_platform.events("ark"))


def test_a_cancelled_task_does_not_wait_for_an_answer(platform: Platform) -> None:
    platform.assign(
        "stop", script({"tool": "Bash", "input": {"command": "echo on; tail -f /dev/null"}}, {"say": "No."})
    )
    platform.event("stop", "tool_call")
    assert say(platform, "stop", "Hello?").status_code == 202
    assert platform.http.post("/agents/stop/cancel").status_code == 200
    assert platform.end("stop")["type"] == "task_cancelled"
    assert say(platform, "stop", "Hello?").status_code == 409
