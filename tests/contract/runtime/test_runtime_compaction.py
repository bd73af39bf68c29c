"""Compacting a conversation as a task of its own, with the real Claude CLI."""

from typing import Any

import pytest

from tests.contract.runtime.platform import Platform, Pod, eventually, script
from tests.contract.runtime.test_runtime_messages import kill, kinds


async def with_a_conversation(platform: Platform, pod: Pod) -> None:
    task = platform.assign(script({"say": "hello"}))
    await pod.start()
    await platform.ended(task)


def of_kind(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event["payload"] for event in events if event["type"] == kind]


async def test_a_compaction_is_a_task_that_tells_how_much_it_saved(platform: Platform, pod: Pod) -> None:
    await with_a_conversation(platform, pod)
    task = platform.assign("/compact Keep the names.", kind="compact")
    end = await platform.ended(task)
    events = await platform.events(task)
    assert kinds(events) == ["task_started", "compaction", "task_completed"]
    assert events[0]["payload"]["kind"] == "compact"
    (compaction,) = of_kind(events, "compaction")
    assert compaction["trigger"] == "manual"
    before, after = compaction["tokens_before"], compaction["tokens_after"]
    assert before > 0
    assert end["result"] == f"Compacted the conversation from {before} to {after} tokens."
    assert end["cost_usd"] > 0
    assert platform.model_read("Additional Instructions:\nKeep the names.") == 1
    following = platform.assign("What did I say?")
    assert (await platform.ended(following))["session_id"] == end["session_id"]
    assert "This session is being continued" in str(platform.requests[-1]["messages"])


@pytest.mark.parametrize("has_conversation", [False, True])
async def test_what_cannot_be_made_shorter_ends_as_an_error(
    platform: Platform, pod: Pod, has_conversation: bool
) -> None:
    if has_conversation:
        await with_a_conversation(platform, pod)
        await platform.ended(platform.assign("/compact", kind="compact"))
    else:
        await pod.start()
    end = await platform.ended(platform.assign("/compact", kind="compact"))
    assert (end["type"], end["code"]) == ("error", "nothing_to_compact")
    assert (await platform.ended(platform.assign(script({"say": "Still here."}))))["result"] == "Still here."


@pytest.mark.parametrize("victim", ["claude", "runtime"])
async def test_a_compaction_survives_a_kill_in_its_middle(platform: Platform, pod: Pod, victim: str) -> None:
    await with_a_conversation(platform, pod)
    asked = len(platform.requests)
    platform.slow_s = 3.0
    task = platform.assign("/compact", kind="compact")
    await eventually(lambda: len(platform.requests) > asked)
    await kill(pod, victim)
    platform.slow_s = 0.0
    end = await platform.ended(task)
    assert end["type"] == "task_completed"
    events = await platform.events(task)
    assert len(of_kind(events, "compaction")) == 1


async def test_a_compaction_that_was_done_before_the_kill_is_not_done_again(platform: Platform, pod: Pod) -> None:
    await with_a_conversation(platform, pod)
    asked = len(platform.requests)
    task = platform.assign("/compact", kind="compact")
    await platform.saw("compaction", task)
    await pod.kill()
    await pod.start()
    end = await platform.ended(task)
    assert end["type"] == "task_completed"
    assert len(of_kind(await platform.events(task), "compaction")) == 1
    assert len(platform.requests) == asked + 1
