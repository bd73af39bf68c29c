"""What each task of an agent cost, from its events. Pure."""

from collections import deque
from typing import Any, Final

import orjson

from komputer.domain import money
from komputer.domain.tasks import END_TYPES, usage_of

INSTRUCTION_LIMIT: Final = 200
"""Characters of a task's instructions that are shown."""
EVENTS_LIMIT_BYTES: Final = 16 * 1024 * 1024
"""Of all events in one answer; the oldest are left out. A guess, unmeasured: most agents' 10,000 events are less."""
TOKENS: Final = {
    "input": "inputTokens",
    "output": "outputTokens",
    "cache_read": "cacheReadTokens",
    "cache_creation": "cacheCreateTokens",
}
"""Field of the response for each kind of tokens."""

Event = dict[str, Any]


class Costs:
    """What each task cost of which events, oldest first, tell; running, cancelled and failed ones too. Of the events
    nothing is kept but sums, and with `with_events` their newest `EVENTS_LIMIT_BYTES`."""

    def __init__(self, *, with_events: bool) -> None:
        self._with_events = with_events
        self._found: dict[str, Event] = {}
        self._kept: deque[tuple[str, bytes]] = deque()
        self._kept_bytes = 0

    def __len__(self) -> int:
        """How many tasks."""
        return len(self._found)

    def add(self, entry: bytes) -> None:
        """The next event, as JSON."""
        event = orjson.loads(entry)
        payload, task_id = event["payload"], event["payload"].get("task_id")
        if not isinstance(task_id, str):  # what the log holds of no task
            return
        task = self._found.setdefault(
            task_id,
            {
                "index": len(self._found) + 1,
                "taskID": task_id,
                "startedAt": event["timestamp"],
                "costUSD": 0.0,
                "eventCount": 0,
            },
        )
        task["eventCount"] += 1
        if event["type"] == "task_started":
            task["instruction"] = _short(str(payload.get("instructions", "")))
        elif event["type"] == "user_message" and payload.get("steer"):
            task["steer"] = True
        elif event["type"] in END_TYPES:
            task |= _end(event)
        if self._with_events:
            self._keep(task_id, entry)

    def _keep(self, task_id: str, entry: bytes) -> None:
        self._kept.append((task_id, entry))
        self._kept_bytes += len(entry)
        while self._kept_bytes > EVENTS_LIMIT_BYTES:
            self._kept_bytes -= len(self._kept.popleft()[1])

    def tasks(self, newest: int | None = None) -> list[Event]:
        """One entry for each task, the oldest first and numbered from 1; with `newest` the last so many of them. A task
        whose start is no longer there begins with what is."""
        shown = list(self._found.values())[-newest if newest else 0 :]
        if not self._with_events:
            return shown
        events: dict[str, list[orjson.Fragment]] = {task["taskID"]: [] for task in shown}
        for task_id, entry in self._kept:
            if task_id in events:
                events[task_id].append(orjson.Fragment(entry))
        return [{**task, "events": events[task["taskID"]]} for task in shown]


def _end(event: Event) -> dict[str, Any]:
    """The fields of a task that its end gives."""
    usage = usage_of(event["payload"])
    found: dict[str, Any] = {
        "completedAt": event["timestamp"],
        "outcome": event["type"],
        "costUSD": money.number(usage.cost_usd),
        "durationMs": usage.duration_ms,
        "turns": usage.turns,
        **{TOKENS[kind]: count for kind, count in usage.tokens.items()},
    }
    return {field: value for field, value in found.items() if value is not None}


def _short(text: str) -> str:
    return text if len(text) <= INSTRUCTION_LIMIT else text[: INSTRUCTION_LIMIT - 1] + "…"
