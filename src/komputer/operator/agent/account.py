"""Ends of tasks to what the status says of them. Pure; each task is counted once, by its id."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

from komputer.domain import money
from komputer.domain.agent import TASK_ID, AgentSpec, AgentStatus, Outcome, TaskStatus, tasks_named
from komputer.domain.errors import Invalid
from komputer.events.log import LogEntry
from komputer.events.schema import TOKENS_LIMIT, TaskCancelled, TaskCompleted, TaskFailed, from_wire, line, plausible

REMEMBERED: Final = 32
"""Ended tasks whose ids stay in the status beyond those that spec and status name. An end can come again, from a log
that lost its last second, only until the runtime has seen it accounted: one or two tasks later at most."""

_OUTCOMES: Final[dict[str, tuple[TaskStatus, Outcome]]] = {
    "task_completed": ("Complete", "completed"),
    "task_cancelled": ("Complete", "cancelled"),
    "error": ("Error", "error"),
}


def account(status: AgentStatus, spec: AgentSpec, ends: Iterable[LogEntry]) -> AgentStatus:
    """The status with `ends`, which are oldest first and after `status.lastEventID`, counted, and the cursor moved."""
    for entry in ends:
        task = str(entry.payload.get("task_id"))
        changes: dict[str, Any] = {"last_event_id": entry.id}
        # An entry that is no end of a task, for whatever reason, is passed over: the ends behind it count.
        is_end = entry.type in _OUTCOMES and TASK_ID.fullmatch(task) is not None
        if is_end and task not in status.ended_tasks:
            changes |= _counted(status, task, entry)
        status = status.model_copy(update=changes)
    kept = tasks_named(spec, status) | set(status.ended_tasks[-REMEMBERED:])
    pruned = [task for task in status.ended_tasks if task in kept]
    return status if pruned == status.ended_tasks else status.model_copy(update={"ended_tasks": pruned})


def _counted(status: AgentStatus, task: str, entry: LogEntry) -> dict[str, Any]:
    task_status, outcome = _OUTCOMES[entry.type]
    cost = money.amount(entry.payload.get("cost_usd"))
    changes: dict[str, Any] = {
        "ended_tasks": [*status.ended_tasks, task],
        "last_task_id": task,
        "task_status": task_status,
        "last_task_outcome": outcome,
        "last_task_cost_usd": money.text(cost),
        "total_cost_usd": money.text(money.added(Decimal(status.total_cost_usd or 0), cost)),
        "last_activity_at": entry.timestamp,
        "completion_time": f"{entry.timestamp[:19]}Z",
    }
    if isinstance(session := entry.payload.get("session_id"), str) and session:
        changes["session_id"] = session
    try:
        event = from_wire(entry.type, entry.payload)
    except Invalid:  # of a later release: what we do not understand of it is left out, the rest counts
        return changes
    if isinstance(event, TaskCompleted | TaskCancelled | TaskFailed) and (told := line(event)):
        changes["last_task_message"] = told
    if isinstance(event, TaskCompleted):
        if tokens := context_tokens(event):
            changes["total_tokens"] = tokens
        if event.context_window:
            changes["model_context_window"] = event.context_window
    return changes


def context_tokens(event: TaskCompleted) -> int:
    """How full the conversation is: what the last turn sent, as published clients read `totalTokens`."""
    last = [
        _count(event.last_usage, f) for f in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    ]
    return sum(last) or sum(
        _count(event.usage, f)
        for f in ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    )


def _count(usage: dict[str, Any], field: str) -> int:
    return plausible(usage.get(field), TOKENS_LIMIT)
