"""What kills, leaves and comes back: each task still ends exactly once, and starts once."""

import asyncio
import shutil
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from komputer.domain.tasks import END_TYPES
from tests.contract.runtime.platform import WAIT_FOR_GO, Platform, Pod, script
from tests.waiting import eventually


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def begun(platform: Platform, pod: Pod) -> str:
    """A task that is in its tool."""
    task = platform.assign(
        script({"usage": {"input_tokens": 1000, "output_tokens": 100}}, {"say": "begun"}, WAIT_FOR_GO, {"say": "done"})
    )
    await platform.saw("tool_call", task)
    await eventually(lambda: (pod.workspace / "runs").exists())
    return task


async def resumed_and_completed(platform: Platform, task: str, cause: str) -> dict[str, Any]:
    end = await platform.ended(task)
    events = await platform.events(task)
    assert (end["type"], end["result"]) == ("task_completed", "done")
    assert kinds(events).count("task_started") == 1
    (resumed,) = [event["payload"] for event in events if event["type"] == "task_resumed"]
    assert (resumed["attempt"], resumed["cause"]) == (2, cause)
    assert end["session_id"] == events[0]["payload"]["session_id"]
    return end


async def test_a_killed_claude_resumes_its_conversation(platform: Platform, pod: Pod) -> None:
    await pod.start()
    task = await begun(platform, pod)
    below = pod.tree()
    await eventually(lambda: pod.has_logged("cost read"))
    claude = pod.claude()
    assert claude is not None
    claude.send_signal(signal.SIGKILL)
    (pod.workspace / "go").touch()
    end = await resumed_and_completed(platform, task, "claude_died")
    assert (pod.workspace / "runs").read_text() == "ran\n"
    assert "interrupted" in str(platform.requests[-1]["messages"][-1])
    assert end["cost_usd"] > 0.0045
    assert not [process for process in below if is_alive(process)]


async def test_a_killed_runtime_takes_claude_along_and_the_next_one_resumes(platform: Platform, pod: Pod) -> None:
    await pod.start()
    task = await begun(platform, pod)
    claude, below = pod.claude(), pod.tree()
    assert claude is not None
    await pod.kill()
    await pod.start()  # at once: it waits for the old Claude, which is still leaving
    await platform.saw("task_resumed", task)
    assert not is_alive(claude), "two would write into one transcript"
    await eventually(lambda: not any(map(is_alive, below)))
    (pod.workspace / "go").touch()
    await resumed_and_completed(platform, task, "runtime_died")
    assert (pod.workspace / "runs").read_text() == "ran\n"


async def test_a_runtime_that_is_told_to_leave_keeps_the_task_for_the_next(platform: Platform, pod: Pod) -> None:
    await pod.start()
    task = await begun(platform, pod)
    below = pod.tree()
    async with asyncio.timeout(25):
        assert await pod.stop() == 0
    assert not [process for process in below if process.is_running()]
    assert "error" not in kinds(await platform.events(task))
    (pod.workspace / "go").touch()
    await pod.start()
    end = await resumed_and_completed(platform, task, "shutdown")
    assert end["cost_usd"] > 0.0045


async def test_an_idle_runtime_leaves_at_once(platform: Platform, pod: Pod) -> None:
    await pod.start()
    await platform.ended(platform.assign(script({"say": "done"})))
    assert await pod.stop() == 0


async def test_a_deleted_agent_s_runtime_ends_with_all_that_is_its_own(platform: Platform, pod: Pod) -> None:
    await pod.start()
    await begun(platform, pod)
    below = pod.tree()
    platform.delete()
    assert await pod.exit() == 0
    assert not [process for process in below if process.is_running()]


async def test_a_gateway_that_is_away_for_seconds_loses_nothing(platform: Platform, pod: Pod) -> None:
    await pod.start()
    task = await begun(platform, pod)
    await platform.stop()
    (pod.workspace / "go").touch()
    await eventually(lambda: pod.has_logged("model request not forwarded"))
    await platform.start()
    end = await platform.ended(task)
    assert end["result"] == "done"
    seen = [kind for kind in kinds(await platform.events(task)) if kind != "retry"]
    assert seen == ["task_started", "text", "tool_call", "tool_result", "text", "task_completed"]


async def test_an_end_written_while_the_gateway_was_away_is_told_by_the_next_runtime(
    platform: Platform, pod: Pod
) -> None:
    await pod.start()
    task = platform.assign(script({"say": "begun"}, {"wait": 600}, {"say": "never"}))
    await platform.saw("text", task)
    platform.cancel(task)
    platform.is_deaf = True
    await eventually(lambda: pod.has_logged("task ended"))
    await pod.kill()
    assert "task_cancelled" not in kinds(await platform.events(task))
    platform.is_deaf = False
    await pod.start()
    assert (await platform.ended(task))["type"] == "task_cancelled"
    assert kinds(await platform.events(task)).count("task_started") == 1


