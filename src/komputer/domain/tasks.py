"""Every decision about an agent's tasks: which one is wanted, whether the agent is busy, what an end means and what the
task used. Pure.

Two witnesses may disagree for a moment: the resource (`AgentSpec`, `AgentStatus`) and the event log (`LoggedTask`). The
functions here are the only place that weighs them. Whoever needs an answer calls one of them, and compares no ids or
states itself. `tests/model` checks these rules; the names in parentheses are its rules.
"""

from collections.abc import Collection, Mapping
from decimal import Decimal
from enum import Enum
from typing import Any, Final, NamedTuple

from komputer.domain import money
from komputer.domain.agent import AgentSpec, AgentStatus, Outcome, TaskKind, TaskStatus, digest_of

# ---- wanted ---------------------------------------------------------------------------------------------------------


class WantedTask(NamedTuple):
    """A task that is to be run now."""

    id: str
    instructions: str
    kind: TaskKind | None = None


class Unrecorded(Enum):
    """The manifest's task has no id yet: the operator will give it one. The agent counts as busy meanwhile."""

    YES = "unrecorded"


def wanted(spec: AgentSpec, status: AgentStatus, ended: Collection[str] = ()) -> WantedTask | Unrecorded | None:
    """Return the task that is to be run now; None where there is none.

    `ended` are ids of tasks that the log shows as ended; those that the status names are added here. The API's task is
    wanted until it has ended, whatever the manifest says meanwhile (`sticky`); then the manifest's, unless that has
    ended or the API's task covers it.
    """
    over = {*ended, *status.ended_tasks}
    task, recorded = spec.task, status.manifest_task
    if task and task.id not in over:
        return WantedTask(task.id, task.instructions, task.kind)
    if recorded is None or recorded.digest != digest_of(spec.instructions):
        return Unrecorded.YES
    if task and recorded.id in (task.id, task.covers.manifest_task_id):
        return None
    return None if recorded.id in over else WantedTask(recorded.id, spec.instructions)


def may_start(spec: AgentSpec, status: AgentStatus, task_id: str) -> bool:
    """Return whether an agent's runtime may begin this task now: it is the one that is wanted."""
    task = wanted(spec, status)
    return isinstance(task, WantedTask) and task.id == task_id


def tasks_named(spec: AgentSpec, status: AgentStatus) -> set[str]:
    """Return the ids that spec and status name: they are never dropped from `status.endedTasks` (`memory`)."""
    found = {spec.cancel_task_id, status.manifest_task and status.manifest_task.id}
    if spec.task:
        found |= {spec.task.id, spec.task.covers.manifest_task_id}
    return {name for name in found if name}


# ---- busy -----------------------------------------------------------------------------------------------------------


class LoggedTask(NamedTuple):
    """The newest task that an agent's event log knows. `id` is None where it knows none."""

    id: str | None
    has_ended: bool


NO_LOGGED_TASK: Final = LoggedTask(None, True)

ACTIVE_STATUSES: Final[frozenset[TaskStatus]] = frozenset({"InProgress", "Compacting"})
"""The values of `taskStatus` that an agent shows while it is busy."""


def status_of_running(kind: str | None) -> TaskStatus:
    """Return the `taskStatus` of a running task of this kind."""
    return "Compacting" if kind == "compact" else "InProgress"


def open_task(status: AgentStatus, logged: LoggedTask) -> str | None:
    """Return the id of the task that has started and not ended (`open`). The log says so, unless the status already
    counts the end."""
    if logged.id is None or logged.has_ended or logged.id in status.ended_tasks:
        return None
    return logged.id


def next_task(spec: AgentSpec, status: AgentStatus, logged: LoggedTask) -> WantedTask | Unrecorded | None:
    """Return the task that is wanted, taking into account an end that the status does not count yet."""
    return wanted(spec, status, [logged.id] if logged.id and logged.has_ended else [])


