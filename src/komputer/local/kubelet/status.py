"""Derives the status of a pod from the states of its containers. Pure."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from komputer.backoff import Backoff
from komputer.domain.base import Manifest, rfc3339

RESTART_BACKOFF = Backoff(10.0, 300.0)
"""Kubernetes' own values. The first restart is immediate, so the delay depends on the number of crashes before the
last one."""
BACK_OFF_FORGIVEN = timedelta(minutes=10)
"""How long a container must run before the count of its crashes starts again, as in Kubernetes' CrashLoopBackOff."""


@dataclass(frozen=True)
class Exit:
    """How a container ended."""

    code: int
    signal: int | None
    started: datetime
    finished: datetime
    message: str = ""


@dataclass
class ContainerState:
    """The kubelet's view of one container."""

    name: str
    image: str
    state: Literal["waiting", "running", "terminated"] = "waiting"
    reason: str = "ContainerCreating"
    message: str = ""
    started: datetime | None = None
    exit: Exit | None = None
    last: Exit | None = None
    restarts: int = 0
    crashes: int = field(default=0)
    """The number of consecutive crashes, which determines the back-off. It starts again after `BACK_OFF_FORGIVEN`."""


def starts_again(policy: str, exit_code: int) -> bool:
    """Return whether a restartPolicy restarts a container with this exit code."""
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def _terminated(done: Exit) -> Manifest:
    return {
        "terminated": {
            "exitCode": done.code,
            **({"signal": done.signal} if done.signal else {}),
            "reason": "Completed" if done.code == 0 else "Error",
            **({"message": done.message} if done.message else {}),
            "startedAt": rfc3339(done.started),
            "finishedAt": rfc3339(done.finished),
        }
    }


def container_status(container: ContainerState) -> Manifest:
    """Return an entry of `status.containerStatuses`."""
    if container.state == "running" and container.started:
        state: Manifest = {"running": {"startedAt": rfc3339(container.started)}}
    elif container.state == "terminated" and container.exit:
        state = _terminated(container.exit)
    else:
        state = {
            "waiting": {"reason": container.reason, **({"message": container.message} if container.message else {})}
        }
    return {
        "name": container.name,
        "image": container.image,
        "imageID": "",
        "ready": container.state == "running",
        "started": container.state == "running",
        "restartCount": container.restarts,
        "state": state,
        **({"lastState": _terminated(container.last)} if container.last else {}),
    }


DISK_PRESSURE = "DiskPressure"


def pod_status(
    pod: Manifest, containers: list[ContainerState], now: datetime, disk_is_full: str | None = None
) -> Manifest:
    """Return the pod's `status`. The transition time of an unchanged condition is kept. `disk_is_full` is a sentence or
    None. A cluster reports a full disk as a condition of the node; here it is a condition of the pod, since there is no
    Node object."""
    old = pod.get("status") or {}
    policy = pod["spec"].get("restartPolicy", "Always")
    if all(c.state == "terminated" and c.exit and not starts_again(policy, c.exit.code) for c in containers):
        phase = "Succeeded" if all(c.exit and c.exit.code == 0 for c in containers) else "Failed"
    elif any(c.state != "waiting" or c.last for c in containers):
        phase = "Running"
    else:
        phase = "Pending"
    ready = "True" if containers and all(c.state == "running" for c in containers) else "False"
    conditions = []
    for kind, value in (
        ("PodScheduled", "True"),
        ("Initialized", "True"),
        ("ContainersReady", ready),
        ("Ready", ready),
    ):
        before = next((c for c in old.get("conditions", ()) if c["type"] == kind and c["status"] == value), None)
        conditions.append(before or {"type": kind, "status": value, "lastTransitionTime": rfc3339(now)})
    if disk_is_full:
        conditions.append({"type": DISK_PRESSURE, "status": "True", "reason": "DiskFull", "message": disk_is_full})
    return {
        "phase": phase,
        "conditions": conditions,
        "hostIP": "127.0.0.1",
        "podIP": "127.0.0.1",
        "podIPs": [{"ip": "127.0.0.1"}],
        "startTime": old.get("startTime") or rfc3339(now),
        "qosClass": "BestEffort",
        "containerStatuses": [container_status(c) for c in containers],
    }
