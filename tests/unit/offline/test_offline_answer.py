from __future__ import annotations

import json
from typing import Any

import pytest

from komputer.offline.answer import answer
from komputer.offline.conversation import BadRequest
from komputer.offline.script import CLOSING, Fail, Say, ToolStep, Wait
from tests.unit.offline.conversations import (
    REMINDER,
    TOOLS,
    assistant,
    outputs,
    played,
    result,
    scripted,
    text,
    turn,
    user,
)

GO_ON = "The task was interrupted. Go on."
NO_RESPONSE = assistant("No response requested.")
"""What the CLI puts between two prompts when it resumes a turn that was cut off."""

BASH = {"tool": "Bash", "input": {"command": "ls"}}
LOST_RESULT = "[Tool call interrupted: the session ended before this call's result was recorded]"


def test_without_a_script_the_task_is_quoted() -> None:
    assert outputs(answer([user(REMINDER, "Count the files.")])) == [
        "This is Komputer's offline model: no Claude was asked. The task was: Count the files."
    ]


def test_a_long_task_is_quoted_partially() -> None:
    assert outputs(answer([user("x" * 5000)]))[0].endswith("x…")


def test_a_turn_ends_with_a_tool_call_or_with_the_script() -> None:
    messages = [
        user(REMINDER, scripted({"think": "hm"}, {"say": "one"}, {"wait": 1}, {"say": "two"}, BASH, {"say": "end"}))
    ]
    first = answer(messages, TOOLS)
    assert outputs(first) == ["one", "two", "Bash"]
    assert outputs(answer([*messages, turn(first), result(first)], TOOLS)) == ["end"]


def test_two_tools_are_two_turns() -> None:
    assert outputs(answer([user(scripted(BASH, BASH))], TOOLS)) == ["Bash"]
    assert played([user(scripted(BASH, BASH))]) == ["Bash", "Bash", CLOSING.say]


def test_a_finished_script_is_not_played_again() -> None:
    messages = [user(scripted({"say": "end"})), assistant("end"), user("And now?")]
    assert "And now?" in outputs(answer(messages))[0]


def test_the_same_script_in_a_later_message_is_played_again_with_its_own_ids_and_counters() -> None:
    script = scripted({"fail": 529}, {"say": "go"}, BASH, {"say": "end"})
    once = [user(script)]
    first = answer(once, TOOLS)
    messages = [*once, turn(first), result(first), assistant("end"), user(script)]
    again = answer(messages, TOOLS)
    assert played(messages) == ["go", "Bash", "end"]
    assert first.id != again.id
    assert first.moves[0].key != again.moves[0].key


def test_the_newest_message_with_a_script_counts() -> None:
    messages = [
        user(scripted({"say": "old"}, BASH, {"say": "old end"})),
        assistant("old"),
        user(scripted({"say": "new"})),
    ]
    assert played(messages) == ["new"]


def test_an_empty_script_cancels_an_unfinished_one() -> None:
    messages = [user(scripted(BASH, {"say": "old"})), assistant({"type": "tool_use", "id": "t", "name": "Bash"})]
    assert "Do it." in played([*messages, user(scripted())])[0]


def test_a_script_is_found_before_other_texts_of_its_message() -> None:
    assert played([user(REMINDER, scripted({"say": "a"}), GO_ON)]) == ["a"]


def test_system_messages_and_string_contents_are_accepted() -> None:
    messages = [{"role": "user", "content": scripted(BASH, {"say": "end"})}]
    first = answer(messages, TOOLS)
    messages += [turn(first), result(first), {"role": "system", "content": "Something changed."}]
    assert played(messages) == ["end"]


def test_a_script_in_a_reminder_or_a_tool_result_does_not_count() -> None:
    messages = [user(REMINDER, scripted(BASH, {"say": "end"}))]
    first = answer(messages, TOOLS)
    assert played([*messages, turn(first), result(first, scripted({"say": "from a file"}))]) == ["end"]


