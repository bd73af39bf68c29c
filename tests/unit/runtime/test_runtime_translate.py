"""From what Claude says to events."""

from typing import Any

from claude_agent_sdk import (
    AssistantMessage,
    SystemMessage,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)

from komputer.events.schema import AgentText, Compaction, Event, Retry, Thinking, ToolCall, ToolResult, clipped, to_wire
from komputer.runtime.claude.translate import INPUT_LIMIT_BYTES, Translation, translated

NEW = Translation(task_id="t1")


def said(*blocks: Any, **more: Any) -> AssistantMessage:
    return AssistantMessage(content=list(blocks), model="m", **more)


def result(content: Any, *, is_error: bool | None = None, of: str = "c1") -> UserMessage:
    return UserMessage(content=[ToolResultBlock(tool_use_id=of, content=content, is_error=is_error)])


def told(*messages: Any) -> list[Event]:
    state, events = NEW, list[Event]()
    for second, message in enumerate(messages):
        state, more = translated(state, message, float(second))
        events += more
    return events


def test_what_the_model_says_thinks_and_calls_are_events_in_order() -> None:
    message = said(ThinkingBlock("hm", "sig"), TextBlock("hello"), ToolUseBlock("c1", "Bash", {"command": "ls"}))
    assert told(message) == [
        Thinking(task_id="t1", content="hm"),
        AgentText(task_id="t1", content="hello"),
        ToolCall(task_id="t1", id="c1", tool="Bash", input={"command": "ls"}),
    ]


def test_a_tool_s_result_repeats_its_call_and_says_how_long_it_took() -> None:
    _, event = told(said(ToolUseBlock("c1", "Bash", {"command": "ls"})), result("a\nb", is_error=True))
    assert event == ToolResult(
        task_id="t1", id="c1", tool="Bash", input={"command": "ls"}, output="a\nb", is_error=True, duration_ms=1000
    )


def test_results_of_parallel_calls_find_their_own() -> None:
    calls = said(ToolUseBlock("c1", "Read", {"n": 1})), said(ToolUseBlock("c2", "Grep", {"n": 2}))
    *_, second, first = told(*calls, result("two", of="c2"), result("one"))
    assert isinstance(first, ToolResult)
    assert isinstance(second, ToolResult)
    assert (second.tool, second.duration_ms, first.tool, first.duration_ms) == ("Grep", 1000, "Read", 3000)


def test_a_result_is_text_whatever_it_is_made_of() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "image", "source": {}}, {"type": "text", "text": "two"}]
    outputs = [event.output for event in told(result(parts), result(None)) if isinstance(event, ToolResult)]
    assert outputs == ["one\n[image]\ntwo", ""]


def test_a_result_nobody_called_for_is_still_told() -> None:
    (event,) = told(result("x"))
    assert isinstance(event, ToolResult)
    assert (event.tool, event.duration_ms) == ("unknown", 0)


def test_what_claude_s_own_process_made_up_is_no_event_but_its_error_is_kept() -> None:
    made_up = AssistantMessage(content=[TextBlock("API Error")], model="<synthetic>", error="rate_limit")
    state, events = translated(NEW, made_up, 0.0)
    assert (events, state.api_error) == ([], "rate_limit")
    state, _ = translated(state, said(TextBlock("here again")), 1.0)
    assert state.api_error is None


def test_retries_and_compactions_are_told() -> None:
    retry = {"attempt": 2, "max_retries": 10, "retry_delay_ms": 1170.4, "error_status": 529}
    compact = {"compact_metadata": {"trigger": "manual", "pre_tokens": 900, "post_tokens": 90}}
    assert told(
        SystemMessage("api_retry", retry),
        SystemMessage("api_retry", {"attempt": 1, "error_status": None}),
        SystemMessage("compact_boundary", compact),
        SystemMessage("status", {}),
    ) == [
        Retry(task_id="t1", attempt=2, max_retries=10, delay_ms=1170, status=529),
        Retry(task_id="t1", attempt=1, max_retries=0, delay_ms=0, status=None),
        Compaction(task_id="t1", trigger="manual", tokens_before=900, tokens_after=90),
    ]


def test_empty_words_and_user_messages_are_no_events() -> None:
    assert told(said(TextBlock(" \n"), ThinkingBlock("", "sig")), UserMessage(content="[Request interrupted]")) == []


def test_an_open_call_is_known_until_its_result() -> None:
    state, _ = translated(NEW, said(ToolUseBlock("c1", "Bash", {})), 0.0)
    assert list(state.calls) == ["c1"]
    state, _ = translated(state, result("x"), 1.0)
    assert (dict(state.calls), state.steps) == ({}, 1)


def test_no_event_is_larger_than_a_post_takes() -> None:
    wide = {"command": "x" * 999_999, "rows": [["y" * 100] * 100] * 100}
    call, answer = told(said(ToolUseBlock("c1", "Write", wide)), result("z" * 9_999_999))
    assert isinstance(call, ToolCall)
    assert "omitted" in call.input
    for event in (call, answer):
        assert len(str(to_wire(clipped(event)))) < INPUT_LIMIT_BYTES
    assert clipped(answer).truncated


def test_half_a_character_does_not_stop_the_telling() -> None:
    events = told(said(TextBlock("\ud83d"), ToolUseBlock("c1", "Bash", {"command": "\ude00"})))
    assert str([to_wire(clipped(event)) for event in events]).encode()
