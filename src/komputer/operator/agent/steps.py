"""Decides which children to create, change and delete. Pure. The rules of each child are in `children.py`."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias

from komputer.domain.base import Manifest
from komputer.kube.store import is_terminating
from komputer.operator.agent.child import NO_ANNOTATIONS, Child, Replacement
from komputer.operator.agent.children import CHILDREN
from komputer.operator.agent.observed import Blocker, Observed, is_of_old_agent, is_ours

SuccessorAnnotations: TypeAlias = Mapping[str, Mapping[str, str]]
"""`Replacement.annotations` of deleted children, by `Child.key`."""


class Step(NamedTuple):
    verb: Literal["create", "patch", "delete"]
    child: Child
    manifest: Manifest
    """The object to create, the merge patch to apply, or the object to delete."""
    name: str
    annotations: Mapping[str, str] = NO_ANNOTATIONS
    """The annotations of the successor, if the step is a deletion."""


class Steps(NamedTuple):
    stages: tuple[tuple[Step, ...], ...] = ()
    """The steps by stage. Those of one stage are performed concurrently, after those of the stage before."""
    requeue_at: datetime | None = None

    @property
    def all(self) -> tuple[Step, ...]:
        return tuple(step for stage in self.stages for step in stage)


def steps(observed: Observed, annotations: SuccessorAnnotations, *, has_lost_task: bool = False) -> Steps:
    """Return the steps that turn the existing children into the desired ones.

    While an object with a child's name is not ours or is terminating, nothing is created or changed; only children of
    an earlier agent of this name are deleted. `annotations` are for children that are created. `has_lost_task` is true
    if a task cannot continue in the next pod and has not been ended in the log yet.
    """
    desired = observed.desired
    if isinstance(desired, Blocker):
        return Steps()
    found = [(child, observed.children[child.key]) for child in CHILDREN if child.key in observed.children]
    if any(not is_ours(manifest, observed.agent) or is_terminating(manifest) for _, manifest in found):
        leftovers = tuple(_delete(child, each) for child, each in found if _is_leftover(each, observed))
        return Steps((leftovers,) if leftovers else ())
    stages: dict[int, list[Step]] = {}
    times = []
    for child in CHILDREN:
        step = _step(child, observed, desired[child.key], annotations.get(child.key, NO_ANNOTATIONS), has_lost_task)
        if isinstance(step, Step):
            stages.setdefault(child.stage, []).append(step)
        elif step is not None:
            times.append(step)
    return Steps(tuple(tuple(stages[stage]) for stage in sorted(stages)), min(times, default=None))


def _step(
    child: Child, observed: Observed, desired: Manifest, annotations: Mapping[str, str], has_lost_task: bool
) -> Step | datetime | None:
    """Return the step for one child, or the time at which one will be due; None if there is neither."""
    found = observed.children.get(child.key)
    if found is None:
        return Step("create", child, _annotated(desired, annotations), desired["metadata"]["name"])
    if replacement := child.replace(observed, found, desired):
        if replacement.due and observed.now < replacement.due:
            return replacement.due
        if replacement.after_endings and has_lost_task:
            return None
        return _delete(child, found, replacement)
    if patch := child.update(found, desired):
        return Step("patch", child, patch, found["metadata"]["name"])
    return None


def _delete(child: Child, found: Manifest, replacement: Replacement | None = None) -> Step:
    annotations = replacement.annotations if replacement else NO_ANNOTATIONS
    return Step("delete", child, found, found["metadata"]["name"], annotations)


def _is_leftover(manifest: Manifest, observed: Observed) -> bool:
    """Return whether the object belongs to an earlier agent of this name and must be deleted by the operator.

    The garbage collector may take long to delete it, or never do so: if its watch broke while the agent was deleted and
    created again, it has not seen the deletion.
    """
    agent = observed.agent
    return not is_ours(manifest, agent) and is_of_old_agent(manifest, agent) and not is_terminating(manifest)


def _annotated(manifest: Manifest, annotations: Mapping[str, str]) -> Manifest:
    if not annotations:
        return manifest
    metadata = manifest["metadata"]
    return {**manifest, "metadata": {**metadata, "annotations": {**metadata.get("annotations", {}), **annotations}}}
