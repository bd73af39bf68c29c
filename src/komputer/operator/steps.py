"""What is to be done to an agent's children. Pure."""

from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple

from komputer.operator.desired import grown
from komputer.operator.seen import Fault, Seen, is_going, is_of_old_agent, is_ours
from komputer.operator.trouble import moment
from komputer.resources import names
from komputer.resources.base import Manifest

BACK_OFF: Final = timedelta(seconds=10)
"""Before a pod that failed is made again; doubled each time, up to `BACK_OFF_LIMIT`. As kubelet does for containers."""
BACK_OFF_LIMIT: Final = timedelta(minutes=5)
FORGIVEN_AFTER: Final = timedelta(minutes=10)
"""A pod that lived so long counts as the first to fail."""


class Step(NamedTuple):
    """`manifest` is the object to create, or the merge patch; of what is deleted, the object that was found."""

    verb: Literal["create", "patch", "delete"]
    manifest: Manifest
    name: str


class Steps(NamedTuple):
    """`first` may be done at once and side by side, `then` when they are done."""

    first: list[Step]
    then: list[Step]
    look_again: datetime | None = None


def steps(seen: Seen, failed_before: int) -> Steps:
    """What brings the children to what is desired. A running pod is left alone, whatever changed around it, but where
    the gateway has moved: it would wait for ever at the old address. Its task is resumed in the next pod.

    `failed_before`: how many pods in a row failed before the one that is to be made.
    """
    if isinstance(seen.desired, Fault):
        return Steps([], [])
    if any(not is_ours(child, seen.agent) or is_going(child) for child in seen.children):
        return Steps([_delete(child) for child in seen.children if _is_left_over(child, seen)], [])
    first = []
    if seen.pvc is None:
        first.append(_create(seen.desired.pvc))
    elif patch := grown(seen.pvc, seen.desired.pvc):
        first.append(Step("patch", patch, seen.pvc["metadata"]["name"]))
    if seen.settings is None:
        first.append(_create(seen.desired.settings))
    elif seen.settings.get("data") != seen.desired.settings["data"]:
        first.append(Step("patch", {"data": seen.desired.settings["data"]}, seen.settings["metadata"]["name"]))
    if seen.pod is None:
        return Steps(first, [_create(_counted(seen.desired.pod, failed_before))])
    if _has_old_gateway(seen.pod, seen.desired.pod):
        return Steps(first, [_delete(seen.pod)])
    if seen.pod.get("status", {}).get("phase") not in ("Failed", "Succeeded"):
        return Steps(first, [])
    due = _made_at(seen.pod) + back_off(failures(seen.pod, seen.now))
    if seen.now < due:
        return Steps(first, [], due)
    return Steps(first, [_delete(seen.pod)])


def _has_old_gateway(pod: Manifest, wanted: Manifest) -> bool:
    """A pod that does not say which address it knows was made by an earlier version, and is left alone."""
    known, now = ((m["metadata"].get("annotations") or {}).get(names.GATEWAY_ANNOTATION) for m in (pod, wanted))
    return known is not None and known != now


def _is_left_over(child: Manifest, seen: Seen) -> bool:
    """What the garbage collector has yet to take of an earlier agent of this name. It can take long, or for ever: one
    whose watch was cut off while the agent was deleted and made again has never heard of the deletion."""
    return not is_ours(child, seen.agent) and is_of_old_agent(child, seen.agent) and not is_going(child)


def failures(pod: Manifest, now: datetime) -> int:
    """Pods in a row that failed before this one; none if this one lived long."""
    if now - _made_at(pod) >= FORGIVEN_AFTER:
        return 0
    told = (pod["metadata"].get("annotations") or {}).get(names.REMADE_ANNOTATION, "0")
    return min(int(told), 100) if told.isdecimal() else 0


def back_off(failed: int) -> timedelta:
    return min(BACK_OFF_LIMIT, BACK_OFF * (1 << min(failed, 10)))


def _made_at(pod: Manifest) -> datetime:
    return moment(pod["metadata"]["creationTimestamp"])


def _delete(manifest: Manifest) -> Step:
    return Step("delete", manifest, manifest["metadata"]["name"])


def _create(manifest: Manifest) -> Step:
    return Step("create", manifest, manifest["metadata"]["name"])


def _counted(pod: Manifest, failed_before: int) -> Manifest:
    if not failed_before:
        return pod
    metadata = pod["metadata"]
    annotations = {**metadata["annotations"], names.REMADE_ANNOTATION: str(failed_before)}
    return {**pod, "metadata": {**metadata, "annotations": annotations}}
