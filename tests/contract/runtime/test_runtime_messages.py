"""What is said to a running task: the model has each message exactly once, and the task ends once, after its answer."""

from typing import Any

from tests.contract.runtime.platform import Platform, Pod, script

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
