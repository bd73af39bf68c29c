"""Assigning a task: which writes do it, as values. Pure.

The claim is a JSON patch that tests everything it was decided on (rule `test_mt`): the uid, the generation, which
counts changes of `spec`, and the manifest's task in `status`. It does not test the resourceVersion, which every status
write changes. Only ids and numbers are tested: Kubernetes compares the JSON text of a string, and writes `<`, `>` and
`&` in another way than most clients, so that a test of a person's text fails for ever.

A test of a missing field is a test for null on it, as evanphx/json-patch and so Kubernetes has it; of a field whose
parent is missing too, on the parent.
"""

from typing import Any, NamedTuple

from komputer.domain import names
from komputer.domain.agent import Covers, Task, TaskKind, digest_of
from komputer.domain.base import Manifest, fields_of

Operation = dict[str, Any]


class NewTask(NamedTuple):
    """A task that is about to be assigned."""

    id: str
    instructions: str
    manager_task_id: str | None = None
    """The manager's task that gives it."""
    kind: TaskKind | None = None

    def covering(self, covers: Covers) -> Manifest:
        return Task(**self._asdict(), covers=covers).to_wire()


def new_agent(
    name: str, namespace: str, task: NewTask, settings: Manifest, metadata: Manifest | None = None
) -> Manifest:
    """The resource that a creating POST writes: the manifest's instructions and the task that covers them. `metadata`
    is what it says beside its name."""
    more = metadata or {}
    return {
        "apiVersion": names.API_VERSION,
        "kind": "KomputerAgent",
        "metadata": {
            **more,
            "name": name,
            "namespace": namespace,
            "labels": {**(settings.get("labels") or {}), **more.get("labels", {}), names.AGENT_LABEL: name},
            "annotations": {names.CREATED_BY_ANNOTATION: task.id},
        },
        "spec": {
            "instructions": task.instructions,
            **{field: value for field, value in settings.items() if value is not None},
            "task": task.covering(Covers(digest=digest_of(task.instructions))),
        },
    }


def _test(manifest: Manifest, *path: str) -> Operation:
    """A test that the field at `path` is what it is in `manifest`, also if that is: not there."""
    value: Any = manifest
    for depth, key in enumerate(path, 1):
        value = value.get(key) if isinstance(value, dict) else None
        if value is None:
            return {"op": "test", "path": "/" + "/".join(path[:depth]), "value": None}
    return {"op": "test", "path": "/" + "/".join(path), "value": value}


def unchanged(manifest: Manifest) -> list[Operation]:
    """Tests that the agent is still the one that was read, and wants the same."""
    return [
        *same_spec(manifest),
        _test(manifest, "status", "manifestTask", "id"),
    ]


def assign(manifest: Manifest, task: NewTask, settings: Manifest) -> list[Operation]:
    """The patch that gives an idle agent its next task, and with it the settings that came along."""
    recorded = (manifest.get("status") or {}).get("manifestTask") or {}
    covers = Covers(digest=digest_of(manifest["spec"]["instructions"]), manifest_task_id=recorded.get("id"))
    changes = change(manifest, settings)
    return [*unchanged(manifest), *changes, {"op": "add", "path": "/spec/task", "value": task.covering(covers)}]


def change(manifest: Manifest, settings: Manifest) -> list[Operation]:
    """Sets fields of spec; they act at the next task. A field that is None is taken away, so that its default counts.
    Of `labels` those that are named are set, or taken away where None; the others stay."""
    operations: list[Operation] = []
    for field, value in settings.items():
        if field == "labels":
            operations += _relabelled(manifest, value)
        else:
            operations += _put("/spec", field, value)
    return operations


def _put(parent: str, key: str, value: Any) -> list[Operation]:
    path = f"{parent}/{key.replace('~', '~0').replace('/', '~1')}"
    if value is not None:
        return [{"op": "add", "path": path, "value": value}]
    # What is not there cannot be removed: so it is put there first.
    return [{"op": "add", "path": path, "value": ""}, {"op": "remove", "path": path}]


def _relabelled(manifest: Manifest, labels: dict[str, str | None]) -> list[Operation]:
    """Labels of spec, and their copies in metadata, which selectors see."""
    labelled = fields_of(manifest, "spec").get("labels")
    before: dict[str, str] = labelled if isinstance(labelled, dict) else {}
    after = {key: value for key, value in {**before, **labels}.items() if value is not None}
    copies: dict[str, str] | None = manifest["metadata"].get("labels")
    operations = [_test(manifest, "metadata", "generation"), *_put("/spec", "labels", after or None)]
    if copies is None:
        operations += [_test(manifest, "metadata", "labels"), *_put("/metadata", "labels", {})]
    for key in labels:
        if key in after or key in (copies or {}):
            operations += _put("/metadata/labels", key, after.get(key))
    return operations


def etag(manifest: Manifest) -> str:
    """Names the agent and the state of its spec. The status, which moves all the time, is no part of it."""
    return f'"{manifest["metadata"]["uid"]}-{manifest["metadata"]["generation"]}"'


def same_agent(manifest: Manifest) -> list[Operation]:
    """Tests that it is not another agent of the same name."""
    return [_test(manifest, "metadata", "uid")]


def same_spec(manifest: Manifest) -> list[Operation]:
    """Tests that the agent has the `etag` that it had."""
    return [_test(manifest, "metadata", "uid"), _test(manifest, "metadata", "generation")]


def cancel(manifest: Manifest, task_id: str) -> list[Operation]:
    """The patch that asks for the end of `task_id`, and of no other task."""
    return [
        _test(manifest, "metadata", "uid"),
        _test(manifest, "spec", "cancelTaskID"),
        {"op": "add", "path": "/spec/cancelTaskID", "value": task_id},
    ]
