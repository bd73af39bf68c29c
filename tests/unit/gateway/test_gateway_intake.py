"""What is taken from a runtime's post, and in which form."""

from typing import Any

import orjson
import pytest

from komputer.domain.agent import Agent
from komputer.domain.errors import Invalid
from komputer.events import schema
from komputer.gateway.agents.intake import EVENT_LIMIT_BYTES, events_of
from komputer.protocol import wire

TASK = "01JAPJ0000000000000000000A"
AGENT = Agent.model_validate({"metadata": {"name": "ada"}, "spec": {"instructions": "x", "model": "claude-opus-5-5"}})


def taken(kind: str, payload: dict[str, Any], *, task: str = TASK) -> schema.Event:
    event = {"n": 1, "type": kind, "payload": {"task_id": task, **payload}, "generation": 3}
    post = wire.Post.model_validate({"term": 1, "events": [event]})
    (numbered,) = events_of(post, AGENT)
    assert (numbered.seq, numbered.generation) == (1, 3)
    return numbered.event


def refused(kind: str, payload: dict[str, Any], *, task: str = TASK) -> Invalid:
    with pytest.raises(Invalid) as refusal:
        taken(kind, payload, task=task)
    return refusal.value


def call(tool_input: dict[str, Any]) -> dict[str, Any]:
    return {"id": "t", "tool": "Bash", "input": tool_input}


def test_a_known_event_is_taken_as_it_is() -> None:
    assert taken("text", {"content": "Hello"}) == schema.AgentText(task_id=TASK, content="Hello")


@pytest.mark.parametrize("task", ["", "t1", "01japj0000000000000000000a", TASK + "A", f"{TASK}\n"])
def test_a_task_that_nobody_could_have_assigned_is_refused(task: str) -> None:
    assert refused("text", {"content": "Hello"}, task=task).code == "invalid_event"


def test_unknown_types_and_missing_fields_are_refused() -> None:
    assert refused("rumour", {"content": "Hello"}).code == "invalid_event"
    assert refused("text", {}).field is not None
    with pytest.raises(Invalid):
        events_of(wire.Post(term=1, events=[wire.NumberedEvent(seq=1, type="text", payload={"content": "x"})]), AGENT)


@pytest.mark.parametrize("cost", [-0.01, float("inf"), float("nan"), "much"])
def test_a_cost_that_is_none_is_refused(cost: object) -> None:
    completed = {"result": "", "cost_usd": cost, "duration_ms": 1, "turns": 1}
    assert refused("task_completed", completed).field == "cost_usd"


def test_long_texts_are_cut_and_say_so() -> None:
    event = taken("text", {"content": "x" * (schema.TEXT_LIMIT + 1)})
    assert isinstance(event, schema.AgentText)
    assert len(event.content) == schema.TEXT_LIMIT
    assert event.truncated


def test_an_input_too_wide_for_an_event_is_left_out_of_it() -> None:
    event = taken("tool_call", call({f"k{n}": "x" * 1000 for n in range(400)}))
    assert isinstance(event, schema.ToolCall)
    assert (event.input, event.truncated, event.tool) == ({}, True, "Bash")
    kept = taken("tool_call", call({f"k{n}": "x" * 1000 for n in range(200)}))
    assert len(orjson.dumps(schema.to_wire(kept)[1])) < EVENT_LIMIT_BYTES
    assert kept.truncated is None


def test_a_start_is_written_under_the_agents_own_model() -> None:
    def started(model: str) -> schema.Event:
        return taken("task_started", {"instructions": "x", "resuming_session": False, "model": model})

    for named, written in (("claude-opus-5-5", "claude-opus-5-5"), ("claude-dearest-9", "claude-opus-5-5")):
        event = started(named)
        assert isinstance(event, schema.TaskStarted)
        assert event.model == written
