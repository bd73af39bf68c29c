"""What tasks cost, from their events."""

from collections.abc import Iterable
from typing import Any

import orjson
import pytest

from komputer.services import costs
from komputer.services.costs import INSTRUCTION_LIMIT, Costs


def event(n: int, kind: str, task: str, **payload: Any) -> dict[str, Any]:
    return {
        "id": f"{n}-0",
        "type": kind,
        "timestamp": f"2026-01-01T00:00:0{n}.000000Z",
        "payload": {"task_id": task, **payload},
    }


def tasks(story: Iterable[dict[str, Any]], *, with_events: bool, newest: int | None = None) -> list[dict[str, Any]]:
    """As a client reads them."""
    found = Costs(with_events=with_events)
    for each in story:
        found.add(orjson.dumps(each))
    kept = found.events()
    events = {task: {"events": [orjson.loads(entry) for entry in kept[task]]} for task in kept} if with_events else {}
    return [task.to_wire() | events.get(task.task_id, {}) for task in found.tasks(newest)]


STORY = [
    event(1, "task_started", "t1", instructions="x" * 500),
    event(2, "user_message", "t1", content="and y", steer=True),
    event(3, "task_completed", "t1", result="r", cost_usd=0.25, duration_ms=5, turns=2, usage={"input_tokens": 7}),
    event(4, "task_started", "t2", instructions="two"),
    event(5, "error", "t2", error="no", code="internal", cost_usd=0.5),
    event(6, "task_started", "t3", instructions="three"),
]


def test_every_task_is_told_also_those_that_failed_or_still_run() -> None:
    first, second, third = tasks(STORY, with_events=False)
    assert len(first["instruction"]) == INSTRUCTION_LIMIT
    assert (first["index"], first["costUSD"], first["turns"], first["inputTokens"]) == (1, 0.25, 2, 7)
    assert (first["steer"], first["eventCount"], first["outcome"]) == (True, 3, "task_completed")
    assert (second["costUSD"], second["outcome"], second["completedAt"]) == (0.5, "error", STORY[4]["timestamp"])
    assert (third["costUSD"], "completedAt" in third, "events" in third) == (0.0, False, False)


def test_events_come_along_where_they_are_asked_for() -> None:
    told = tasks(STORY, with_events=True)
    assert [len(task["events"]) for task in told] == [3, 2, 1]
    assert [event for task in told for event in task["events"]] == STORY
    assert tasks(STORY, with_events=True, newest=2) == told[1:]


def test_of_more_events_than_an_answer_may_hold_the_newest_come_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "EVENTS_LIMIT_BYTES", 2 * len(orjson.dumps(STORY[4])))
    told = tasks(STORY, with_events=True)
    assert [task["events"] for task in told] == [[], STORY[4:5], STORY[5:]]
    assert [task["eventCount"] for task in told] == [3, 2, 1]


def test_a_task_whose_start_is_gone_is_told_from_what_is_left() -> None:
    (task,) = tasks(STORY[2:3], with_events=False)
    assert (task["costUSD"], task["startedAt"]) == (0.25, STORY[2]["timestamp"])