def test_what_the_user_says_while_a_tool_runs_is_a_user_message() -> None:
    messages = [user(scripted(BASH, {"say": "end"}))]
    first = answer(messages, TOOLS)
    steered = (
        "x\n\n<system-reminder>\nThe user sent a new message while you were working:\n"
        + scripted({"say": "steered"})
        + "\n\nThis is how Claude Code surfaces messages the user sends mid-turn.\n</system-reminder>"
    )
    assert played([*messages, turn(first), result(first, steered)]) == ["steered"]


def test_text_lost_with_a_killed_client_is_repeated() -> None:
    messages = [user(scripted({"say": "one"}, {"wait": 9}, {"say": "two"})), NO_RESPONSE, user(GO_ON)]
    assert played(messages) == ["one", "two"]


def test_text_kept_by_an_interrupted_client_is_not_repeated() -> None:
    messages = [
        user(scripted({"say": "one"}, {"wait": 9}, {"say": "two"})),
        assistant("one"),
        user("[Request interrupted by user]"),
        NO_RESPONSE,
        user(GO_ON),
    ]
    assert [type(move.step) for move in answer(messages).moves] == [Wait, Say]
    assert played(messages) == ["two"]


def test_a_truncated_text_is_repeated_in_full() -> None:
    messages = [user(scripted({"say": "one and a half"}, {"say": "two"})), assistant("one and"), user(GO_ON)]
    assert played(messages) == ["one and a half", "two"]


def test_texts_joined_by_the_client_are_recognised() -> None:
    script = user(scripted({"say": "one"}, {"say": "two"}, {"say": "three"}, BASH, {"say": "end"}))
    assert played([script, assistant("one\n\ntwo thr"), user(GO_ON)]) == ["three", "Bash", "end"]


@pytest.mark.parametrize(
    "outcome",
    [LOST_RESULT, "The user doesn't want to proceed with this tool use.", "ok"],
)
def test_a_called_tool_is_not_called_again_whatever_its_result(outcome: str) -> None:
    messages = [user(scripted({"say": "go"}, BASH, {"say": "end"}))]
    first = answer(messages, TOOLS)
    assert played([*messages, turn(first), result(first, outcome), NO_RESPONSE, user(GO_ON)]) == ["end"]


def test_a_tool_call_dropped_by_the_client_is_repeated() -> None:
    messages = [user(scripted({"say": "go"}, BASH, {"say": "end"})), assistant("go"), user(GO_ON)]
    assert played(messages) == ["Bash", "end"]


def test_texts_from_outside_the_script_are_ignored() -> None:
    messages = [user(scripted({"say": "No"}, {"say": "end"})), NO_RESPONSE, assistant("API Error: 529"), user(GO_ON)]
    assert played(messages) == ["No", "end"]
    assert played([user(scripted({"say": "No"})), NO_RESPONSE, user(GO_ON)]) == ["No"]


def test_an_invalid_script_is_refused_in_the_newest_prompt_and_ignored_later() -> None:
    older = [user(scripted(BASH, {"say": "old"})), assistant("something")]
    with pytest.raises(BadRequest, match="sya"):
        answer([*older, user(REMINDER, scripted({"sya": "x"}))])
    assert "Next." in played([*older, user(scripted({"sya": "x"}), "Next.")])[0]
    assert "Next." in played([*older, user(scripted({"sya": "x"})), assistant("API Error: 400"), user("Next.")])[0]


def test_a_tool_step_without_tools_in_the_request_is_answered_with_a_sentence() -> None:
    assert outputs(answer([user(scripted(BASH))], [])) == [
        "The script's next step calls the tool Bash, but this request offers no tools."
    ]


def test_a_request_for_a_title_does_not_advance_the_script() -> None:
    schema = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
    [title] = outputs(answer([user(scripted({"say": "one"}))], schema=schema))
    assert json.loads(title) == {"title": "Offline"}


COMPACT = "CRITICAL: Respond with TEXT ONLY. Your response must be an <analysis> block followed by a <summary> block."


