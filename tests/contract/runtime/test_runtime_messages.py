"""What is said to a running task: the model has each message exactly once, and the task ends once, after its answer."""

from typing import Any

import pytest

from tests.contract.runtime.platform import Platform, Pod, eventually, script

ALSO = "And mention bananas."
THEN = "Then mention apples."


def waits(command: str) -> dict[str, Any]:
    return {"tool": "Bash", "input": {"command": command, "description": "waits"}}


UNTIL_TOLD = waits("touch begun; until [ -e told ]; do sleep 0.05; done")


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


async def test_messages_during_a_tool_are_read_in_order_with_its_result(platform: Platform, pod: Pod) -> None:
    task = platform.assign(script(UNTIL_TOLD, {"say": "Noted."}))
    await pod.start()
    await platform.saw("tool_call", task)
    await platform.say(task, ALSO)
    last = await platform.say(task, THEN)
    await pod.until_logged("message taken", 2)
    (pod.workspace / "told").touch()
    end = await platform.ended(task)
    assert (end["type"], end["result"], end["turns"], end["last_message_id"]) == ("task_completed", "Noted.", 2, last)
    assert kinds(await platform.events(task)) == [
        *("task_started", "tool_call", "user_message", "user_message", "tool_result", "text", "task_completed")
    ]
    assert (platform.model_read(ALSO), platform.model_read(THEN)) == (1, 1)
    sent = str(platform.requests[-1]["messages"])
    assert sent.index(ALSO) < sent.index(THEN)


async def test_a_message_while_the_model_speaks_is_answered_before_the_end(platform: Platform, pod: Pod) -> None:
    task = platform.assign(script({"say": "One."}, {"wait": 2, "times": 1}, {"say": "Two."}))
    await pod.start()
    await platform.saw("text", task)
    last = await platform.say(task, script({"say": "And bananas."}, words=ALSO))
    end = await platform.ended(task)
    assert (end["type"], end["result"], end["turns"]) == ("task_completed", "And bananas.", 2)
    assert end["last_message_id"] == last
    assert platform.model_read(ALSO) == 1
    assert len(platform.requests) == 2


@pytest.mark.parametrize("content", ["/clear", "/compact", "@/etc/hostname"])
async def test_a_message_is_a_text_and_no_command(platform: Platform, pod: Pod, content: str) -> None:
    task = platform.assign(script({"say": "One."}, {"wait": 1, "times": 1}, {"say": "Two."}))
    await pod.start()
    await platform.saw("text", task)
    await platform.say(task, content)
    end = await platform.ended(task)
    assert end["result"].endswith(f"The task was: {content}")
    assert "One." in str(platform.requests[-1]["messages"]), "the conversation is as it was"


async def test_heard_a_message_that_came_before_the_end_is_answered_in_the_same_task(
    platform: Platform, pod: Pod
) -> None:
    """The stream is late: the runtime writes the end, the log refuses it, the task goes on with the message."""
    platform.is_mute = True
    task = platform.assign(script(waits("until [ -e told ]; do sleep 0.05; done"), {"say": "Done."}))
    await pod.start()
    await platform.saw("tool_call", task)
    last = await platform.say(task, script({"say": "And bananas."}, words=ALSO))
    (pod.workspace / "told").touch()
    await pod.until_logged("the log refused an event")
    platform.is_mute = False
    platform.ring()
    end = await platform.ended(task)
    assert (end["type"], end["result"], end["last_message_id"]) == ("task_completed", "And bananas.", last)
    assert "task_resumed" not in kinds(await platform.events(task))
    assert platform.model_read(ALSO) == 1
    assert end["cost_usd"] > 0


async def test_a_message_that_waits_for_the_stream_does_not_stop_a_cancel(platform: Platform, pod: Pod) -> None:
    platform.is_mute = True
    task = platform.assign(script(waits("until [ -e told ]; do sleep 0.05; done"), {"say": "Done."}))
    await pod.start()
    await platform.saw("tool_call", task)
    await platform.say(task, ALSO)
    (pod.workspace / "told").touch()
    await pod.until_logged("the log refused an event")
    platform.cancel(task)
    assert (await platform.ended(task))["type"] == "task_cancelled"


@pytest.mark.parametrize("victim", ["claude", "runtime"])
async def test_a_message_that_claude_had_not_taken_in_when_it_was_killed_is_given_again(
    platform: Platform, pod: Pod, victim: str
) -> None:
    task = platform.assign(script(UNTIL_TOLD, {"say": "Noted."}))
    await pod.start()
    await platform.saw("tool_call", task)
    await eventually(lambda: (pod.workspace / "begun").exists())
    await platform.say(task, ALSO)
    await platform.say(task, THEN)
    await pod.until_logged("message taken", 2)
    await kill(pod, victim)
    (pod.workspace / "told").touch()
    end = await platform.ended(task)
    assert end["type"] == "task_completed"
    assert "Noted." in [e["payload"].get("content") for e in await platform.events(task)], "the script was at its end"
    assert (platform.model_read(ALSO), platform.model_read(THEN)) == (1, 1)


@pytest.mark.parametrize("victim", ["claude", "runtime"])
async def test_a_message_that_claude_had_taken_in_when_it_was_killed_is_not_given_again(
    platform: Platform, pod: Pod, victim: str
) -> None:
    again = waits("touch second; until [ -e told-again ]; do sleep 0.05; done")
    task = platform.assign(script(UNTIL_TOLD, again, {"say": "Noted."}))
    await pod.start()
    await platform.saw("tool_call", task)
    await platform.say(task, ALSO)
    await pod.until_logged("message taken")
    (pod.workspace / "told").touch()
    await eventually(lambda: (pod.workspace / "second").exists())
    assert platform.model_read(ALSO) == 1
    await kill(pod, victim)
    (pod.workspace / "told-again").touch()
    end = await platform.ended(task)
    assert (end["type"], end["result"]) == ("task_completed", "Noted.")
    assert platform.model_read(ALSO) == 1


@pytest.mark.parametrize("victim", ["claude", "runtime"])
async def test_a_message_while_the_model_speaks_survives_a_kill(platform: Platform, pod: Pod, victim: str) -> None:
    task = platform.assign(script({"say": "One."}, {"wait": 60, "times": 1}, {"say": "Two."}))
    await pod.start()
    await platform.saw("text", task)
    await platform.say(task, ALSO)
    await pod.until_logged("message taken")
    await kill(pod, victim)
    end = await platform.ended(task)
    assert end["type"] == "task_completed"
    assert platform.model_read(ALSO) == 1


async def test_a_new_stream_brings_old_messages_and_they_are_given_once(platform: Platform, pod: Pod) -> None:
    task = platform.assign(script(UNTIL_TOLD, {"say": "Noted."}))
    await pod.start()
    await platform.saw("tool_call", task)
    await platform.say(task, ALSO)
    await pod.until_logged("message taken")
    await platform.stop()
    await platform.start()
    await platform.say(task, THEN)
    await pod.until_logged("message taken", 2)
    (pod.workspace / "told").touch()
    assert (await platform.ended(task))["type"] == "task_completed"
    assert (platform.model_read(ALSO), platform.model_read(THEN)) == (1, 1)


async def kill(pod: Pod, victim: str) -> None:
    if victim == "claude":
        claude = pod.claude()
        assert claude is not None
        claude.kill()
        return
    await pod.kill()
    await pod.start()
