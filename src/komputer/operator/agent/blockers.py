"""What stands between an agent and a runtime that could hold its task. Pure."""

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from komputer.domain import names
from komputer.domain.base import Manifest
from komputer.operator.agent.observed import Fault, Observed, is_going, is_of_old_agent, is_ours

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
DISK_PRESSURE: Final = "DiskPressure"
"""A node's condition in Kubernetes. The laptop's kubelet, which has no node, sets it on pods, and gives it as the
reason why a container waits."""
STEADY: Final = timedelta(seconds=30)
"""A container that crashed twice or more counts as looping until it has run for so long. A guess, unmeasured: longer
than a runtime needs to say hello, shorter than anybody waits."""
SILENCE: Final = timedelta(seconds=30)
"""Three heartbeats (`door.HEARTBEAT_S`) without a sign of life."""
SILENCE_LIMIT: Final = timedelta(seconds=60)
"""How long a runtime may be silent, while a gateway is alive to hear it, before its pod is deleted. Longer than a
runtime's pauses between attempts to reach the gateway (5 s) and than its time-outs (30 s)."""
_NEVER: Final = datetime.fromtimestamp(0, UTC)
GOING_LIMIT: Final = timedelta(seconds=60)
"""How long after its deletion time a pod may still be there before its node counts as lost."""


class Blocker(NamedTuple):
    """A condition's reason and message; `look_again` is when time alone will have changed the answer."""

    reason: str
    message: str
    look_again: datetime | None = None


def trouble(seen: Observed, waiting_since: datetime | None) -> Blocker | None:
    """The first thing in the way, or None. `waiting_since`: since when a task waits or runs, None where none does."""
    found = _without_pod(seen) if seen.pod is None else _with_pod(seen, seen.pod)
    if found or seen.pod is None:
        return found
    return _silence(seen, has_task=waiting_since is not None)


def pod_is_running(pod: Manifest | None) -> bool:
    """Whether the agent's container runs, in a pod that stays."""
    return pod is not None and not is_going(pod) and _state(agent_container(pod)).get("running") is not None


def phase_of(pod: Manifest) -> str:
    """Empty where kubelet has not said anything."""
    return _text(_dict(pod, "status"), "phase")


def start_time_of(pod: Manifest) -> str | None:
    """As kubelet wrote it; None where it is no time."""
    found = _text(_dict(pod, "status"), "startTime")
    return found if moment(found) > _NEVER else None


def agent_container(pod: Manifest) -> Manifest:
    """The status of the container that runs the agent; empty where kubelet has not said anything."""
    statuses = _list(_dict(pod, "status"), "containerStatuses")
    specs = _list(_dict(pod, "spec"), "containers")
    name = next(
        (c["name"] for c in specs if c.get("name") == names.AGENT_CONTAINER), specs[0].get("name") if specs else None
    )
    return next((status for status in statuses if status.get("name") == name), {})


def _without_pod(seen: Observed) -> Blocker:
    foreign = _foreign(seen)
    if isinstance(seen.desired, Fault):
        return Blocker(*seen.desired)
    if foreign:
        return foreign
    if seen.refused is not None:
        return Blocker("PodRefused", f"the API server refused what the template makes: {seen.refused}")
    return Blocker("PodMissing", "the pod is being made")


def _foreign(seen: Observed) -> Blocker | None:
    """A child of the right name that is not this agent's to use."""
    for child in seen.children:
        kind, name = child.get("kind", "object"), child["metadata"]["name"]
        if is_ours(child, seen.agent) and not is_going(child):
            continue
        if is_ours(child, seen.agent) or is_of_old_agent(child, seen.agent):
            return Blocker(
                "WaitingForOldPod" if kind == "Pod" else "WaitingForOldChildren", f"{kind} {name} is being deleted"
            )
        return Blocker("ChildNotOurs", f"{kind} {name} exists and is not controlled by this agent: delete or rename it")
    return None


def _with_pod(seen: Observed, pod: Manifest) -> Blocker | None:
    if not is_ours(pod, seen.agent):
        return _foreign(seen)
    if is_going(pod):
        gone_by = moment(pod["metadata"]["deletionTimestamp"]) + GOING_LIMIT
        if seen.now >= gone_by:
            return Blocker("NodeLost", "the pod is being deleted and its node does not confirm it")
        return Blocker("WaitingForOldPod", "the pod is being deleted", gone_by)
    status = _dict(pod, "status")
    phase, reason, message = (_text(status, field) for field in ("phase", "reason", "message"))
    if reason == "NodeLost" or phase == "Unknown":
        return Blocker("NodeLost", message or "the pod's node does not answer")
    if phase in ("Failed", "Succeeded"):
        return Blocker("PodFailed", f"the pod ended ({reason or phase}) and will be made again. {message}".strip())
    found = _containers(seen, pod)
    # What kubelet says of containers is newer than what the scheduler once said of the pod.
    return (_unscheduled(status) or found) if found and found.reason == "PodStarting" else found


