"""What the status says next. Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from komputer.domain import names, tasks
from komputer.domain.agent import (
    NOT_BUILT,
    AgentSpec,
    AgentStatus,
    ManifestTask,
    Phase,
    digest_of,
    is_model_alias,
)
from komputer.domain.base import Condition, Manifest, with_condition
from komputer.domain.connector import missing
from komputer.domain.tasks import Unrecorded, wanted
from komputer.events.log import Live
from komputer.operator.agent.blockers import Blocker, disk_pressure, pod_is_running, start_time_of
from komputer.operator.agent.observed import Observed, is_ours

ALIAS_TOLD: Final = "write a model's id, for example claude-sonnet-4-6; tasks end with model_not_found"
CHATTY: Final = frozenset({"last_task_message", "last_activity_at"})
"""Fields that every event of a running task changes."""
CHATTY_EVERY: Final = timedelta(seconds=5)
"""How often they are written while a task runs; the API shows them live from the log."""


class Paced(NamedTuple):
    status: AgentStatus
    look_again: datetime | None


def recorded(status: AgentStatus, spec: AgentSpec, fresh_id: str) -> AgentStatus:
    """The status with an id for the task that the manifest's present instructions are.

    A fresh one whenever they changed; the first takes the id of the API's task that covers it (rule `create`).
    """
    digest, before, task = digest_of(spec.instructions), status.manifest_task, spec.task
    if before and before.digest == digest:
        return status
    takes_over = before is None and task is not None and task.covers.digest == digest
    chosen = task.id if takes_over and task else fresh_id
    return status.model_copy(update={"manifest_task": ManifestTask(digest=digest, id=chosen)})


def observed(seen: Observed, status: AgentStatus, in_the_way: Blocker | None, *, has_given_up: bool) -> AgentStatus:
    """The status with phase, children, the running task and the conditions. `status` is recorded and accounted."""
    pod, agent = seen.pod, seen.agent
    pod_is_ours = pod is not None and is_ours(pod, agent)
    full = disk_pressure(pod) if pod and pod_is_ours else None
    changes: dict[str, Any] = {
        "phase": _phase(seen, in_the_way, has_given_up),
        "message": in_the_way.message if in_the_way else full,
        "observed_generation": agent.metadata.generation,
        "pod_name": names.pod_name(agent.metadata.name) if pod_is_ours else None,
        "pvc_name": names.pvc_name(agent.metadata.name) if seen.pvc and is_ours(seen.pvc, agent) else None,
        "start_time": (start_time_of(pod) if pod and pod_is_ours else None) or status.start_time,
    }
    status = status.model_copy(update=changes)
    if seen.log_answers:
        status = _running(seen, status)
    conditions = status.conditions
    for condition in _conditions(seen, status, in_the_way):
        conditions = with_condition(conditions, condition, seen.now)
    return status.model_copy(update={"conditions": conditions})


def _phase(seen: Observed, in_the_way: Blocker | None, has_given_up: bool) -> Phase:
    if has_given_up:
        return "Failed"
    return "Running" if pod_is_running(seen.pod) and seen.pod and is_ours(seen.pod, seen.agent) else "Pending"


def _running(seen: Observed, status: AgentStatus) -> AgentStatus:
    """The live hash's word on the task that is open; what has ended stands in the status already."""
    live, task = seen.live, seen.open_task(status)
    if live and task:
        changes: dict[str, Any] = {
            "task_status": live.task_status or tasks.status_of_running(None),
            "last_task_id": task,
            "last_task_outcome": None,
            "last_task_message": live.message or status.last_task_message,
            "last_activity_at": live.last_at or status.last_activity_at,
            "session_id": live.session_id or status.session_id,
        }
        return status.model_copy(update=changes)
    if wanted(seen.agent.spec, status) is None:
        return status
    return status.model_copy(update={"task_status": tasks.status_of_running(None), "last_task_outcome": None})


