import json
from typing import Any, get_args

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from komputer.domain.errors import Invalid
from komputer.domain.tasks import END_TYPES
from komputer.events import schema
from komputer.events.schema import Event, clipped, from_wire, line, to_wire

SAMPLES: list[Event] = [
    schema.TaskStarted(task_id="t", instructions="first\nsecond", resuming_session=False, model="m"),
    schema.TaskResumed(task_id="t", attempt=2, cause="a restart"),
    schema.UserMessage(task_id="t", content="please", steer=True),
    schema.Thinking(task_id="t", content="hm"),
    schema.AgentText(task_id="t", content="\n\n  hello  \nworld"),
    schema.ToolCall(task_id="t", id="c", tool="Bash", input={"command": "python analyze.py"}),
    schema.ToolResult(task_id="t", id="c", tool="Bash", input={}, output="done", is_error=False, duration_ms=3),
    schema.Compaction(task_id="t", trigger="auto", tokens_before=9, tokens_after=3),
    schema.Retry(task_id="t", attempt=1, max_retries=10, delay_ms=500, status=529),
    schema.TaskCompleted(task_id="t", result="42", cost_usd=0.1, duration_ms=1, turns=1),
    schema.TaskCancelled(task_id="t", reason="asked for"),
    schema.TaskFailed(task_id="t", error="no", code="runtime_lost"),
]


def test_there_is_a_sample_of_every_kind() -> None:
    assert {type(sample) for sample in SAMPLES} == set(get_args(Event))
    assert {sample.type for sample in SAMPLES} == schema.TYPES
    assert {sample.type for sample in SAMPLES if isinstance(sample, schema.End)} == END_TYPES


@pytest.mark.parametrize("event", SAMPLES, ids=lambda event: event.type)
def test_every_event_comes_back_from_its_wire_form(event: Event) -> None:
    kind, payload = to_wire(event)
    assert from_wire(kind, json.loads(json.dumps(payload))) == event
    assert payload["task_id"] == "t"
    assert not {"type", "truncated"} & set(payload)


@pytest.mark.parametrize(
    ("event", "told"),
    list(
        zip(
            SAMPLES,
            [
                *("first", "Resumed after a restart", "please", "Thinking", "hello", "Calling Bash: python analyze.py"),
                *(None, "Compacted the conversation", "Model did not answer, retry 1 of 10", "42"),
                *("Cancelled: asked for", "no"),
            ],
            strict=True,
        )
    ),
    ids=lambda value: getattr(value, "type", ""),
)
def test_the_line_a_person_reads(event: Event, told: str | None) -> None:
    assert line(event) == told


def test_a_reason_that_says_cancelled_is_not_introduced_as_such() -> None:
    for reason in ("cancelled by request", "Cancelled by request"):
        end = schema.TaskCancelled(task_id="t", reason=reason, cost_usd=0, session_id=None)
        assert line(end) == "Cancelled by request"


def test_a_long_line_is_cut_and_a_failed_tool_is_shown() -> None:
    assert line(schema.AgentText(task_id="t", content="x" * 999)) == "x" * 199 + "…"
    assert line(schema.ToolCall(task_id="t", id="c", tool="Other", input={})) == "Calling Other"
    wrong = schema.ToolResult(task_id="t", id="c", tool="Bash", input={}, output="no", is_error=True, duration_ms=3)
    assert line(wrong) == "Bash failed: no"


@pytest.mark.parametrize(
    ("kind", "payload", "field"),
    [
        ("text", {}, "task_id"),
        ("text", {"task_id": "", "content": "x"}, "task_id"),
        ("text", {"task_id": "t"}, "content"),
        ("text", {"task_id": "t", "content": 5}, "content"),
        ("text", {"task_id": "t", "content": "x" * 65_537}, "content"),
        ("task_cancelled", {"task_id": "t", "reason": "r", "cost_usd": -0.01}, "cost_usd"),
        ("task_cancelled", {"task_id": "t", "reason": "r", "cost_usd": float("nan")}, "cost_usd"),
        ("task_cancelled", {"task_id": "t", "reason": "r", "cost_usd": float("inf")}, "cost_usd"),
        ("error", {"task_id": "t", "error": "e", "code": "Not a slug"}, "code"),
        ("task_resumed", {"task_id": "t", "attempt": -1, "cause": "c"}, "attempt"),
        ("tool_call", {"task_id": "t", "id": "c", "tool": "B", "input": []}, "input"),
        ("never_heard_of", {"task_id": "t"}, "type"),
    ],
)
def test_a_malformed_event_is_refused_with_its_field(kind: str, payload: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        from_wire(kind, payload)
    assert (refused.value.code, refused.value.field) == ("invalid_event", field)


def test_long_texts_are_cut_and_marked() -> None:
    event = clipped(schema.AgentText(task_id="t", content="x" * 20_000))
    assert isinstance(event, schema.AgentText)
    assert (len(event.content), event.truncated) == (schema.TEXT_LIMIT, True)
    nested = clipped(schema.ToolCall(task_id="t", id="c", tool="W", input={"edits": [{"new": "y" * 20_000}]}))
    assert isinstance(nested, schema.ToolCall)
    assert len(nested.input["edits"][0]["new"]) == schema.TEXT_LIMIT
    assert to_wire(nested)[1]["truncated"] is True
    short = schema.AgentText(task_id="t", content="x")
    assert clipped(short) is short


def test_what_no_parser_would_read_is_made_plain() -> None:
    deep: dict[str, Any] = {}
    inner = deep
    for _ in range(500):
        inner["a"] = {}
        inner = inner["a"]
    strange = {
        "half": "\ud83d",
        "\udc00key": 1,
        "nan": float("nan"),
        "big": 2**80,
        "deep": deep,
        "pair": "\ud83d\ude00",
    }
    event = schema.ToolCall(task_id="t", id="\ud83d", tool="T", input=strange)
    payload = json.loads(orjson.dumps(to_wire(event)[1]))
    assert payload["id"] == "\ufffd"
    assert payload["input"]["half"] == "\ufffd"
    assert payload["input"]["\ufffdkey"] == 1
    assert payload["input"]["nan"] is None
    assert payload["input"]["big"] == str(2**80)
    assert payload["input"]["pair"] == "😀"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=9),
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(max_size=5), part, max_size=4),
    max_leaves=20,
)


@given(st.sampled_from(sorted(schema.TYPES)), st.dictionaries(st.text(max_size=9), JSON, max_size=6), JSON)
def test_garbage_is_refused_or_can_be_written(kind: str, payload: dict[str, Any], value: Any) -> None:
    guess = {"task_id": "t", "id": "c", "tool": "T", "input": value, "content": value, "reason": value, **payload}
    try:
        event = from_wire(kind, guess)
    except Invalid:
        return
    orjson.dumps(to_wire(clipped(event))[1])
    line(event)
