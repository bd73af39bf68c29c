"""Reads a pod's status. Types are checked, since kubelet is not its only writer."""

from datetime import UTC, datetime
from typing import Final

from komputer.domain import names
from komputer.domain.base import Manifest
from komputer.kube.store import is_terminating

DISK_PRESSURE: Final = "DiskPressure"
"""A condition that Kubernetes sets on nodes. The laptop's kubelet has no node: it sets the condition on pods, and uses
it as the reason of a waiting container."""
EPOCH: Final = datetime.fromtimestamp(0, UTC)


def pod_is_running(pod: Manifest | None) -> bool:
    """Return whether the agent's container runs, in a pod that is not terminating."""
    return pod is not None and not is_terminating(pod) and state_of(agent_container(pod)).get("running") is not None


def phase_of(pod: Manifest) -> str:
    """Return the pod's phase; empty before kubelet has written one."""
    return text_in(dict_in(pod, "status"), "phase")


def start_time_of(pod: Manifest) -> str | None:
    """Return `startTime` as kubelet wrote it; None if it is not a time."""
    found = text_in(dict_in(pod, "status"), "startTime")
    return found if parse_time(found) > EPOCH else None


def created_at(pod: Manifest) -> datetime:
    return parse_time(pod["metadata"].get("creationTimestamp"))


def agent_container(pod: Manifest) -> Manifest:
    """Return the status of the container that runs the agent; empty before kubelet has written one."""
    statuses = dicts_in(dict_in(pod, "status"), "containerStatuses")
    specs = dicts_in(dict_in(pod, "spec"), "containers")
    name = next(
        (c["name"] for c in specs if c.get("name") == names.AGENT_CONTAINER), specs[0].get("name") if specs else None
    )
    return next((status for status in statuses if status.get("name") == name), {})


def disk_pressure(pod: Manifest) -> str | None:
    """Return the message of the pod's condition DiskPressure; None if it is not True."""
    conditions = dicts_in(dict_in(pod, "status"), "conditions")
    found: Manifest = next((c for c in conditions if c.get("type") == DISK_PRESSURE), {})
    return (found.get("message") or "the disk is full") if found.get("status") == "True" else None


def restarts_of(container: Manifest) -> int:
    found = container.get("restartCount")
    return found if isinstance(found, int) else 0


def state_of(container: Manifest) -> Manifest:
    return dict_in(container, "state")


def parse_time(value: object) -> datetime:
    """Return a Kubernetes time; 1970 for a value that is not a time."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else EPOCH
    except ValueError:
        return EPOCH
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def time_of_us(us: int) -> datetime:
    """Return the time that is `us` microseconds after 1970; 1970 for a number out of range."""
    try:
        return datetime.fromtimestamp(us / 1e6, UTC)
    except (OverflowError, OSError, ValueError):
        return EPOCH


def dict_in(parent: Manifest, field: str) -> Manifest:
    """Return a nested object; an empty one if the value is not an object."""
    found = parent.get(field)
    return found if isinstance(found, dict) else {}


def text_in(parent: Manifest, field: str) -> str:
    """Return a string; an empty one if the value is not a string."""
    found = parent.get(field)
    return found if isinstance(found, str) else ""


def dicts_in(parent: Manifest, field: str) -> list[Manifest]:
    """Return the objects in a list; an empty list if the value is not a list."""
    found = parent.get(field)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
