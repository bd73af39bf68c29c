"""What is to be done to an agent's children. Pure."""

from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple

from komputer.backoff import Backoff
from komputer.domain import names
from komputer.domain.base import Manifest
from komputer.operator.agent.blockers import SILENCE_LIMIT, moment, phase_of, silent_since
from komputer.operator.agent.desired import grown
from komputer.operator.agent.observed import Fault, Observed, is_going, is_of_old_agent, is_ours

BACKOFF: Final = Backoff(10.0, 300.0)
"""Before a pod that failed is made again. The values are kubelet's for containers."""
FORGIVEN_AFTER: Final = timedelta(minutes=10)
"""A pod that lived so long counts as the first to fail."""


SILENT_PODS: Final = 3
"""Silent pods in a row after which the task ends with `runtime_lost`. Each takes `SILENCE_LIMIT` and its pod's grace
period; a pod that lived as long as `FORGIVEN_AFTER` counts as the first."""


class Earlier(NamedTuple):
    """Pods in a row before one that failed, and that were deleted because their runtimes were silent."""

    failed: int = 0
    silent: int = 0


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
    earlier: Earlier = Earlier()
    """For the pod that is made next."""


def steps(seen: Observed, earlier: Earlier, *, has_lost_task: bool = False) -> Steps:
    """What brings the children to what is desired. A running pod is left alone, whatever changed around it, unless its
    runtime is silent, or the gateway has moved and it would wait for ever at the old address. Its task is resumed in
    the next pod.

    `earlier` is of the pod that is to be made. `has_lost_task`: the pod holds a task that is to be ended first.
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
        return Steps(first, [_create(_counted(seen.desired.pod, earlier))])
    if _has_old_gateway(seen.pod, seen.desired.pod):
        return Steps(first, [_delete(seen.pod)])
    if is_lost(seen):
        silent = silent_pods(seen.pod, seen.now)
        return Steps(first, [] if has_lost_task else [_delete(seen.pod)], None, Earlier(0, silent % SILENT_PODS))
    if phase_of(seen.pod) not in ("Failed", "Succeeded"):
        return Steps(first, [])
    failed = failures(seen.pod, seen.now)
    due = _made_at(seen.pod) + BACKOFF.delay(failed + 1)
    if seen.now < due:
        return Steps(first, [], due)
    return Steps(first, [_delete(seen.pod)], None, Earlier(failed + 1))


def is_lost(seen: Observed) -> bool:
    """Whether the runtime has been silent for too long."""
    since = silent_since(seen)
    return since is not None and seen.now >= since + SILENCE_LIMIT


def silent_pods(pod: Manifest, now: datetime) -> int:
    """Silent pods in a row, this one included."""
    return _before(pod, now, names.SILENT_ANNOTATION) + 1


def _has_old_gateway(pod: Manifest, wanted: Manifest) -> bool:
    """A pod that does not say which address it knows was made by an earlier version, and is left alone."""
    known = _annotation(pod, names.GATEWAY_ANNOTATION)
    return known is not None and known != _annotation(wanted, names.GATEWAY_ANNOTATION)


def _is_left_over(child: Manifest, seen: Observed) -> bool:
    """What the garbage collector has yet to take of an earlier agent of this name. It can take long, or for ever: one
    whose watch was cut off while the agent was deleted and made again has never heard of the deletion."""
    return not is_ours(child, seen.agent) and is_of_old_agent(child, seen.agent) and not is_going(child)


def failures(pod: Manifest, now: datetime) -> int:
    """Pods in a row that failed before this one; none if this one lived long."""
    return _before(pod, now, names.REMADE_ANNOTATION)


def _before(pod: Manifest, now: datetime, annotation: str) -> int:
    if now - _made_at(pod) >= FORGIVEN_AFTER:
        return 0
    told = _annotation(pod, annotation)
    return min(int(told), 100) if isinstance(told, str) and told.isdecimal() and len(told) < 10 else 0


def _annotation(pod: Manifest, name: str) -> object:
    annotations = pod["metadata"].get("annotations")
    return annotations.get(name) if isinstance(annotations, dict) else None


def _made_at(pod: Manifest) -> datetime:
    return moment(pod["metadata"].get("creationTimestamp"))


def _delete(manifest: Manifest) -> Step:
    return Step("delete", manifest, manifest["metadata"]["name"])


def _create(manifest: Manifest) -> Step:
    return Step("create", manifest, manifest["metadata"]["name"])


def _counted(pod: Manifest, earlier: Earlier) -> Manifest:
    counts = {names.REMADE_ANNOTATION: earlier.failed, names.SILENT_ANNOTATION: earlier.silent}
    told = {annotation: str(count) for annotation, count in counts.items() if count}
    if not told:
        return pod
    metadata = pod["metadata"]
    annotations = {**metadata["annotations"], **told}
    return {**pod, "metadata": {**metadata, "annotations": annotations}}
