"""Tasks from their assignment to their ends, with the real Claude CLI and the offline model."""

import shutil
from typing import Any

import pytest

from komputer.runtime.task.runner import TRANSCRIPT_WAIT_S
from tests.contract.runtime.platform import Platform, Pod, script
from tests.waiting import eventually

BASH_WAITS = {"tool": "Bash", "input": {"command": "echo begun; tail -f /dev/null", "description": "waits"}}


def system_prompts(requests: list[dict[str, Any]]) -> list[str]:
    return [request["system"][-1]["text"] for request in requests]


async def test_a_task_is_told_from_its_start_to_its_end(platform: Platform, pod: Pod) -> None:
    command = {"command": "echo hi > f; cat f", "description": "x"}
    task = platform.assign(
        script({"think": "Well."}, {"say": "hello"}, {"tool": "Bash", "input": command}, {"say": "The file is there."})
    )
    await pod.start()
    end = await platform.ended(task)
    events = await platform.events(task)
    start, thought, text, call, result, _, _ = [event["payload"] for event in events]
    assert [event["type"] for event in events] == [
        "task_started",
        "thinking",
        "text",
        "tool_call",
        "tool_result",
        "text",
        "task_completed",
    ]
    assert start["resuming_session"] is False
    assert start["instructions"].startswith("Do it.")
    assert (thought["content"], text["content"]) == ("Well.", "hello")
    assert (call["tool"], call["input"]) == ("Bash", command)
    assert {key: result[key] for key in ("id", "tool", "input", "output", "is_error")} == {
        "id": call["id"],
        "tool": "Bash",
        "input": command,
        "output": "hi",
        "is_error": False,
    }
    assert (pod.workspace / "f").read_text() == "hi\n"
    assert end["result"] == "The file is there."
    assert end["session_id"] == start["session_id"]
    assert end["turns"] == 2
    assert end["stop_reason"] == "end_turn"
    assert end["context_window"] == 200_000
    assert end["cost_usd"] == pytest.approx(
        3e-6 * end["usage"]["input_tokens"] + 15e-6 * end["usage"]["output_tokens"], rel=1e-6
    )
    assert 1 < end["last_usage"]["output_tokens"] < end["usage"]["output_tokens"]


async def test_the_first_tool_waits_for_claudes_own_record_of_the_task(platform: Platform, pod: Pod) -> None:
    """Else a Claude that is killed in its first command would leave nothing to go on from. Where no record can be
    written the wait comes to an end."""
    command = {"tool": "Bash", "input": {"command": "echo ran", "description": "x"}}
    await pod.start()
    task = platform.assign(script({"wait": 4, "times": 1}, command, command, {"say": "Done."}))
    await eventually(lambda: bool(platform.requests))
    projects = pod.workspace / ".claude" / "projects"
    shutil.rmtree(projects)
    projects.write_text("in the way of the folder")
    assert (await platform.ended(task))["result"] == "Done."
    first, second = [e["payload"] for e in await platform.events(task) if e["type"] == "tool_result"]
    assert (first["output"], second["output"]) == ("ran", "ran")
    assert first["duration_ms"] >= 1000 * TRANSCRIPT_WAIT_S > second["duration_ms"]


async def test_the_next_task_goes_on_with_the_conversation_and_costs_only_itself(platform: Platform, pod: Pod) -> None:
    await pod.start()
    first = platform.assign(script({"usage": {"input_tokens": 1000, "output_tokens": 100}}, {"say": "one"}))
    before = await platform.ended(first)
    platform.account(first)
    usage = {"input_tokens": 2000, "output_tokens": 10}
    second = platform.assign(script({"usage": usage}, {"say": "two"}), system_prompt="You are Ada.", role="manager")
    after = await platform.ended(second)
    assert after["session_id"] == before["session_id"]
    assert (await platform.events(second))[0]["payload"]["resuming_session"] is True
    assert before["cost_usd"] == pytest.approx(0.0045)
    assert after["cost_usd"] == pytest.approx(0.00615)
    assert "one" in str(platform.requests[-1]["messages"])
    worker, manager = system_prompts(platform.requests)
    assert "role of a worker" in worker
    assert manager.startswith("You are Ada.\n\n# Who you are")
    assert "role of a manager" in manager


