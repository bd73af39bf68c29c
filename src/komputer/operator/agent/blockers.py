"""Why an agent has no runtime that can hold its task. Pure."""

from datetime import datetime, timedelta
from typing import Final

from komputer.domain.base import Manifest
from komputer.kube.store import is_terminating
from komputer.operator.agent.observed import Blocker, Observed, is_of_old_agent, is_ours
from komputer.operator.agent.pod_status import (
    DISK_PRESSURE,
    agent_container,
    dict_in,
    dicts_in,
    parse_time,
    restarts_of,
    state_of,
    text_in,
)
from komputer.operator.agent.silence import last_sign_of_life, silent_since

IMAGE_REASONS: Final = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
    }
)
CREATE_REASONS: Final = frozenset(
    {"CreateContainerError", "CreateContainerConfigError", "RunContainerError", "PreCreateHookError"}
)
STABLE_AFTER: Final = timedelta(seconds=30)
"""How long a container that crashed at least twice must run before it is considered stable again. A guess, unmeasured:
a runtime connects to the gateway in less time."""
TERMINATION_LIMIT: Final = timedelta(seconds=60)
"""How long after its deletion time a pod may still exist before its node is considered lost."""


def find_blocker(observed: Observed, pending_since: datetime | None) -> Blocker | None:
    """Return the first blocker, or None. `pending_since` is the time since which a task waits or runs; None if there is
    no task."""
    found = _without_pod(observed) if observed.pod is None else _with_pod(observed, observed.pod)
    if found or observed.pod is None:
        return found
    return _silence(observed, has_task=pending_since is not None)


def _without_pod(observed: Observed) -> Blocker:
    foreign = _foreign(observed)
    if isinstance(observed.desired, Blocker):
        return observed.desired
    if foreign:
        return foreign
    if observed.refused is not None:
        return Blocker("PodRefused", f"the API server refused what the template makes: {observed.refused}")
    return Blocker("PodMissing", "the pod is being created")


def _foreign(observed: Observed) -> Blocker | None:
    """Return the blocker for the first object that has the name of a child but is not this agent's; None if there is
    no such object."""
    for child in observed.children.values():
        kind, name = child.get("kind", "object"), child["metadata"]["name"]
        if is_ours(child, observed.agent) and not is_terminating(child):
            continue
        if is_ours(child, observed.agent) or is_of_old_agent(child, observed.agent):
            return Blocker(
                "WaitingForOldPod" if kind == "Pod" else "WaitingForOldChildren", f"{kind} {name} is being deleted"
            )
        return Blocker("ChildNotOurs", f"{kind} {name} exists and is not controlled by this agent: delete or rename it")
    return None


def _with_pod(observed: Observed, pod: Manifest) -> Blocker | None:
    if not is_ours(pod, observed.agent):
        return _foreign(observed)
    if is_terminating(pod):
        gone_by = parse_time(pod["metadata"]["deletionTimestamp"]) + TERMINATION_LIMIT
        if observed.now >= gone_by:
            return Blocker("NodeLost", "the pod is being deleted and its node does not confirm it")
        return Blocker("WaitingForOldPod", "the pod is being deleted", gone_by)
    status = dict_in(pod, "status")
    phase, reason, message = (text_in(status, field) for field in ("phase", "reason", "message"))
    if reason == "NodeLost" or phase == "Unknown":
        return Blocker("NodeLost", message or "the pod's node does not answer")
    if phase in ("Failed", "Succeeded"):
        return Blocker("PodFailed", f"the pod ended ({reason or phase}) and will be created again. {message}".strip())
    found = _containers(observed, pod)
    # kubelet's status of the containers is newer than the scheduler's condition of the pod.
    return (_unscheduled(status) or found) if found and found.reason == "PodStarting" else found


def _unscheduled(status: Manifest) -> Blocker | None:
    scheduled: Manifest = next((c for c in dicts_in(status, "conditions") if c.get("type") == "PodScheduled"), {})
    if scheduled.get("status") != "False" or scheduled.get("reason") not in ("Unschedulable", "SchedulerError"):
        return None
    return Blocker("Unschedulable", text_in(scheduled, "message") or "no node accepts the pod")


def _containers(observed: Observed, pod: Manifest) -> Blocker | None:
    status, agent = dict_in(pod, "status"), agent_container(pod)
    for container in (*dicts_in(status, "initContainerStatuses"), *dicts_in(status, "containerStatuses")):
        waiting = dict_in(state_of(container), "waiting")
        reason = str(waiting.get("reason"))
        message = f"container {container.get('name')}: {waiting.get('message') or reason}"
        if reason == DISK_PRESSURE:
            return Blocker("DiskFull", message)
        if reason in IMAGE_REASONS:
            return Blocker("ImagePullFailed", message)
        if reason in CREATE_REASONS:
            return Blocker("CreateContainerError", message)
        if reason == "CrashLoopBackOff":
            return Blocker("CrashLoopBackOff", _crashes(container))
    running = state_of(agent).get("running")
    if restarts_of(agent) >= 2:
        started = running.get("startedAt") if isinstance(running, dict) else None
        stable_at = parse_time(started) + STABLE_AFTER if started else None
        if stable_at is None or observed.now < stable_at:
            return Blocker("CrashLoopBackOff", _crashes(agent), stable_at)
    if running is not None:
        return None
    why = dict_in(state_of(agent), "waiting").get("message")
    return Blocker("PodStarting", f"the pod is starting: {why}" if why else "the pod is starting")


def _crashes(container: Manifest) -> str:
    last = dict_in(dict_in(container, "lastState"), "terminated") or dict_in(state_of(container), "terminated")
    why = f" (exit code {last.get('exitCode')}, {last.get('reason') or 'no reason'})" if last else ""
    return f"container {container.get('name')} crashed {restarts_of(container)} times{why}; see its log"


def _silence(observed: Observed, *, has_task: bool) -> Blocker | None:
    """Return the blocker for a running pod whose runtime sends nothing; None if the runtime is not silent."""
    report_after, replace_after = observed.silence.report_after, observed.silence.replace_after
    since = silent_since(observed)
    if since is not None:
        if observed.now < since + report_after:
            return None
        message = (
            f"the pod runs, but its runtime has sent nothing for {report_after.seconds} s; "
            f"after {replace_after.seconds} s the pod is replaced"
        )
        replaced_at = since + replace_after
        return Blocker("RuntimeSilent", message, replaced_at if observed.now < replaced_at else None)
    if observed.pod is None or not has_task or not observed.log_answers or observed.gateway_since is not None:
        return None
    if observed.now < last_sign_of_life(observed, observed.pod) + report_after:
        return None
    return Blocker("GatewayAway", "no gateway is alive to receive the runtime's events; the task waits for one")
