"""Talking to an agent at work, on one machine: each message reaches the model once, and the task ends after it."""

import json
import time
from collections.abc import Callable

import pytest

from tests.e2e.laptop import Json, Laptop, check_log, script, until
from tests.e2e.test_up import komputer

ALSO = "Mention the bananas."
THEN = "Then mention the apples."


def tool(command: str) -> Json:
    return {"tool": "Bash", "input": {"command": command, "description": "waits"}}


def say(laptop: Laptop, name: str, content: str) -> str:
    answer = laptop.http.post(f"/agents/{name}/messages", json={"content": content})
    assert answer.status_code == 200, answer.text
    assert answer.json() | {"id": ""} == {"status": "sent", "name": name, "id": ""}
    return str(answer.json()["id"])


def transcript(laptop: Laptop, name: str) -> list[Json]:
    (uid,) = [laptop.manifest(name)["metadata"]["uid"]]
    found = [
        f for f in laptop.data_dir.glob("volumes/**/.claude/projects/*/*.jsonl") if name in str(f) or uid in str(f)
    ]
    assert found, sorted(map(str, laptop.data_dir.glob("volumes/*")))
    return [json.loads(line) for line in found[0].read_text().splitlines()]


def times_read(laptop: Laptop, name: str, content: str) -> int:
    """How often the conversation has this as something that a person said."""
    count = 0
    for entry in transcript(laptop, name):
        attachment = entry.get("attachment") or {}
        if entry.get("type") == "attachment" and attachment.get("type") == "queued_command":
            count += str(attachment.get("prompt")).count(content)
        if entry.get("type") == "user":
            count += json.dumps(entry["message"]["content"]).count(content)
    return count


def check(laptop: Laptop, name: str, *contents: str, ends: int = 1) -> None:
    events = laptop.events(name)
    check_log(events)
    assert [event["payload"]["content"] for event in events if event["type"] == "user_message"] == list(contents)
    assert sum(event["type"] in ("task_completed", "task_cancelled", "error") for event in events) == ends
    for content in contents:
        assert times_read(laptop, name, content) == 1, content


def test_two_messages_during_a_tool_are_read_in_order(laptop: Laptop) -> None:
    name = "steered"
    laptop.assign(name, script(tool("until [ -e told ] || [ $SECONDS -gt 3 ]; do sleep 0.1; done"), {"say": "Noted."}))
    laptop.event(name, "tool_call")
    first, second = say(laptop, name, ALSO), say(laptop, name, THEN)
    assert first < second
    sent = laptop.event(name, "user_message")
    assert (sent["id"], sent["payload"]["content"], sent["payload"]["steer"]) == (first, ALSO, True)
    end = laptop.end(name)
    assert (end["type"], end["payload"]["last_message_id"]) == ("task_completed", second)
    check(laptop, name, ALSO, THEN)


def test_a_message_while_the_model_speaks_is_answered_in_the_same_task(laptop: Laptop) -> None:
    name = "interrupted"
    laptop.assign(name, script({"say": "One."}, {"wait": 2, "times": 1}, {"say": "Two."}))
    laptop.event(name, "text")
    say(laptop, name, script({"say": "Bananas!"}, text=ALSO))
    end = laptop.end(name)
    assert (end["type"], end["payload"]["result"]) == ("task_completed", "Bananas!")
    assert times_read(laptop, name, ALSO) == 1
    check_log(laptop.events(name))