@pytest.mark.parametrize("when", ["in a tool", "in the model's stream"])
async def test_a_cancel_ends_the_task_and_keeps_the_session(platform: Platform, pod: Pod, when: str) -> None:
    await pod.start()
    steps: list[dict[str, Any]] = [{"usage": {"input_tokens": 1000, "output_tokens": 100}}, {"say": "begun"}]
    steps += [BASH_WAITS] if when == "in a tool" else [{"wait": 600}]
    task = platform.assign(script(*steps, {"say": "never"}))
    await platform.saw("text", task)
    if when == "in a tool":
        await platform.saw("tool_call", task)
    platform.cancel(task)
    end = await platform.ended(task)
    assert end["type"] == "task_cancelled"
    assert end["cost_usd"] >= 0.003
    platform.account(task)
    following = platform.assign(script({"say": "still here"}))
    after = await platform.ended(following)
    assert (after["type"], after["result"]) == ("task_completed", "still here")
    assert after["session_id"] == end["session_id"]
    await eventually(lambda: "tail" not in pod.programs())


async def test_a_cancel_that_names_another_task_changes_nothing(platform: Platform, pod: Pod) -> None:
    platform.assignment = platform.assignment.model_copy(update={"cancel_task_id": "01M85YRSC75NS6QDFF19GM95DJ"})
    task = platform.assign(script({"say": "done"}))
    await pod.start()
    assert (await platform.ended(task))["type"] == "task_completed"


async def test_a_task_that_has_taken_its_turns_ends_and_the_next_one_continues(platform: Platform, pod: Pod) -> None:
    echo = {"tool": "Bash", "input": {"command": "echo ran", "description": "x"}}
    await pod.start()
    bounded = platform.assign(script(echo, echo, echo, {"say": "never"}), max_turns=2)
    end = await platform.ended(bounded)
    assert (end["type"], end["code"]) == ("error", "max_turns")
    assert [event["type"] for event in await platform.events(bounded)].count("tool_result") == 2
    platform.account(bounded)
    free = platform.assign(script(echo, echo, echo, {"say": "done"}), max_turns=None)
    after = await platform.ended(free)
    assert (after["result"], after["session_id"]) == ("done", end["session_id"])


async def test_a_silent_model_ends_the_task_as_stalled(platform: Platform, pod: Pod) -> None:
    task = platform.assign(script({"say": "begun"}, {"hang": 600}, {"say": "never"}), stall_seconds=2)
    await pod.start()
    end = await platform.ended(task)
    assert (end["type"], end["code"]) == ("error", "stalled")
    platform.account(task)
    following = platform.assign(script({"say": "again"}), stall_seconds=600)
    assert (await platform.ended(following))["result"] == "again"


async def test_a_long_tool_call_is_no_stall(platform: Platform, pod: Pod) -> None:
    command = {"command": "read -t 15 < <(tail -f /dev/null) || echo waited", "description": "x"}
    task = platform.assign(script({"tool": "Bash", "input": command}, {"say": "done"}), stall_seconds=10)
    await pod.start()
    assert (await platform.ended(task))["result"] == "done"


async def test_errors_of_the_model_have_codes_and_leave_the_agent_usable(platform: Platform, pod: Pod) -> None:
    await pod.start()
    for status, code in (403, "model_forbidden"), (404, "model_not_found"), (400, "model_invalid_request"):
        task = platform.assign(script({"fail": status, "times": 99}, {"say": "never"}))
        end = await platform.ended(task)
        assert (end["type"], end["code"]) == ("error", code)
        platform.account(task)
    task = platform.assign(script({"say": "still here"}))
    assert (await platform.ended(task))["result"] == "still here"


async def test_trouble_of_the_model_is_told_while_it_lasts(platform: Platform, pod: Pod) -> None:
    task = platform.assign(script({"fail": 529, "times": 2}, {"say": "done"}))
    await pod.start()
    assert (await platform.ended(task))["result"] == "done"
    retries = [event["payload"] for event in await platform.events(task) if event["type"] == "retry"]
    assert [(retry["attempt"], retry["status"]) for retry in retries] == [(1, 529), (2, 529)]


