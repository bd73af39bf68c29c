"""What is said to a running task, with the real Claude CLI: given once, in order, and answered before the end."""

import json
from typing import Any

from tests.contract.runtime.platform import WAIT_FOR_GO, Platform, Pod, script
from tests.waiting import eventually


def times_given(platform: Platform, text: str) -> int:
    """How often the text stands in the model's last request; the model's own words, which repeat it, do not count."""
    messages = platform.requests[-1]["messages"]
    return json.dumps([each for each in messages if each["role"] == "user"]).count(text)


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


async def test_an_end_that_a_message_overtook_is_taken_back_and_the_message_answered(
    platform: Platform, pod: Pod
) -> None:
    platform.holds_messages = True
    await pod.start()
    task = platform.assign(script(WAIT_FOR_GO, {"say": "Too early."}))
    await platform.saw("tool_call", task)
    await platform.say(task, script({"say": "Now I have heard."}, words="Listen."))
    (pod.workspace / "go").touch()
    await eventually(lambda: "unacknowledged" in platform.answers)
    assert not any(event["type"] == "task_completed" for event in await platform.events(task))
    platform.holds_messages = False
    platform.changes.notify()
    end = await platform.ended(task)
    assert (end["type"], end["result"]) == ("task_completed", "Now I have heard.")
    assert times_given(platform, "Listen.") == 1
    events = await platform.events(task)
    assert kinds(events).count("task_started") == 1
    assert "task_resumed" not in kinds(events)


async def test_a_message_that_waits_for_a_dead_runtime_is_given_to_the_next(platform: Platform, pod: Pod) -> None:
    platform.holds_messages = True
    await pod.start()
    task = platform.assign(script(WAIT_FOR_GO, {"say": "Alone."}))
    await platform.saw("tool_call", task)
    await pod.kill()
    await platform.say(task, script({"say": "I hear you."}, words="Listen."))
    platform.holds_messages = False
    await pod.start()
    assert (await platform.ended(task))["result"] == "I hear you."
    assert times_given(platform, "Listen.") == 1


async def test_a_message_that_claude_had_taken_in_is_not_given_again(platform: Platform, pod: Pod) -> None:
    await pod.start()
    endless = {"tool": "Bash", "input": {"command": "echo on; tail -f /dev/null", "description": "waits"}}
    task = platform.assign(script(WAIT_FOR_GO, {"say": "Alone."}))
    await platform.saw("tool_call", task)
    await platform.say(task, script(endless, {"say": "Both are done."}, words="Listen."))
    (pod.workspace / "go").touch()
    await platform.saw("tool_call", task, 2)
    await pod.kill()
    await pod.start()
    assert (await platform.ended(task))["result"] == "Both are done."
    assert times_given(platform, "Listen.") == 1


async def test_messages_are_given_in_order(platform: Platform, pod: Pod) -> None:
    await pod.start()
    task = platform.assign(script(WAIT_FOR_GO, {"say": "Alone."}))
    await platform.saw("tool_call", task)
    for n in range(5):
        await platform.say(task, f"Word {n}.")
    (pod.workspace / "go").touch()
    await platform.ended(task)
    text = json.dumps(platform.requests[-1]["messages"])
    places = [text.index(f"Word {n}.") for n in range(5)]
    assert places == sorted(places)
    assert [times_given(platform, f"Word {n}.") for n in range(5)] == [1] * 5