def test_at_the_very_end_a_message_is_answered_or_refused_and_never_lost(laptop: Laptop) -> None:
    """Around the end, at another moment each time: what was taken is answered, what comes later is refused."""
    name = "racing"
    was_refused = 0
    for round_ in range(6):
        laptop.assign(name, script({"say": "Soon."}, {"wait": 0.3, "times": 1}, {"say": "Done."}))
        laptop.event(name, "task_started", round_ + 1)
        sent: list[str] = []
        time.sleep(0.1 + 0.12 * round_)
        while len(sent) < 4:
            content = f"Message {round_}-{len(sent)}."
            answer = laptop.http.post(f"/agents/{name}/messages", json={"content": content})
            if answer.status_code != 200:
                assert (answer.status_code, answer.json()["code"]) == (409, "idle")
                was_refused += 1
                break
            sent.append(content)
            time.sleep(0.03 * round_)
        end = laptop.end(name, round_ + 1)
        assert end["type"] == "task_completed"
        for content in sent:
            assert times_read(laptop, name, content) == 1, content
    check_log(laptop.events(name))
    said = [event["payload"]["content"] for event in laptop.events(name) if event["type"] == "user_message"]
    assert len(said) + was_refused >= 6


def test_send_and_compact_on_the_command_line(laptop: Laptop) -> None:
    name = "commanded"
    laptop.assign(name, script(tool("until [ -e told ] || [ $SECONDS -gt 3 ]; do sleep 0.1; done"), {"say": "Noted."}))
    laptop.event(name, "tool_call")
    sent = komputer(laptop, "send", name, ALSO, "--json")
    assert sent.returncode == 0, sent.stderr
    assert json.loads(sent.stdout)["id"] == laptop.event(name, "user_message")["id"]
    busy = komputer(laptop, "compact", name, "--json")
    assert (busy.returncode, json.loads(busy.stderr)["code"]) == (1, "busy")
    laptop.end(name)
    idle = komputer(laptop, "send", name, THEN)
    assert (idle.returncode, idle.stderr.count("\n")) == (1, 1)
    done = komputer(laptop, "compact", name, "--instructions", "Keep the fruit.")
    assert done.returncode == 0, done.stderr
    assert "compacted the conversation (" in done.stdout
    assert "Example" in komputer(laptop, "send", "--help").stdout
    assert komputer(laptop, "send", name).returncode == 2


def test_an_idle_agent_and_one_that_is_not_there_refuse(laptop: Laptop) -> None:
    laptop.assign("quiet", script({"say": "Done."}))
    laptop.end("quiet")
    answer = laptop.http.post("/agents/quiet/messages", json={"content": "Hello?"})
    assert (answer.status_code, answer.json()["code"]) == (409, "idle")
    assert laptop.http.post("/agents/nobody/messages", json={"content": "Hello?"}).status_code == 404
    for body in ({}, {"content": ""}, {"content": "  "}, {"content": 1}, {"content": "x" * 70_000}):
        assert laptop.http.post("/agents/quiet/messages", json=body).status_code == 400, body


def kill_claude(laptop: Laptop) -> None:
    (cli,) = laptop.agent_processes("_bundled/claude")
    cli.kill()


def kill_runtime(laptop: Laptop) -> None:
    for process in laptop.agent_processes("komputer.runtime"):
        process.kill()


def kill_gateway(laptop: Laptop) -> None:
    laptop.part("gateway").kill()


def kill_platform(laptop: Laptop) -> None:
    laptop.kill()
    laptop.start()


@pytest.mark.parametrize("kill", [kill_claude, kill_runtime, kill_gateway, kill_platform])
def test_a_message_survives_a_kill_before_it_was_read(
    new_laptop: Callable[..., Laptop], kill: Callable[[Laptop], None]
) -> None:
    own_laptop, name = new_laptop(), "survivor"
    steps = script(tool("echo begun; until [ -e told ] || [ $SECONDS -gt 4 ]; do sleep 0.1; done"), {"say": "Noted."})
    own_laptop.assign(name, steps)
    own_laptop.event(name, "tool_call")
    say(own_laptop, name, ALSO)
    say(own_laptop, name, THEN)
    kill(own_laptop)
    end = own_laptop.end(name)
    assert end["type"] == "task_completed"
    check(own_laptop, name, ALSO, THEN)
    until(lambda: own_laptop.agent(name).get("lastTaskOutcome") == "completed", "the end is accounted")
