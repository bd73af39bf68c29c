"""With what an attempt begins where something was said to the task, and what its end says."""

from dataclasses import replace

import pytest
from claude_agent_sdk import ResultMessage

from komputer.events.types import TaskCompleted, TaskFailed
from komputer.runtime import plan
from komputer.runtime.ending import Asked, Outcome, Verdict, judged, together
from komputer.runtime.ledger import Heard, OpenTask
from komputer.runtime.plan import Recorded, Start
from tests.unit.runtime.test_runtime_ledger import TASK

ONE, TWO = Heard("10-1", "one"), Heard("10-2", "two")
TOLD = replace(TASK, messages=(ONE, TWO), phase="acted", cause="claude_died")


def recorded(*uuids: str, has_prompt: bool = True) -> Recorded:
    return Recorded(has_file=True, has_conversation=True, has_prompt=has_prompt, messages=frozenset(uuids))


def again(task: OpenTask, found: Recorded) -> Start:
    start = plan.again(task, found, 5, "new")
    assert isinstance(start, Start)
    return start


def result(**fields: object) -> ResultMessage:
    given = {"subtype": "success", "duration_ms": 1, "duration_api_ms": 1, "is_error": False, "num_turns": 1}
    return ResultMessage(**{**given, "session_id": "s1", "result": "done", **fields})  # type: ignore[arg-type]


def test_a_message_has_the_same_uuid_each_time_and_no_other_has_it() -> None:
    assert ONE.uuid == Heard("10-1", "other words").uuid != TWO.uuid


@pytest.mark.parametrize(("taken", "given"), [((), (ONE, TWO)), ((ONE,), (TWO,)), ((TWO,), (ONE,)), ((ONE, TWO), ())])
def test_after_a_crash_what_the_conversation_lacks_is_given_and_nothing_else(
    taken: tuple[Heard, ...], given: tuple[Heard, ...]
) -> None:
    start = again(TOLD, recorded(*(heard.uuid for heard in taken)))
    assert (start.messages, start.heard) == (given, 2)


def test_in_a_new_conversation_everything_is_said_again() -> None:
    task = replace(TOLD, phase="written", cause="session_refused")
    start = again(task, recorded(ONE.uuid, has_prompt=False))
    assert (start.session_id, start.prompt, start.messages) == ("new", "do it", (ONE, TWO))


def test_a_task_whose_end_was_unheard_goes_on_with_the_message_itself() -> None:
    task = replace(TOLD, phase="unheard", answered=1)
    start = plan.going_on(task, recorded(ONE.uuid), "new")
    assert isinstance(start, Start)
    assert (start.prompt, start.prompt_uuid, start.messages, start.resume) == ("two", TWO.uuid, (), True)


def test_where_the_message_never_comes_the_task_ends_and_says_so() -> None:
    lost = plan.going_on(replace(TOLD, phase="unheard", answered=2), recorded(ONE.uuid, TWO.uuid), "new")
    assert isinstance(lost, TaskFailed)
    assert lost.code == "message_lost"


def test_a_result_before_the_last_answer_does_not_complete_the_task() -> None:
    early = Outcome(result=result(), is_answered=False)
    assert judged(TASK, early, Asked.STOP, 300, 101.0) is Verdict.KEEP
    cancelled = judged(TASK, early, Asked.CANCEL, 300, 101.0)
    assert getattr(cancelled, "type", None) == "task_cancelled"
    assert isinstance(judged(TASK, Outcome(result=result()), Asked.CANCEL, 300, 101.0), TaskCompleted)


def test_of_several_turns_the_last_word_counts_and_all_that_they_took() -> None:
    first = result(result="one", num_turns=2, usage={"input_tokens": 10, "output_tokens": 1, "speed": "fast"})
    told = together([first, result(result="two", usage={"input_tokens": 5})])
    assert (told.result, told.num_turns, told.usage) == ("two", 3, {"input_tokens": 15, "output_tokens": 1})


@pytest.mark.parametrize(("text", "prompt"), [("/compact Keep\nit.", "/compact Keep it."), ("/clear", "/compact")])
def test_a_compaction_gives_that_command_and_no_other(text: str, prompt: str) -> None:
    start = plan.first(replace(TASK, kind="compact", instructions=text))
    assert (start.prompt, start.is_command) == (prompt, True)
    assert not plan.first(TASK).is_command


def test_a_compaction_ends_with_what_it_saved_or_says_why_not() -> None:
    task = replace(TASK, kind="compact")
    done = judged(replace(task, compacted=(500, 40)), Outcome(result=result()), None, 300, 101.0)
    assert isinstance(done, TaskCompleted)
    assert done.result == "Compacted the conversation from 500 to 40 tokens."
    for told, code in ((None, "nothing_to_compact"), ("The API is away", "compaction_failed")):
        failed = judged(task, Outcome(result=result(), compact_error=told), None, 300, 101.0)
        assert isinstance(failed, TaskFailed)
        assert failed.code == code