def test_a_script_continues_after_a_compaction() -> None:
    messages = [
        user("Hello."),
        assistant("Hello."),
        user(scripted({"say": "go"}, {"fail": 500}, BASH, {"fail": 529}, {"say": "end"})),
    ]
    first = answer(messages, TOOLS)
    after_tool = [*messages, turn(first), result(first)]
    [summary] = outputs(answer([*after_tool, user(COMPACT)], TOOLS))
    assert summary.startswith("<summary>")
    compacted = [user(f"This session is being continued.\n{summary.removeprefix('<summary>')}", "Go on.")]
    assert played(compacted) == ["end"]
    assert answer(compacted, TOOLS).moves[0].key == answer(after_tool, TOOLS).moves[0].key


def test_messages_kept_after_a_compaction_are_counted_from_the_summary() -> None:
    messages = [user(scripted(BASH, {"say": "go"}, BASH, {"say": "end"}))]
    first = answer(messages, TOOLS)
    [summary] = outputs(answer([*messages, turn(first), user(COMPACT)], TOOLS))
    compacted = [user(summary)]
    second = answer(compacted, TOOLS)
    assert outputs(second) == ["go", "Bash"]
    assert played([*compacted, turn(second), result(second)]) == ["end"]


def test_a_conversation_without_a_script_is_summarised_as_well() -> None:
    assert "```offline" not in outputs(answer([user("Hello."), assistant("Hello."), user(COMPACT)]))[0]


def test_a_subagents_conversation_has_its_own_script() -> None:
    inner = scripted({"say": "inner"})
    outer = user(scripted({"tool": "Agent", "input": {"prompt": inner}}, {"say": "outer"}))
    assert played([outer])[0] == "Agent"
    assert played([user(REMINDER, inner)]) == ["inner"]


def test_usage_is_that_of_the_turn_also_after_it_was_resumed() -> None:
    usage = {"usage": {"input_tokens": 1000, "output_tokens": 0, "cache_read_input_tokens": 5}}
    script = user(scripted(usage, {"say": "one"}, {"say": "two"}, BASH, {"say": "end"}))
    for messages in ([script], [script, assistant("one"), user(GO_ON)]):
        decided = answer(messages, TOOLS)
        assert (decided.input_tokens, decided.output_tokens, decided.cache_read_input_tokens) == (1000, 0, 5)
    later = [script, turn(decided), result(decided)]
    assert answer(later, TOOLS).input_tokens != 1000


def test_usage_does_not_depend_on_additions_of_the_client_or_of_tools() -> None:
    def counted(reminder: str, output: str) -> tuple[int, int]:
        messages = [user(text(f"<system-reminder>{reminder}</system-reminder>"), scripted(BASH, {"say": "end"}))]
        first = answer(messages, TOOLS)
        second = answer([*messages, turn(first), result(first, output)], TOOLS)
        return second.input_tokens, second.output_tokens

    assert counted("cwd: /a", "x") == counted("cwd: /a/longer/path", "many words " * 50)


def test_usage_grows_with_the_conversation() -> None:
    short, long = [user("Hi.")], [user("Hi."), assistant("x" * 400), user("More.")]
    assert answer(long).input_tokens >= answer(short).input_tokens + 100


def test_equal_conversations_get_equal_answers() -> None:
    messages = [user(REMINDER, scripted({"say": "go"}, BASH, {"say": "end"}))]
    assert answer(messages, TOOLS) == answer(json.loads(json.dumps(messages)), TOOLS)
    assert answer(messages, TOOLS).id != answer([*messages, NO_RESPONSE, user(GO_ON)], TOOLS).id


def test_failures_occur_where_the_script_has_them() -> None:
    decided = answer([user(scripted({"fail": 529, "times": 2}, {"say": "go"}, {"fail": 500}, BASH))], TOOLS)
    assert [type(move.step) for move in decided.moves] == [Fail, Say, Fail, ToolStep]


@pytest.mark.parametrize(
    "messages",
    [
        None,
        [],
        {},
        ["x"],
        [{}],
        [{"role": "robot", "content": "x"}],
        [{"role": "user"}],
        [{"role": "user", "content": [1]}],
    ],
)
def test_malformed_messages_are_refused(messages: Any) -> None:
    with pytest.raises(BadRequest, match="messages"):
        answer(messages)
