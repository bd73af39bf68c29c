"""The cost of each task of an agent, computed from its events. Pure."""

from collections import deque
from collections.abc import Mapping
from typing import Annotated, Any, Final

import orjson
from pydantic import Field

from komputer.domain import money
from komputer.domain.base import WireModel
from komputer.domain.tasks import END_TYPES, usage_of

INSTRUCTION_LIMIT: Final = 200
"""Maximum length of a task's instructions in the answer, in characters."""
EVENTS_LIMIT_BYTES: Final = 16 * 1024 * 1024
"""Maximum size of all events in one answer; the oldest are left out. A guess, unmeasured: the 10,000 events of most
agents are smaller."""
TOKENS: Final = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_tokens",
    "cache_creation": "cache_create_tokens",
}
"""Fields of `TaskCost` by kind of tokens."""

Event = dict[str, Any]


class TaskCost(WireModel):
    """One task: its instructions, its duration and its cost in US dollars."""

    index: Annotated[int, Field(description="Place among the tasks whose events are kept; 1 is the oldest.")]
    task_id: Annotated[str, Field(alias="taskID")]
    started_at: Annotated[str, Field(description="Time of the oldest event that is kept.")]
    cost_usd: Annotated[float, Field(alias="costUSD")]
    event_count: int
    completed_at: str | None = None
    outcome: Annotated[
        str | None, Field(description="task_completed, task_cancelled or error; absent while the task runs.")
    ] = None
    instruction: Annotated[str | None, Field(description="The first 200 characters of the instructions.")] = None
    steer: Annotated[bool | None, Field(description="Whether messages were sent to the running task.")] = None
    duration_ms: int | None = None
    turns: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_create_tokens: int | None = None


class Costs:
    """Sums up the events of an agent by task. Add them oldest first.

    Only sums are kept in memory and, with `with_events`, the newest `EVENTS_LIMIT_BYTES` of the events.
    """

    def __init__(self, *, with_events: bool) -> None:
        self._with_events = with_events
        self._tasks: dict[str, dict[str, Any]] = {}
        """Fields of `TaskCost` by task."""
        self._kept: deque[tuple[str, bytes]] = deque()
        self._kept_bytes = 0

    def __len__(self) -> int:
        """The number of tasks."""
        return len(self._tasks)

    def add(self, entry: bytes) -> None:
        """Count the next event, given as JSON."""
        event = orjson.loads(entry)
        payload, task_id = event["payload"], event["payload"].get("task_id")
        if not isinstance(task_id, str):  # an event that belongs to no task
            return
        task = self._tasks.setdefault(
            task_id,
            {
                "index": len(self._tasks) + 1,
                "task_id": task_id,
                "started_at": event["timestamp"],
                "cost_usd": 0.0,
                "event_count": 0,
            },
        )
        task["event_count"] += 1
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

    def tasks(self, newest: int | None = None) -> list[TaskCost]:
        """Return the tasks, oldest first; with `newest` only the last ones. A task whose first events are no longer
        kept is computed from the remaining ones."""
        shown = list(self._tasks.values())[-newest if newest else 0 :]
        return [TaskCost(**task) for task in shown]

    def events(self) -> Mapping[str, list[bytes]]:
        """Return the kept events as JSON, oldest first, by task."""
        found: dict[str, list[bytes]] = {task_id: [] for task_id in self._tasks}
        for task_id, entry in self._kept:
            found[task_id].append(entry)
        return found


def _end(event: Event) -> dict[str, Any]:
    """Return the fields of `TaskCost` that the last event of a task determines."""
    usage = usage_of(event["payload"])
    return {
        "completed_at": event["timestamp"],
        "outcome": event["type"],
        "cost_usd": money.number(usage.cost_usd),
        "duration_ms": usage.duration_ms,
        "turns": usage.turns,
        **{TOKENS[kind]: count for kind, count in usage.tokens.items()},
    }


def _short(text: str) -> str:
    return text if len(text) <= INSTRUCTION_LIMIT else text[: INSTRUCTION_LIMIT - 1] + "…"