def _conditions(seen: Observed, status: AgentStatus, in_the_way: Blocker | None) -> Iterable[Condition]:
    generation = seen.agent.metadata.generation

    def condition(kind: str, holds: bool, reason: str, message: str = "") -> Condition:
        return Condition(
            type=kind,
            status="True" if holds else "False",
            reason=reason,
            message=message,
            observed_generation=generation,
        )

    if in_the_way:
        yield condition("Ready", False, in_the_way.reason, in_the_way.message)
    else:
        yield condition("Ready", True, "PodRunning", "a task can be taken")
    if pod_is_running(seen.pod) and seen.pod and is_ours(seen.pod, seen.agent):
        yield condition("PodReady", True, "PodRunning")
    else:
        why = in_the_way or Blocker("PodStarting", "the pod is starting")
        yield condition("PodReady", False, why.reason, why.message)
    if seen.log_answers:
        yield condition("TaskStarted", *_task(seen, status))
    full = disk_pressure(seen.pod) if seen.pod and is_ours(seen.pod, seen.agent) else None
    if full:
        yield condition("DiskPressure", True, "DiskFull", full)
    elif any(known.type == "DiskPressure" for known in status.conditions):
        yield condition("DiskPressure", False, "DiskHasSpace")
    wanted_connectors = seen.agent.spec.connectors or ()
    if without := missing(wanted_connectors, seen.connectors):
        yield condition("ConnectorsFound", False, *without_connectors(without))
    elif wanted_connectors or any(known.type == "ConnectorsFound" for known in status.conditions):
        yield condition("ConnectorsFound", True, "AllConnectorsFound")
    if is_model_alias(seen.agent.spec.model):
        yield condition("ModelKnown", False, "ModelAlias", f"{seen.agent.spec.model!r} is an alias: {ALIAS_TOLD}")
    elif any(known.type == "ModelKnown" for known in status.conditions):
        yield condition("ModelKnown", True, "ModelID")
    unsupported = not_built(seen.agent.spec)
    if unsupported:
        told = f"not built yet, without effect: {', '.join(f'spec.{field}' for field in unsupported)}"
        yield condition("FieldsSupported", False, "FieldsNotSupported", told)
    elif any(known.type == "FieldsSupported" for known in status.conditions):
        yield condition("FieldsSupported", True, "AllFieldsSupported")


def _task(seen: Observed, status: AgentStatus) -> tuple[bool, str, str]:
    if (running := seen.open_task(status)) is not None:
        return True, "TaskRunning", f"task {running} runs"
    found = wanted(seen.agent.spec, status)
    if found is None or isinstance(found, Unrecorded):
        return False, "NoTask", "there is nothing to do"
    return False, "WaitingForRuntime", f"task {found.id} waits for the runtime to take it"


def without_connectors(without: Sequence[str]) -> tuple[str, str]:
    """Reason and message of an agent that has to do without connectors that it names."""
    reason = "ConnectorDisabled" if all("is disabled" in each for each in without) else "ConnectorMissing"
    return reason, f"{'; '.join(without)}: tasks run without"


def not_built(spec: AgentSpec) -> list[str]:
    """Fields with a value that will have an effect one day, and has none yet."""
    given = spec.to_wire()
    return [field for field in NOT_BUILT if given.get(field) not in (None, "", 0, [], {})]


def paced(old: AgentStatus, new: AgentStatus, written_at: datetime | None, now: datetime) -> Paced:
    """`new`, or `old` where only chatty fields differ and the last write is too fresh; then, when to look again."""
    changed = {name for name in AgentStatus.model_fields if getattr(old, name) != getattr(new, name)}
    due = written_at + CHATTY_EVERY if written_at else now
    if not changed or not changed <= CHATTY or now >= due:
        return Paced(new, None)
    return Paced(old, due)


def is_chatter(status: Manifest, uid: str, live: Live | None) -> bool:
    """Whether a log that rang says no more than that the task goes on which `status`, as JSON, shows as running."""
    return (
        live is not None
        and live.uid == uid
        and not live.has_ended
        and live.task_id is not None
        and live.task_id == status.get("lastTaskID")
        and live.task_status == status.get("taskStatus")
        and live.task_id not in (status.get("endedTasks") or ())
    )


def merge_patch(found: Manifest, status: AgentStatus) -> Manifest:
    """What a merge patch must say to make `found`, a status as JSON, into `status`. Empty where it says that."""
    wire = status.to_wire()
    patch = {field: value for field, value in wire.items() if found.get(field) != value}
    known = {field.alias or name for name, field in AgentStatus.model_fields.items()}
    return patch | {field: None for field in known & found.keys() - wire.keys()}
