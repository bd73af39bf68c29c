"""Decides which tasks the operator itself ends, because no runtime will. Pure."""

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from ulid import ULID

from komputer.domain.agent import AgentStatus
from komputer.domain.config import ConfigSpec
from komputer.domain.tasks import WantedTask, wanted
from komputer.events.schema import End, TaskCancelled, TaskFailed
from komputer.operator.agent.observed import Blocker, Observed, is_ours
from komputer.operator.agent.pod_replacement import MAX_SILENT_PODS, silent_pods
from komputer.operator.agent.pod_status import parse_time, time_of_us
from komputer.operator.agent.silence import is_lost

CODES: Final = {
    "InvalidName": "invalid_name",
    "ConfigMissing": "config_missing",
    "ConfigInvalid": "config_invalid",
    "TemplateMissing": "template_missing",
    "TemplateInvalid": "template_invalid",
    "ChildNotOurs": "child_not_ours",
    "WaitingForOldPod": "old_pod_remains",
    "WaitingForOldChildren": "old_children_remain",
    "PodRefused": "pod_refused",
    "PodMissing": "pod_not_started",
    "PodStarting": "pod_not_started",
    "PodFailed": "pod_failed",
    "Unschedulable": "unschedulable",
    "NodeLost": "runtime_lost",
    "ImagePullFailed": "image_pull_failed",
    "CreateContainerError": "container_create_failed",
    "CrashLoopBackOff": "crash_loop",
    "DiskFull": "disk_full",
    "RuntimeSilent": "runtime_lost",
    "GatewayAway": "runtime_lost",
}
"""The error codes, by the blocker's reason, of tasks that a blocker has kept waiting for `startDeadlineSeconds`."""
PERMANENT: Final = frozenset({"InvalidName"})
"""Reasons of blockers that never go away: the task ends at once."""
WITHOUT_DEADLINE: Final = frozenset({"RuntimeSilent", "GatewayAway"})
"""Reasons of blockers that do not end a task, however long they last. The pod of a silent runtime is replaced instead
(`lost`), and without a gateway nothing is known about runtimes."""
DEFAULT_DEADLINE: Final = timedelta(seconds=600)
"""The deadline while there is no KomputerConfig; equal to the default of `startDeadlineSeconds`."""


class Ending(NamedTuple):
    """An end to append to the log."""

    event: End
    unless_started: bool = False
    """Append it only if no runtime has started the task."""


class Endings(NamedTuple):
    endings: list[Ending]
    requeue_at: datetime | None
    """The time at which the next task must be ended; None: there is none."""


def pending_tasks(observed: Observed, status: AgentStatus) -> dict[str, datetime]:
    """Return the tasks that a runtime should hold now, each with the time of its assignment."""
    found = wanted(observed.agent.spec, status)
    tasks = {found.id} if isinstance(found, WantedTask) else set()
    if (running := observed.open_task(status)) is not None:
        tasks.add(running)
    return {task: assigned_at(task, observed.now) for task in sorted(tasks)}


def assigned_at(task: str, now: datetime) -> datetime:
    """Return the time in a task's ULID, or `now` if that is in the future because another clock issued the id."""
    try:
        return min(now, ULID.from_str(task).datetime.astimezone(UTC))
    except ValueError:
        return now


def deadline(config: ConfigSpec | None, reason: str) -> timedelta | None:
    """Return how long a task may wait for a blocker with this reason to go away; None: without a limit."""
    if reason in WITHOUT_DEADLINE:
        return None
    if reason in PERMANENT:
        return timedelta(0)
    return timedelta(seconds=config.start_deadline_seconds) if config else DEFAULT_DEADLINE


def overdue(observed: Observed, tasks: dict[str, datetime], blocker: Blocker | None, since: datetime) -> Endings:
    """Return error ends for the tasks that a blocker has kept waiting for too long. `since` is when it appeared."""
    if blocker is None:
        return Endings([], None)
    limit = deadline(observed.config, blocker.reason)
    if limit is None:
        return Endings([], None)
    due = {task: max(since, assigned) + limit for task, assigned in tasks.items()}
    late = [task for task, at in due.items() if at <= observed.now]
    session = observed.live.session_id if observed.live else None
    endings = [
        Ending(
            TaskFailed(
                task_id=task,
                error=f"No runtime could take the task: {blocker.message}",
                code=CODES[blocker.reason],
                session_id=session or observed.agent.status.session_id,
            )
        )
        for task in late
    ]
    return Endings(endings, min((at for task, at in due.items() if task not in late), default=None))


def lost(observed: Observed, tasks: dict[str, datetime]) -> list[Ending]:
    """Return error ends for the tasks of an agent whose last `MAX_SILENT_PODS` pods were all silent."""
    if (
        observed.pod is None
        or not tasks
        or not is_lost(observed)
        or silent_pods(observed.pod, observed.now) < MAX_SILENT_PODS
    ):
        return []
    text = (
        f"The agent's process was silent for {observed.silence.replace_after.seconds} s in {MAX_SILENT_PODS} pods in a "
        "row. See in the events how far the task came, then assign what is left."
    )
    session = (observed.live.session_id if observed.live else None) or observed.agent.status.session_id
    return [Ending(TaskFailed(task_id=task, error=text, code="runtime_lost", session_id=session)) for task in tasks]


def cancelled(observed: Observed, status: AgentStatus, *, has_started: bool = False) -> Endings:
    """Return the end of the task that is to be cancelled if no runtime will write it.

    A task that has not started ends at once. A task that has started is ended by its runtime, as long as that is alive.
    `has_started` is true if the log has refused an end because the task has started, although the live hash shows
    another task.
    """
    task = observed.agent.spec.cancel_task_id
    if task is None or task in status.ended_tasks:
        return Endings([], None)
    live, session = observed.live, observed.live.session_id if observed.live else None

    def event(reason: str) -> TaskCancelled:
        return TaskCancelled(task_id=task, reason=reason, session_id=session or status.session_id)

    if not has_started and (live is None or live.task_id != task):
        return Endings([Ending(event("before it had started"), unless_started=True)], None)
    if live and live.task_id == task and live.has_ended:
        return Endings([], None)
    has_pod = observed.pod is not None and is_ours(observed.pod, observed.agent)
    silent_at = time_of_us(live.seen_us) + observed.silence.report_after if live else observed.now
    if has_pod and observed.now < silent_at:
        return Endings([], silent_at)
    return Endings([Ending(event("its runtime was gone"))], None)


def not_ready_since(status: AgentStatus, now: datetime) -> datetime:
    """Return the time since which no runtime could hold a task. The condition Ready keeps it across restarts."""
    for condition in status.conditions:
        if condition.type == "Ready" and condition.status != "True" and condition.last_transition_time:
            return min(now, parse_time(condition.last_transition_time))
    return now
