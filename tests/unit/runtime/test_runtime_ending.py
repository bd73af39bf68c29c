"""How tasks end: the facts of Claude's result decide, not what somebody hoped for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import ResultMessage

from komputer.events.schema import TaskCancelled, TaskCompleted, TaskFailed
from komputer.protocol import wire
from komputer.runtime.claude.process import checked
from komputer.runtime.ledger.ledger import OpenTask
from komputer.runtime.task import ending, plan
from komputer.runtime.task.ending import AttemptVerdict, Outcome, StopReason, judged

TASK = OpenTask(
    id="t1",
    instructions="do it",
    generation=1,
    settings=wire.TaskSettings(model="m", role="worker"),
    session_id="s1",
    is_resuming=True,
    prompt_uuid="u1",
    started_at=100.0,
    spent_usd=0.25,
    attempt_usd=0.5,
    cause="claude_died",
)
NOW = 200.0
REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "events.md"


def result(**changes: Any) -> ResultMessage:
    given: dict[str, Any] = {
        "subtype": "success",
        "duration_ms": 5,
        "duration_api_ms": 5,
        "is_error": False,
        "num_turns": 2,
        "session_id": "s1",
        "stop_reason": "end_turn",
        "result": "done",
        "usage": {"input_tokens": 10, "output_tokens": 3, "service_tier": "x"},
        "model_usage": {"m": {"contextWindow": 200_000}},
        "terminal_reason": "completed",
    }
    return ResultMessage(**{**given, **changes})


def failed(status: int | None = None, **changes: Any) -> ResultMessage:
    """As API failures come: subtype `success`."""
    given = {"is_error": True, "terminal_reason": "api_error", "api_error_status": status, "result": "API Error"}
    return result(**{**given, **changes})


ABORTED = result(
    subtype="error_during_execution", is_error=True, terminal_reason="aborted_tools", result=None, errors=["x"]
)


def judge(result: ResultMessage | None, asked: StopReason | None = None, **outcome: Any) -> Any:
    return judged(TASK, Outcome(result=result, **outcome), asked, 300, 101.5)


def test_counts_that_cannot_be_do_not_keep_a_task_from_ending() -> None:
    impossible: list[Any] = [-(2**60), 2**60, float("inf"), float("nan"), "2", True, None, []]
    for turns in impossible:
        assert 0 <= judge(checked(result(num_turns=turns))).turns <= 10**9
    assert judge(result(), turns=2**60).turns == 10**9


def test_a_completed_task_tells_what_it_took() -> None:
    end = judge(result(), last_usage={"input_tokens": 7, "output_tokens": 2})
    assert end == TaskCompleted(
        task_id="t1",
        result="done",
        cost_usd=0.75,
        duration_ms=1500,
        turns=2,
        stop_reason="end_turn",
        session_id="s1",
        usage={"input_tokens": 10, "output_tokens": 3},
        last_usage={"input_tokens": 7, "output_tokens": 2},
        context_window=200_000,
        model="m",
    )


@pytest.mark.parametrize("asked", [StopReason.CANCEL, StopReason.STALL, StopReason.STOP])
def test_a_task_that_was_done_when_it_was_to_stop_is_completed(asked: StopReason) -> None:
    assert isinstance(judge(result(), asked), TaskCompleted)


@pytest.mark.parametrize("facts", [ABORTED, None, failed(500)])
def test_what_was_asked_for_explains_what_did_not_get_done(facts: ResultMessage | None) -> None:
    assert judge(facts, StopReason.CANCEL) == TaskCancelled(
        task_id="t1", reason="cancelled by request", cost_usd=0.75, session_id="s1"
    )
    assert judge(facts, StopReason.STALL).code == "stalled"
    assert judge(facts, StopReason.STOP) is AttemptVerdict.KEEP


def test_without_a_reason_an_abort_or_a_death_means_again() -> None:
    assert judge(ABORTED) is AttemptVerdict.AGAIN
    assert judge(None) is AttemptVerdict.AGAIN


def test_a_task_that_has_ended_elsewhere_gets_no_second_end() -> None:
    assert judge(result(), StopReason.DROP) is AttemptVerdict.KEEP


@pytest.mark.parametrize(
    ("facts", "word", "code"),
    [
        (failed(401), "authentication_failed", "model_unauthorized"),
        (failed(403), "authentication_failed", "model_forbidden"),
        (failed(404), "model_not_found", "model_not_found"),
        (failed(429), "rate_limit", "model_rate_limited"),
        (failed(529), "server_error", "model_overloaded"),
        (failed(500), "server_error", "model_unavailable"),
        (failed(502), "server_error", "model_unavailable"),
        (failed(None, result="Connection to the API was lost"), "unknown", "model_unavailable"),
        (failed(400), "unknown", "model_invalid_request"),
        (failed(413, terminal_reason="image_error"), "invalid_request", "model_invalid_request"),
        (failed(400, result="Your credit balance is too low"), "billing_error", "billing"),
        (failed(400, terminal_reason="prompt_too_long"), "invalid_request", "prompt_too_long"),
        (
            failed(None, result="API Error: The model has reached its context window limit."),
            "max_output_tokens",
            "model_context_window_exceeded",
        ),
        (failed(None, terminal_reason="blocking_limit"), None, "prompt_too_long"),
        (failed(None, stop_reason="refusal"), None, "model_refused"),
        (failed(None, terminal_reason="completed"), "max_output_tokens", "max_output_tokens"),
        (result(subtype="error_max_turns", is_error=True, terminal_reason="max_turns"), None, "max_turns"),
        (failed(None, terminal_reason="something new"), None, "internal"),
    ],
)
def test_an_error_s_code_says_what_a_client_can_do(facts: ResultMessage, word: str | None, code: str) -> None:
    end = judge(facts, api_error=word)
    assert isinstance(end, TaskFailed)
    assert end.code == code
    assert end.cost_usd == 0.75
    assert f"`{code}`" in REFERENCE.read_text()


def test_attempts_without_progress_are_bounded_and_so_are_crashes_with_it() -> None:
    assert ending.given_up(replace(TASK, barren=4), 5) is None
    exhausted = ending.given_up(replace(TASK, barren=5), 5)
    assert exhausted
    assert exhausted.code == "attempts_exhausted"
    assert ending.given_up(replace(TASK, barren=0, crashes=19), 5) is None
    assert ending.given_up(replace(TASK, barren=0, crashes=20), 5)


def recorded(*, file: bool = True, conversation: bool = True, prompt: bool = True) -> plan.Recorded:
    return plan.Recorded(has_file=file, has_conversation=conversation, has_prompt=prompt)


def test_a_prompt_that_claude_has_taken_in_is_never_given_again() -> None:
    start = plan.again(TASK, recorded(), 5, "new", NOW)
    assert isinstance(start, plan.Start)
    assert (start.prompt_uuid, start.session_id, start.resume) == ("new", "s1", True)
    assert "interrupted" in start.prompt
    assert "do it" not in start.prompt


def test_a_prompt_that_claude_never_saw_is_given_as_it_was() -> None:
    kept = plan.again(TASK, recorded(prompt=False), 5, "new", NOW)
    assert kept == plan.Start(prompt="do it", prompt_uuid="u1", session_id="s1", resume=True)
    begun = plan.again(TASK, recorded(conversation=False, prompt=False), 5, "new", NOW)
    assert begun == plan.Start(prompt="do it", prompt_uuid="u1", session_id="new", resume=False)
    free = plan.again(TASK, recorded(file=False, conversation=False, prompt=False), 5, "new", NOW)
    assert free == plan.Start(prompt="do it", prompt_uuid="u1", session_id="s1", resume=False)


def test_a_session_that_claude_refused_is_left_for_a_new_one() -> None:
    refused = replace(TASK, cause="session_refused")
    for found in (recorded(prompt=False), recorded(file=False, conversation=False, prompt=False)):
        start = plan.again(refused, found, 5, "new", NOW)
        assert isinstance(start, plan.Start)
        assert (start.session_id, start.resume) == ("new", False)
    assert plan.pause_s(refused) == 0


def test_a_conversation_that_had_begun_and_is_gone_is_not_begun_again() -> None:
    end = plan.again(
        replace(TASK, phase="acted"), recorded(file=False, conversation=False, prompt=False), 5, "new", NOW
    )
    assert isinstance(end, TaskFailed)
    assert end.code == "session_lost"


def test_pauses_grow_with_attempts_that_brought_nothing() -> None:
    assert [plan.pause_s(replace(TASK, barren=n)) for n in (0, 1, 2, 3, 9)] == [0, 1, 2, 4, 30]


def test_a_new_attempt_keeps_what_the_last_one_cost() -> None:
    before = replace(TASK, spent_usd=1.0, attempt_usd=0.5, baseline_usd=10.0)
    assert plan.costs_before(before, "s1", 10.0)["spent_usd"] == 1.5, "Claude wrote nothing down: what we had asked"
    assert plan.costs_before(before, "s1", 10.75)["spent_usd"] == 1.75, "Claude wrote more down"
    assert plan.costs_before(before, "s2", 99.0)["spent_usd"] == 1.5, "another session's total says nothing"
    assert plan.costs_before(before, "s1", 10.0)["attempt_usd"] == 0.0
