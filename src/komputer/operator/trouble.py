"""What stands between an agent and a runtime that could hold its task. Pure."""

from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from komputer.operator.seen import Fault, Seen, is_going, is_of_old_agent, is_ours
from komputer.resources import names
from komputer.resources.base import Manifest

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
GOING_LIMIT: Final = timedelta(seconds=60)
"""How long after its deletion time a pod may still be there before its node counts as lost."""


class Trouble(NamedTuple):
    """A condition's reason and message; `look_again` is when time alone will have changed the answer."""

    reason: str
    message: str
    look_again: datetime | None = None


def trouble(seen: Seen, waiting_since: datetime | None) -> Trouble | None:
    """The first thing in the way, or None. `waiting_since`: since when a task waits or runs, None where none does."""
    found = _without_pod(seen) if seen.pod is None else _with_pod(seen, seen.pod)
    if found or waiting_since is None or seen.pod is None:
        return found
    return _silence(seen, seen.pod, waiting_since)


def pod_is_running(pod: Manifest | None) -> bool:
    """Whether the agent's container runs, in a pod that stays."""
    return pod is not None and not is_going(pod) and "running" in _state(agent_container(pod))


def agent_container(pod: Manifest) -> Manifest:
    """The status of the container that runs the agent; empty where kubelet has not said anything."""
    statuses = _list(pod.get("status", {}), "containerStatuses")
    specs = _list(pod.get("spec", {}), "containers")
    name = next(
        (c["name"] for c in specs if c.get("name") == names.AGENT_CONTAINER), specs[0].get("name") if specs else None
    )
    return next((status for status in statuses if status.get("name") == name), {})


def _without_pod(seen: Seen) -> Trouble:
    foreign = _foreign(seen)
    if isinstance(seen.desired, Fault):
        return Trouble(*seen.desired)
    if foreign:
        return foreign
    if seen.refused is not None:
        return Trouble("PodRefused", f"the API server refused what the template makes: {seen.refused}")
    return Trouble("PodMissing", "the pod is being made")


def _foreign(seen: Seen) -> Trouble | None:
    """A child of the right name that is not this agent's to use."""
    for child in seen.children:
        kind, name = child.get("kind", "object"), child["metadata"]["name"]
        if is_ours(child, seen.agent) and not is_going(child):
            continue
        if is_ours(child, seen.agent) or is_of_old_agent(child, seen.agent):
            return Trouble(
                "WaitingForOldPod" if kind == "Pod" else "WaitingForOldChildren", f"{kind} {name} is being deleted"
            )
        return Trouble("ChildNotOurs", f"{kind} {name} exists and is not controlled by this agent: delete or rename it")
    return None


def _with_pod(seen: Seen, pod: Manifest) -> Trouble | None:
    if not is_ours(pod, seen.agent):
        return _foreign(seen)
    if is_going(pod):
        gone_by = moment(pod["metadata"]["deletionTimestamp"]) + GOING_LIMIT
        if seen.now >= gone_by:
            return Trouble("NodeLost", "the pod is being deleted and its node does not confirm it")
        return Trouble("WaitingForOldPod", "the pod is being deleted", gone_by)
    status = pod.get("status", {})
    phase, reason, message = status.get("phase"), status.get("reason"), status.get("message") or ""
    if reason == "NodeLost" or phase == "Unknown":
        return Trouble("NodeLost", message or "the pod's node does not answer")
    if phase in ("Failed", "Succeeded"):
        return Trouble("PodFailed", f"the pod ended ({reason or phase}) and will be made again. {message}".strip())
    found = _containers(seen, pod)
    # What kubelet says of containers is newer than what the scheduler once said of the pod.
    return (_unscheduled(status) or found) if found and found.reason == "PodStarting" else found


def _unscheduled(status: Manifest) -> Trouble | None:
    scheduled: Manifest = next((c for c in _list(status, "conditions") if c.get("type") == "PodScheduled"), {})
    if scheduled.get("status") != "False" or scheduled.get("reason") not in ("Unschedulable", "SchedulerError"):
        return None
    return Trouble("Unschedulable", scheduled.get("message") or "no node takes the pod")


def _containers(seen: Seen, pod: Manifest) -> Trouble | None:
    status, agent = pod.get("status", {}), agent_container(pod)
    for container in (*_list(status, "initContainerStatuses"), *_list(status, "containerStatuses")):
        waiting = _state(container).get("waiting") or {}
        told = f"container {container.get('name')}: {waiting.get('message') or waiting.get('reason')}"
        if waiting.get("reason") == DISK_PRESSURE:
            return Trouble("DiskFull", told)
        if waiting.get("reason") in IMAGE_REASONS:
            return Trouble("ImagePullFailed", told)
        if waiting.get("reason") in CREATE_REASONS:
            return Trouble("CreateContainerError", told)
        if waiting.get("reason") == "CrashLoopBackOff":
            return Trouble("CrashLoopBackOff", _crashes(container))
    running = _state(agent).get("running")
    if agent.get("restartCount", 0) >= 2:
        steady_at = moment(running["startedAt"]) + STEADY if running and running.get("startedAt") else None
        if steady_at is None or seen.now < steady_at:
            return Trouble("CrashLoopBackOff", _crashes(agent), steady_at)
    if running is not None:
        return None
    why = (_state(agent).get("waiting") or {}).get("message")
    return Trouble("PodStarting", f"the pod is starting: {why}" if why else "the pod is starting")


def disk_pressure(pod: Manifest) -> str | None:
    """What the pod says of a full disk, or None."""
    conditions = _list(pod.get("status", {}), "conditions")
    found: Manifest = next((c for c in conditions if c.get("type") == DISK_PRESSURE), {})
    return (found.get("message") or "the disk is full") if found.get("status") == "True" else None


def _crashes(container: Manifest) -> str:
    last = (container.get("lastState") or {}).get("terminated") or _state(container).get("terminated") or {}
    why = f" (exit code {last.get('exitCode')}, {last.get('reason') or 'no reason'})" if last else ""
    return f"container {container.get('name')} crashed {container.get('restartCount', 0)} times{why}; see its log"


def _silence(seen: Seen, pod: Manifest, waiting_since: datetime) -> Trouble | None:
    """The pod runs, a task waits, and nobody speaks."""
    started = (_state(agent_container(pod)).get("running") or {}).get("startedAt")
    heard = [waiting_since, *([moment(started)] if started else [])]
    if seen.live and seen.live.seen_us:
        heard.append(datetime.fromtimestamp(seen.live.seen_us / 1e6, seen.now.tzinfo))
    quiet_from = max(heard) + SILENCE
    if seen.now < quiet_from:
        return None
    return Trouble("RuntimeSilent", "the pod runs, but its runtime has not been heard of for 30 s")


def moment(text: str) -> datetime:
    """A Kubernetes time."""
    return datetime.fromisoformat(text)


def _state(container: Manifest) -> Manifest:
    found: Manifest = container.get("state") or {}
    return found


def _list(parent: Manifest, field: str) -> list[Any]:
    return parent.get(field) or []
