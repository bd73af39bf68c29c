"""What each task of an agent cost, from its events. Pure."""

from collections.abc import Iterable
from typing import Any, Final

from komputer.events.types import END_TYPES

INSTRUCTION_LIMIT: Final = 200
"""Characters of a task's instructions that are shown."""
TOKENS: Final = {
    "inputTokens": "input_tokens",
    "outputTokens": "output_tokens",
    "cacheReadTokens": "cache_read_input_tokens",
    "cacheCreateTokens": "cache_creation_input_tokens",
}
"""Fields of an answer, and where an event's `usage` has them."""

Event = dict[str, Any]


def tasks(events: Iterable[Event], *, with_events: bool) -> list[dict[str, Any]]:
    """One entry for each task of which `events`, oldest first, tell, the oldest first and numbered from 1; running,
    cancelled and failed ones too. A task whose start is no longer there begins with what is."""
    found: dict[str, dict[str, Any]] = {}
    for event in events:
        payload, task_id = event["payload"], event["payload"]["task_id"]
        task = found.setdefault(
            task_id,
            {
                "index": len(found) + 1,
                "taskID": task_id,
                "startedAt": event["timestamp"],
                "costUSD": 0.0,
                "eventCount": 0,
            },
        )
        task["eventCount"] += 1
        if with_events:
            task.setdefault("events", []).append(event)
        if event["type"] == "task_started":
            task["instruction"] = _short(payload["instructions"])
        elif event["type"] == "user_message" and payload.get("steer"):
            task["steer"] = True
        elif event["type"] in END_TYPES:
            task |= _end(event)
    return list(found.values())


def _end(event: Event) -> dict[str, Any]:
    payload: dict[str, Any] = event["payload"]
    usage = payload.get("usage") or {}
    given = {"completedAt": event["timestamp"], "outcome": event["type"], "costUSD": payload.get("cost_usd", 0.0)}
    given |= {"durationMs": payload.get("duration_ms"), "turns": payload.get("turns")}
    given |= {field: usage.get(name) for field, name in TOKENS.items()}
    return {field: value for field, value in given.items() if value is not None}


def _short(text: str) -> str:
    return text if len(text) <= INSTRUCTION_LIMIT else text[: INSTRUCTION_LIMIT - 1] + "…"