async def test_a_conversation_that_is_too_long_is_compacted_and_if_that_does_not_help_left(
    platform: Platform, pod: Pod
) -> None:
    await pod.start()
    first = platform.assign(script({"say": "one " * 200}))
    before = await platform.ended(first)
    platform.account(first)
    long = {"fail": 400, "message": "prompt is too long: 216000 tokens > 200000 maximum", "times": 99}
    second = platform.assign(script(long, {"say": "never"}))
    assert (await platform.ended(second))["code"] == "prompt_too_long"
    (compaction,) = [e["payload"] for e in await platform.events(second) if e["type"] == "compaction"]
    assert compaction["trigger"] == "auto"
    assert compaction["tokens_before"] > 0
    platform.account(second)
    third = platform.assign(script({"say": "three"}))
    after = await platform.ended(third)
    assert after["result"] == "three"
    assert after["session_id"] != before["session_id"]


async def test_a_task_text_is_neither_a_command_nor_a_file(platform: Platform, pod: Pod) -> None:
    (pod.workspace / "secret.txt").write_text("do not draw me in")
    task = platform.assign("/compact @secret.txt")
    await pod.start()
    assert "/compact @secret.txt" in (await platform.ended(task))["result"]
    assert "do not draw me in" not in str(platform.requests)


async def test_a_lost_transcript_begins_a_fresh_session(platform: Platform, pod: Pod) -> None:
    await pod.start()
    first = platform.assign(script({"say": "one"}))
    before = await platform.ended(first)
    platform.account(first)
    (transcript,) = (pod.workspace / ".claude" / "projects").glob("*/*.jsonl")
    await eventually(lambda: pod.claude() is None)
    transcript.unlink()
    second = platform.assign(script({"say": "two"}))
    after = await platform.ended(second)
    assert after["result"] == "two"
    assert after["session_id"] != before["session_id"]
    assert (await platform.events(second))[0]["payload"]["resuming_session"] is False


async def test_a_large_task_goes_through(platform: Platform, pod: Pod) -> None:
    task = platform.assign("x" * 250_000 + script({"say": "done"}), system_prompt="y" * 131_000)
    await pod.start()
    assert (await platform.ended(task))["result"] == "done"
    start = (await platform.events(task))[0]["payload"]
    assert start["truncated"] is True


async def test_tools_see_no_token_and_nothing_of_the_platform(platform: Platform, pod: Pod) -> None:
    look = "env; tr '\\0' '\\n' < /proc/$PPID/environ; tr '\\0' ' ' < /proc/$PPID/cmdline"
    task = platform.assign(script({"tool": "Bash", "input": {"command": look}}, {"say": "done"}))
    await pod.start()
    await platform.ended(task)
    (output,) = [e["payload"]["output"] for e in await platform.events(task) if e["type"] == "tool_result"]
    assert "HOME=" in output
    assert platform.token not in output
    assert "KOMPUTER" not in output
    assert f"TMPDIR={pod.folder}" in output


async def test_a_token_that_is_replaced_in_mid_task_is_used_at_once(platform: Platform, pod: Pod) -> None:
    await pod.start()
    wait = {"command": "until [ -e go ]; do read -t 0.1 < <(tail -f /dev/null); done", "description": "x"}
    task = platform.assign(script({"tool": "Bash", "input": wait}, {"say": "done"}))
    await platform.saw("tool_call", task)
    platform.token = "token-2"
    pod.token_file.write_text("token-2")
    (pod.workspace / "go").touch()
    assert (await platform.ended(task))["result"] == "done"


async def test_a_full_context_window_has_a_code_and_the_next_task_does_not_meet_it_again(
    platform: Platform, pod: Pod
) -> None:
    await pod.start()
    first = platform.assign(script({"say": "one"}))
    before = await platform.ended(first)
    platform.account(first)
    cuts = [{"say": f"cut {n}", "stop": "model_context_window_exceeded"} for n in range(8)]
    second = platform.assign(script(*cuts))  # Claude asks for the rest a few times
    end = await platform.ended(second)
    assert (end["type"], end.get("code")) == ("error", "model_context_window_exceeded"), end
    platform.account(second)
    third = platform.assign(script({"say": "three"}))
    after = await platform.ended(third)
    assert after["result"] == "three"
    assert after["session_id"] != before["session_id"]
    assert "cut 0" not in str(platform.requests[-1]["messages"])
