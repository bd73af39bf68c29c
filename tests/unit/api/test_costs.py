"""What tasks cost, from their events."""

from typing import Any

from komputer.api.costs import INSTRUCTION_LIMIT, tasks


def event(n: int, kind: str, task: str, **payload: Any) -> dict[str, Any]:
    return {
        "id": f"{n}-0",
        "type": kind,
        "timestamp": f"2026-01-01T00:00:0{n}.000000Z",
        "payload": {"task_id": task, **payload},
    }


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
    assert [len(task["events"]) for task in tasks(STORY, with_events=True)] == [3, 2, 1]


def test_a_task_whose_start_is_gone_is_told_from_what_is_left() -> None:
    (task,) = tasks(STORY[2:3], with_events=False)
    assert (task["costUSD"], task["startedAt"]) == (0.25, STORY[2]["timestamp"])