async def test_the_prompt_waits_until_the_log_has_the_start(platform: Platform, pod: Pod) -> None:
    """Rule `wait_start`."""
    await pod.start()
    await platform.ended(platform.assign(script({"say": "warm"})))
    platform.is_deaf = True
    sent = len(platform.requests)
    task = platform.assign(script({"say": "done"}))
    await eventually(lambda: pod.claude() is not None)
    await eventually(lambda: platform.unanswered_posts >= 5)
    assert len(platform.requests) == sent
    await pod.kill()
    platform.is_deaf = False
    await pod.start()
    end = await platform.ended(task)
    assert end["result"] == "done"
    assert kinds(await platform.events(task)) == ["task_started", "task_resumed", "text", "task_completed"]
    prompts = [m for m in platform.requests[-1]["messages"] if "done" in str(m) and m["role"] == "user"]
    assert len(prompts) == 1


async def test_a_claude_that_always_dies_is_given_up(platform: Platform, pod: Pod) -> None:
    kill = {"tool": "Bash", "input": {"command": "kill -9 $PPID; tail -f /dev/null", "description": "x"}}
    task = platform.assign(script(kill, {"say": "next"}, kill, {"say": "never"}), max_attempts=2)
    await pod.start()
    end = await platform.ended(task)
    assert (end["type"], end["code"]) == ("error", "attempts_exhausted")
    assert kinds(await platform.events(task)).count("task_resumed") == 1


async def test_a_lost_workspace_ends_the_task_it_had_begun(platform: Platform, pod: Pod, tmp_path: Path) -> None:
    """Rule `adopt`, and the answer `started`."""
    await pod.start()
    task = await begun(platform, pod)
    await pod.kill()
    shutil.rmtree(pod.workspace)
    pod.workspace.mkdir()
    await pod.start()
    end = await platform.ended(task)
    assert (end["type"], end["code"]) == ("error", "workspace_lost")
    assert not (pod.workspace / "runs").exists()


async def test_a_lost_conversation_ends_the_task_that_had_begun(platform: Platform, pod: Pod) -> None:
    await pod.start()
    task = await begun(platform, pod)
    await pod.kill()
    shutil.rmtree(pod.workspace / ".claude" / "projects")
    await pod.start()
    end = await platform.ended(task)
    assert (end["type"], end["code"]) == ("error", "session_lost")


async def test_an_unreadable_ledger_is_a_lost_one(platform: Platform, pod: Pod) -> None:
    await pod.start()
    task = await begun(platform, pod)
    await pod.kill()
    for file in (pod.workspace / ".komputer").glob("ledger.db*"):
        file.write_bytes(b"nonsense" * 1000)
    await pod.start()
    assert (await platform.ended(task))["code"] == "workspace_lost"


async def test_a_task_that_somebody_else_ended_is_left(platform: Platform, pod: Pod) -> None:
    """Rule `owe` from the runtime's side: it stops, says nothing more, and goes on with the next task."""
    await pod.start()
    task = await begun(platform, pod)
    await platform.end(task)
    (pod.workspace / "go").touch()
    following = platform.assign(script({"say": "next"}))
    assert (await platform.ended(following))["result"] == "next"
    assert (await platform.ended(task))["code"] == "runtime_lost"


async def test_an_old_pod_that_speaks_on_is_not_heard(platform: Platform, pod: Pod, tmp_path: Path) -> None:
    """Rule `exact`: the new pod's hello fences the old one; the task, unknown to the new workspace, ends as lost."""
    await pod.start()
    task = await begun(platform, pod)
    (tmp_path / "second").mkdir()
    second = Pod(platform, tmp_path / "second")
    await second.start()
    try:
        end = await platform.ended(task)
        assert end["code"] == "workspace_lost"
    finally:
        await second.take_down()


async def test_a_pod_that_is_not_the_agent_s_any_more_leaves_the_task_to_the_next(
    platform: Platform, pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pod.start()
    task = platform.assign(script({"say": "begun"}, WAIT_FOR_GO, {"say": "done"}))
    await platform.saw("tool_call", task)
    platform.is_other = True
    (pod.workspace / "go").touch()
    assert await pod.exit() == 1
    platform.is_other = False
    assert kinds(await platform.events(task))[-1] not in END_TYPES
    await pod.start()
    assert (await platform.ended(task))["result"] == "done"


async def test_an_assignment_of_an_older_generation_is_ignored(platform: Platform, pod: Pod) -> None:
    await pod.start()
    first = platform.assign(script({"say": "one"}))
    await platform.ended(first)
    newest = platform.assignment
    platform.assignment = newest.model_copy(
        update={
            "generation": 1,
            "task": newest.task and newest.task.model_copy(update={"id": "01M85YRSC75NS6QDFF19GM95DJ"}),
        }
    )
    platform.changes.notify()
    await platform.stop()
    await platform.start()
    platform.assignment = newest
    second = platform.assign(script({"say": "two"}))
    assert (await platform.ended(second))["result"] == "two"
    assert not await platform.events("01M85YRSC75NS6QDFF19GM95DJ")
