"""Which tasks the operator ends itself, because no runtime will. Pure."""

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from ulid import ULID

from komputer.domain.agent import AgentStatus
from komputer.domain.config import ConfigSpec
from komputer.domain.tasks import WantedTask, wanted
from komputer.events.schema import End, TaskCancelled, TaskFailed
from komputer.operator.agent.blockers import SILENCE, SILENCE_LIMIT, Blocker, moment, moment_of_us
from komputer.operator.agent.observed import Observed, is_ours
from komputer.operator.agent.steps import SILENT_PODS, is_lost, silent_pods

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
"""For each reason why no runtime can hold a task: the code of the error that ends the task when the reason has held
for `startDeadlineSeconds`."""
HOPELESS: Final = frozenset({"InvalidName"})
"""Reasons that no waiting can change: the task ends at once."""
PATIENT: Final = frozenset({"RuntimeSilent", "GatewayAway"})
"""Reasons that end no task by their duration: a silent runtime loses its pod (`lost`), and a platform without a gateway
says nothing about its runtimes."""
DEFAULT_DEADLINE: Final = timedelta(seconds=600)
"""Where there is no KomputerConfig to say it; as its own default."""


class Ending(NamedTuple):
    """An end to append. `unless_started`: only while no runtime has taken the task."""

    event: End
    unless_started: bool = False


class Endings(NamedTuple):
    endings: list[Ending]
    look_again: datetime | None
    """When a task that still waits is due."""


def waiting(seen: Observed, status: AgentStatus) -> dict[str, datetime]:
    """Tasks that a runtime should hold now, and since when each may have been waited for."""
    found = wanted(seen.agent.spec, status)
    tasks = {found.id} if isinstance(found, WantedTask) else set()
    if (running := seen.open_task(status)) is not None:
        tasks.add(running)
    return {task: given_at(task, seen.now) for task in sorted(tasks)}


def given_at(task: str, now: datetime) -> datetime:
    """When a task was given: its ULID says so. Never in the future, whatever other clocks say."""
    try:
        return min(now, ULID.from_str(task).datetime.astimezone(UTC))
    except ValueError:
        return now


def patience(config: ConfigSpec | None, reason: str) -> timedelta | None:
    """How long a task waits for the reason to go away; None: without a limit."""
    if reason in PATIENT:
        return None
    if reason in HOPELESS:
        return timedelta(0)
    return timedelta(seconds=config.start_deadline_seconds) if config else DEFAULT_DEADLINE


def overdue(seen: Observed, tasks: dict[str, datetime], in_the_way: Blocker | None, since: datetime) -> Endings:
    """Errors for tasks that have waited too long for what is in the way since `since`."""
    if in_the_way is None:
        return Endings([], None)
    limit = patience(seen.config, in_the_way.reason)
    if limit is None:
        return Endings([], None)
    due = {task: max(since, given) + limit for task, given in tasks.items()}
    late = [task for task, at in due.items() if at <= seen.now]
    session = seen.live.session_id if seen.live else None
    endings = [
        Ending(
            TaskFailed(
                task_id=task,
                error=f"No runtime could take the task: {in_the_way.message}",
                code=CODES[in_the_way.reason],
                session_id=session or seen.agent.status.session_id,
            )
        )
        for task in late
    ]
    return Endings(endings, min((at for task, at in due.items() if task not in late), default=None))


def lost(seen: Observed, tasks: dict[str, datetime]) -> list[Ending]:
    """Errors for the tasks of a runtime that is silent, as those of the pods before it were."""
    if seen.pod is None or not tasks or not is_lost(seen) or silent_pods(seen.pod, seen.now) < SILENT_PODS:
        return []
    text = (
        f"The agent's process was silent for {SILENCE_LIMIT.seconds} s in {SILENT_PODS} pods in a row. See in the "
        "events how far the task came, then assign what is left."
    )
    session = (seen.live.session_id if seen.live else None) or seen.agent.status.session_id
    return [Ending(TaskFailed(task_id=task, error=text, code="runtime_lost", session_id=session)) for task in tasks]


def cancelled(seen: Observed, status: AgentStatus, *, has_started: bool = False) -> Endings:
    """The end of the task that is to be cancelled, where no runtime will write it.

    A task that nobody has started ends at once; one that was started is its runtime's to end, as long as that lives.
    `has_started`: the log said so, though its live hash speaks of another task.
    """
    task = seen.agent.spec.cancel_task_id
    if task is None or task in status.ended_tasks:
        return Endings([], None)
    live, session = seen.live, seen.live.session_id if seen.live else None

    def event(reason: str) -> TaskCancelled:
        return TaskCancelled(task_id=task, reason=reason, session_id=session or status.session_id)

    if not has_started and (live is None or live.task_id != task):
        return Endings([Ending(event("before it had started"), unless_started=True)], None)
    if live and live.task_id == task and live.has_ended:
        return Endings([], None)
    has_pod = seen.pod is not None and is_ours(seen.pod, seen.agent)
    silent_at = moment_of_us(live.seen_us) + SILENCE if live else seen.now
    if has_pod and seen.now < silent_at:
        return Endings([], silent_at)
    return Endings([Ending(event("its runtime was gone"))], None)


def since_not_ready(status: AgentStatus, now: datetime) -> datetime:
    """Since when no runtime could hold a task: the condition Ready remembers it over every restart."""
    for condition in status.conditions:
        if condition.type == "Ready" and condition.status != "True" and condition.last_transition_time:
            return min(now, moment(condition.last_transition_time))
    return now