def _unscheduled(status: Manifest) -> Blocker | None:
    scheduled: Manifest = next((c for c in _list(status, "conditions") if c.get("type") == "PodScheduled"), {})
    if scheduled.get("status") != "False" or scheduled.get("reason") not in ("Unschedulable", "SchedulerError"):
        return None
    return Blocker("Unschedulable", _text(scheduled, "message") or "no node takes the pod")


def _containers(seen: Observed, pod: Manifest) -> Blocker | None:
    status, agent = _dict(pod, "status"), agent_container(pod)
    for container in (*_list(status, "initContainerStatuses"), *_list(status, "containerStatuses")):
        waiting = _dict(_state(container), "waiting")
        reason = str(waiting.get("reason"))
        told = f"container {container.get('name')}: {waiting.get('message') or reason}"
        if reason == DISK_PRESSURE:
            return Blocker("DiskFull", told)
        if reason in IMAGE_REASONS:
            return Blocker("ImagePullFailed", told)
        if reason in CREATE_REASONS:
            return Blocker("CreateContainerError", told)
        if reason == "CrashLoopBackOff":
            return Blocker("CrashLoopBackOff", _crashes(container))
    running = _state(agent).get("running")
    if _restarts(agent) >= 2:
        started = running.get("startedAt") if isinstance(running, dict) else None
        steady_at = moment(started) + STEADY if started else None
        if steady_at is None or seen.now < steady_at:
            return Blocker("CrashLoopBackOff", _crashes(agent), steady_at)
    if running is not None:
        return None
    why = _dict(_state(agent), "waiting").get("message")
    return Blocker("PodStarting", f"the pod is starting: {why}" if why else "the pod is starting")


def disk_pressure(pod: Manifest) -> str | None:
    """What the pod says of a full disk, or None."""
    conditions = _list(_dict(pod, "status"), "conditions")
    found: Manifest = next((c for c in conditions if c.get("type") == DISK_PRESSURE), {})
    return (found.get("message") or "the disk is full") if found.get("status") == "True" else None


def _crashes(container: Manifest) -> str:
    last = _dict(_dict(container, "lastState"), "terminated") or _dict(_state(container), "terminated")
    why = f" (exit code {last.get('exitCode')}, {last.get('reason') or 'no reason'})" if last else ""
    return f"container {container.get('name')} crashed {_restarts(container)} times{why}; see its log"


def _restarts(container: Manifest) -> int:
    found = container.get("restartCount")
    return found if isinstance(found, int) else 0


def silent_since(seen: Observed) -> datetime | None:
    """Since when the runtime of a running pod could have been heard, and was not. None where that says nothing about
    it: there is no such pod, or no gateway is alive, or the log does not answer."""
    if seen.pod is None or not seen.log_answers or seen.gateway_since is None:
        return None
    if not is_ours(seen.pod, seen.agent) or not pod_is_running(seen.pod):
        return None
    return max(_heard_at(seen, seen.pod), seen.gateway_since)


def _heard_at(seen: Observed, pod: Manifest) -> datetime:
    """The runtime's last sign of life, or when it began."""
    started = _dict(_state(agent_container(pod)), "running").get("startedAt")
    heard = [moment(pod["metadata"].get("creationTimestamp")), moment(started)]
    if seen.live and seen.live.seen_us:
        heard.append(moment_of_us(seen.live.seen_us))
    return max(heard)


def _silence(seen: Observed, *, has_task: bool) -> Blocker | None:
    """The pod runs, and nobody speaks."""
    since = silent_since(seen)
    if since is not None:
        limit = since + SILENCE_LIMIT
        told = "the pod runs, but its runtime has not been heard of for 30 s; after 60 s the pod is replaced"
        if seen.now < since + SILENCE:
            return None
        return Blocker("RuntimeSilent", told, limit if seen.now < limit else None)
    if seen.pod is None or not has_task or not seen.log_answers or seen.gateway_since is not None:
        return None
    if seen.now < _heard_at(seen, seen.pod) + SILENCE:
        return None
    return Blocker("GatewayAway", "no gateway is alive, so the runtime cannot be heard; the task waits for one")


def moment(value: object) -> datetime:
    """A Kubernetes time; the beginning of time for what is none."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else _NEVER
    except ValueError:
        return _NEVER
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def moment_of_us(us: int) -> datetime:
    """Microseconds since 1970; the beginning of time for numbers that are no time."""
    try:
        return datetime.fromtimestamp(us / 1e6, UTC)
    except (OverflowError, OSError, ValueError):
        return _NEVER


def _state(container: Manifest) -> Manifest:
    return _dict(container, "state")


def _dict(parent: Manifest, field: str) -> Manifest:
    """A nested object; empty where something else stands: not only kubelet may write a pod's status."""
    found = parent.get(field)
    return found if isinstance(found, dict) else {}


def _text(parent: Manifest, field: str) -> str:
    found = parent.get(field)
    return found if isinstance(found, str) else ""


def _list(parent: Manifest, field: str) -> list[Manifest]:
    found = parent.get(field)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
