"""The next status of an agent. Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from komputer.domain import names, tasks
from komputer.domain.agent import (
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
from komputer.operator.agent.observed import Blocker, Observed, is_ours
from komputer.operator.agent.pod_status import disk_pressure, pod_is_running, start_time_of
from komputer.operator.conditions import fields_supported

ALIAS_ADVICE: Final = "write a model's id, for example claude-sonnet-4-6; tasks end with model_not_found"
PROGRESS_FIELDS: Final = frozenset({"last_task_message", "last_activity_at"})
"""Fields of the status that every event of a running task changes."""
PROGRESS_INTERVAL: Final = timedelta(seconds=5)
"""The shortest time between two writes of the progress fields. The API reads newer values from the log."""


class Throttled(NamedTuple):
    status: AgentStatus
    requeue_at: datetime | None


def recorded(status: AgentStatus, spec: AgentSpec, fresh_id: str) -> AgentStatus:
    """Return the status with an id for the task of the manifest's instructions.

    The id is `fresh_id` if the instructions have changed. If they are the agent's first and the API has assigned a task
    with them, the id is that of the API's task (rule `create`).
    """
    digest, before, task = digest_of(spec.instructions), status.manifest_task, spec.task
    if before and before.digest == digest:
        return status
    takes_over = before is None and task is not None and task.covers.digest == digest
    chosen = task.id if takes_over and task else fresh_id
    return status.model_copy(update={"manifest_task": ManifestTask(digest=digest, id=chosen)})


def next_status(observed: Observed, status: AgentStatus, blocker: Blocker | None, *, has_failed: bool) -> AgentStatus:
    """Return `status` with phase, children, running task and conditions. In `status`, tasks must already be recorded
    and counted."""
    pod, agent = observed.pod, observed.agent
    pod_is_ours = pod is not None and is_ours(pod, agent)
    full = disk_pressure(pod) if pod and pod_is_ours else None
    changes: dict[str, Any] = {
        "phase": _phase(observed, blocker, has_failed),
        "message": blocker.message if blocker else full,
        "observed_generation": agent.metadata.generation,
        "pod_name": names.pod_name(agent.metadata.name) if pod_is_ours else None,
        "pvc_name": names.pvc_name(agent.metadata.name) if observed.pvc and is_ours(observed.pvc, agent) else None,
        "start_time": (start_time_of(pod) if pod and pod_is_ours else None) or status.start_time,
    }
    status = status.model_copy(update=changes)
    if observed.log_answers:
        status = _running(observed, status)
    conditions = status.conditions
    for condition in _conditions(observed, status, blocker):
        conditions = with_condition(conditions, condition, observed.now)
    return status.model_copy(update={"conditions": conditions})


def _phase(observed: Observed, blocker: Blocker | None, has_failed: bool) -> Phase:
    if has_failed:
        return "Failed"
    return (
        "Running"
        if pod_is_running(observed.pod) and observed.pod and is_ours(observed.pod, observed.agent)
        else "Pending"
    )


def _running(observed: Observed, status: AgentStatus) -> AgentStatus:
    """Return the status with the open task as the log's live hash shows it. Ended tasks are in the status already."""
    live, task = observed.live, observed.open_task(status)
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
    if wanted(observed.agent.spec, status) is None:
        return status
    return status.model_copy(update={"task_status": tasks.status_of_running(None), "last_task_outcome": None})


def _conditions(observed: Observed, status: AgentStatus, blocker: Blocker | None) -> Iterable[Condition]:
    generation = observed.agent.metadata.generation

    def condition(kind: str, holds: bool, reason: str, message: str = "") -> Condition:
        return Condition(
            type=kind,
            status="True" if holds else "False",
            reason=reason,
            message=message,
            observed_generation=generation,
        )

    if blocker:
        yield condition("Ready", False, blocker.reason, blocker.message)
    else:
        yield condition("Ready", True, "PodRunning", "a task can be taken")
    if pod_is_running(observed.pod) and observed.pod and is_ours(observed.pod, observed.agent):
        yield condition("PodReady", True, "PodRunning")
    else:
        why = blocker or Blocker("PodStarting", "the pod is starting")
        yield condition("PodReady", False, why.reason, why.message)
    if observed.log_answers:
        yield condition("TaskStarted", *_task(observed, status))
    full = disk_pressure(observed.pod) if observed.pod and is_ours(observed.pod, observed.agent) else None
    if full:
        yield condition("DiskPressure", True, "DiskFull", full)
    elif any(known.type == "DiskPressure" for known in status.conditions):
        yield condition("DiskPressure", False, "DiskHasSpace")
    wanted_connectors = observed.agent.spec.connectors or ()
    if without := missing(wanted_connectors, observed.connectors):
        yield condition("ConnectorsFound", False, *without_connectors(without))
    elif wanted_connectors or any(known.type == "ConnectorsFound" for known in status.conditions):
        yield condition("ConnectorsFound", True, "AllConnectorsFound")
    if is_model_alias(observed.agent.spec.model):
        yield condition("ModelKnown", False, "ModelAlias", f"{observed.agent.spec.model!r} is an alias: {ALIAS_ADVICE}")
    elif any(known.type == "ModelKnown" for known in status.conditions):
        yield condition("ModelKnown", True, "ModelID")
    if supported := fields_supported(observed.agent.ignored(), status.conditions):
        yield supported.model_copy(update={"observed_generation": generation})


def _task(observed: Observed, status: AgentStatus) -> tuple[bool, str, str]:
    if (running := observed.open_task(status)) is not None:
        return True, "TaskRunning", f"task {running} runs"
    found = wanted(observed.agent.spec, status)
    if found is None or isinstance(found, Unrecorded):
        return False, "NoTask", "there is nothing to do"
    return False, "WaitingForRuntime", f"task {found.id} waits for the runtime to take it"


def without_connectors(without: Sequence[str]) -> tuple[str, str]:
    """Return reason and message of the condition for an agent that names connectors it cannot use."""
    reason = "ConnectorDisabled" if all("is disabled" in each for each in without) else "ConnectorMissing"
    return reason, f"{'; '.join(without)}: tasks run without"


def throttled(old: AgentStatus, new: AgentStatus, written_at: datetime | None, now: datetime) -> Throttled:
    """Return `new`. If only progress fields differ and the last write was less than `PROGRESS_INTERVAL` ago, return
    `old` and the time of the next write instead."""
    changed = {name for name in AgentStatus.model_fields if getattr(old, name) != getattr(new, name)}
    due = written_at + PROGRESS_INTERVAL if written_at else now
    if not changed or not changed <= PROGRESS_FIELDS or now >= due:
        return Throttled(new, None)
    return Throttled(old, due)


def is_progress_only(status: Manifest, uid: str, live: Live | None) -> bool:
    """Return whether all that the log has beyond `status` (as JSON) is progress of the task that `status` shows as
    running."""
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
    """Return the merge patch that turns `found`, a status as JSON, into `status`; empty if they are equal."""
    wire = status.to_wire()
    patch = {field: value for field, value in wire.items() if found.get(field) != value}
    known = {field.alias or name for name, field in AgentStatus.model_fields.items()}
    return patch | {field: None for field in known & found.keys() - wire.keys()}
