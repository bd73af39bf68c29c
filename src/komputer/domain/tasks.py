"""Every decision about an agent's tasks: which task is wanted, whether the agent is busy, what an end means and what
the task used. Pure.

Two sources may disagree for a short time: the resource (`AgentSpec`, `AgentStatus`) and the event log (`LoggedTask`).
Only the functions here combine them. Callers use these functions and compare no ids or states themselves. `tests/model`
checks the rules; a name in parentheses, such as (`sticky`), is the name of a rule there.
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
    """The manifest's task has no id yet, because the operator has not assigned one. Until then the agent is busy."""

    YES = "unrecorded"


def wanted(spec: AgentSpec, status: AgentStatus, ended: Collection[str] = ()) -> WantedTask | Unrecorded | None:
    """Return the task that is to be run now; None if there is none, `Unrecorded.YES` if the manifest's task has no id
    yet.

    `ended` are ids of tasks that have ended in the log; the ids in `status.endedTasks` are added here. The API's task
    is wanted until it has ended, even if the manifest changes meanwhile (`sticky`). After that the manifest's task is
    wanted, unless it has ended or the API's task covers it.
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
    """Return whether an agent's runtime may begin this task now, which means that it is the wanted one."""
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
    """The newest task in an agent's event log. `id` is None if the log has no task."""

    id: str | None
    has_ended: bool


NO_LOGGED_TASK: Final = LoggedTask(None, True)

ACTIVE_STATUSES: Final[frozenset[TaskStatus]] = frozenset({"InProgress", "Compacting"})
"""The values of `taskStatus` that an agent shows while it is busy."""


def status_of_running(kind: str | None) -> TaskStatus:
    """Return the `taskStatus` of a running task of this kind."""
    return "Compacting" if kind == "compact" else "InProgress"


def open_task(status: AgentStatus, logged: LoggedTask) -> str | None:
    """Return the id of the task that has started and not ended (`open`); None if there is none. The log decides, but a
    task in `status.endedTasks` has ended in any case."""
    if logged.id is None or logged.has_ended or logged.id in status.ended_tasks:
        return None
    return logged.id


def next_task(spec: AgentSpec, status: AgentStatus, logged: LoggedTask) -> WantedTask | Unrecorded | None:
    """Return the wanted task, considering an end in the log that the status does not account for yet."""
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
    """The status fields of an agent after the end of a task."""

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
"""The kinds of tokens that are counted, with the field of each in Claude's `usage`."""


def plausible(value: object, limit: int) -> int:
    """Return a count from an untrusted source: 0 for a negative value or one that is not a number, and at most
    `limit`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return 0
    return int(value) if value <= limit else limit


class Usage(NamedTuple):
    """The usage of one task, as its end event reports it. A count that the event does not contain is None or missing,
    not 0."""

    cost_usd: Decimal
    """An exact amount, see `money`."""
    tokens: Mapping[str, int]
    """Tokens of all turns together, by the keys of `TOKEN_FIELDS`."""
    context_tokens: int
    """Size of the conversation in tokens after the last turn; 0 if it is not known."""
    context_window: int
    """Size of the model's context window in tokens; 0 if it is not known."""
    duration_ms: int | None
    turns: int | None


def usage_of(payload: Mapping[str, Any]) -> Usage:
    """Return the usage that the payload of an end event reports. This never raises: a value that is not a valid count
    or amount is read as 0, so that one malformed event does not block the accounting of later ones."""
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