def is_busy(spec: AgentSpec, status: AgentStatus, logged: LoggedTask) -> bool:
    """Return whether the agent has a task: one is open or wanted. A new one may be assigned to an idle agent only."""
    return open_task(status, logged) is not None or next_task(spec, status, logged) is not None


def current_task(spec: AgentSpec, status: AgentStatus, logged: LoggedTask) -> str | None:
    """Return the id of the task that is open or about to start; None for an idle agent, and before the operator has
    given the task an id."""
    if (running := open_task(status, logged)) is not None:
        return running
    task = next_task(spec, status, logged)
    return task.id if isinstance(task, WantedTask) else None


def is_compacting(spec: AgentSpec, status: AgentStatus, logged: LoggedTask) -> bool:
    """Return whether the current task summarises the conversation."""
    task = spec.task
    return task is not None and task.kind == "compact" and current_task(spec, status, logged) == task.id


# ---- outcome --------------------------------------------------------------------------------------------------------


class EndMeaning(NamedTuple):
    """What the status of an agent says after the end of a task."""

    task_status: TaskStatus
    outcome: Outcome


ENDS: Final[Mapping[str, EndMeaning]] = {
    "task_completed": EndMeaning("Complete", "completed"),
    "task_cancelled": EndMeaning("Complete", "cancelled"),
    "error": EndMeaning("Error", "error"),
}
"""The events that end a task, by type, and what each means."""
END_TYPES: Final = frozenset(ENDS)


# ---- usage ----------------------------------------------------------------------------------------------------------

TOKENS_LIMIT: Final = 10**12
"""Tokens of one task: more than a task can use in years."""
TURNS_LIMIT: Final = 10**9
MILLISECONDS_LIMIT: Final = 10 * 366 * 24 * 3600 * 1000
"""Ten years."""

TOKEN_FIELDS: Final[Mapping[str, str]] = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_input_tokens",
    "cache_creation": "cache_creation_input_tokens",
}
"""The kinds of tokens that are counted, and where Claude's `usage` has them."""


def plausible(value: object, limit: int) -> int:
    """Return a count from an untrusted source: 0 for what is no number or negative, at most `limit`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return 0
    return int(value) if value <= limit else limit


class Usage(NamedTuple):
    """What one task used, as its end says. A count that the end does not give is None or missing, not 0."""

    cost_usd: Decimal
    """Exact: see `money`."""
    tokens: Mapping[str, int]
    """By the keys of `TOKEN_FIELDS`; of all turns together."""
    context_tokens: int
    """Size of the conversation after the last turn; 0 where it is not known."""
    context_window: int
    """Tokens that the model's context holds; 0 where it is not known."""
    duration_ms: int | None
    turns: int | None


def usage_of(payload: Mapping[str, Any]) -> Usage:
    """Return what the end with this payload says that its task used. Total: what cannot be a count or an amount of
    money counts as 0, so that one strange end never keeps those behind it from being counted."""
    tokens, last = _tokens(payload.get("usage")), _tokens(payload.get("last_usage"))
    last.pop("output", None)  # published clients read `totalTokens` as what the last turn sent to the model
    return Usage(
        cost_usd=money.amount(payload.get("cost_usd")),
        tokens=tokens,
        context_tokens=sum(last.values()) or sum(tokens.values()),
        context_window=plausible(payload.get("context_window"), TOKENS_LIMIT),
        duration_ms=_count(payload, "duration_ms", MILLISECONDS_LIMIT),
        turns=_count(payload, "turns", TURNS_LIMIT),
    )


def _tokens(usage: object) -> dict[str, int]:
    if not isinstance(usage, Mapping):
        return {}
    found = {kind: _count(usage, field, TOKENS_LIMIT) for kind, field in TOKEN_FIELDS.items()}
    return {kind: count for kind, count in found.items() if count is not None}


def _count(given: Mapping[str, Any], field: str, limit: int) -> int | None:
    return plausible(given[field], limit) if isinstance(given.get(field), int) else None
