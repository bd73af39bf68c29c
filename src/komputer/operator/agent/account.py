"""Counts ended tasks in the status. Pure. Each task is counted once, by its id."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

from komputer.domain import money
from komputer.domain.agent import TASK_ID, AgentSpec, AgentStatus
from komputer.domain.errors import Invalid
from komputer.domain.tasks import ENDS, tasks_named, usage_of
from komputer.events.log import LogEntry
from komputer.events.schema import from_wire, line

ENDED_TASKS_KEPT: Final = 32
"""How many ids of ended tasks the status keeps, besides those that other fields of spec and status name. A log that has
lost its last second can deliver an end again, but only until the runtime knows that the status counts it: that is one
or two tasks later."""


def account(status: AgentStatus, spec: AgentSpec, ends: Iterable[LogEntry]) -> AgentStatus:
    """Return the status with `ends` counted and `lastEventID` advanced. `ends` are later than `status.lastEventID`, the
    oldest first."""
    for entry in ends:
        task = str(entry.payload.get("task_id"))
        changes: dict[str, Any] = {"last_event_id": entry.id}
        # An entry that is not the end of a task is skipped, and `lastEventID` advances: it must not block later ends.
        is_end = entry.type in ENDS and TASK_ID.fullmatch(task) is not None
        if is_end and task not in status.ended_tasks:
            changes |= _counted(status, task, entry)
        status = status.model_copy(update=changes)
    kept = tasks_named(spec, status) | set(status.ended_tasks[-ENDED_TASKS_KEPT:])
    pruned = [task for task in status.ended_tasks if task in kept]
    return status if pruned == status.ended_tasks else status.model_copy(update={"ended_tasks": pruned})


def _counted(status: AgentStatus, task: str, entry: LogEntry) -> dict[str, Any]:
    task_status, outcome = ENDS[entry.type]
    usage = usage_of(entry.payload)
    changes: dict[str, Any] = {
        "ended_tasks": [*status.ended_tasks, task],
        "last_task_id": task,
        "task_status": task_status,
        "last_task_outcome": outcome,
        "last_task_cost_usd": money.text(usage.cost_usd),
        "total_cost_usd": money.text(money.added(Decimal(status.total_cost_usd or 0), usage.cost_usd)),
        "last_activity_at": entry.timestamp,
        "completion_time": f"{entry.timestamp[:19]}Z",
    }
    if isinstance(session := entry.payload.get("session_id"), str) and session:
        changes["session_id"] = session
    if entry.type == "task_completed":
        if usage.context_tokens:
            changes["total_tokens"] = usage.context_tokens
        if usage.context_window:
            changes["model_context_window"] = usage.context_window
    try:
        message = line(from_wire(entry.type, entry.payload))
    except Invalid:  # written by a later release: count the fields that this release knows
        return changes
    return changes | ({"last_task_message": message} if message else {})
