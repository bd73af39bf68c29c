"""The JSON patches that assign a task or change an agent, as values. Pure.

The patch of an assignment tests everything that the decision was based on (rule `test_mt`): the uid, the generation,
which counts changes of `spec`, and the manifest's task in `status`. It does not test the resourceVersion, because every
status write changes it. Only ids and numbers are tested: Kubernetes compares the JSON text of a string, and writes `<`,
`>` and `&` in another way than most clients, so that a test of free text would always fail.

A missing field is tested for null, as evanphx/json-patch and so Kubernetes implements it. If the parent of the field is
missing too, the parent is tested.
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
    """The manager's task that assigns it."""
    kind: TaskKind | None = None

    def covering(self, covers: Covers) -> Manifest:
        return Task(**self._asdict(), covers=covers).to_wire()


def new_agent(
    name: str, namespace: str, task: NewTask, settings: Manifest, metadata: Manifest | None = None
) -> Manifest:
    """Return the manifest of a new agent, with its instructions and the task that covers them. `metadata` is merged
    into the metadata of the manifest."""
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


def with_defaults(settings: Manifest) -> Manifest:
    """Return the settings of a new agent: those that the request names, and the platform's defaults."""
    defaults = {"model": names.DEFAULT_MODEL, "templateRef": names.DEFAULT_TEMPLATE, "role": "manager"}
    return defaults | {field: value for field, value in settings.items() if value is not None}


def _test(manifest: Manifest, *path: str) -> Operation:
    """Return an operation which tests that the field at `path` has the same value as in `manifest`, or is missing if it
    is missing there."""
    value: Any = manifest
    for depth, key in enumerate(path, 1):
        value = value.get(key) if isinstance(value, dict) else None
        if value is None:
            return {"op": "test", "path": "/" + "/".join(path[:depth]), "value": None}
    return {"op": "test", "path": "/" + "/".join(path), "value": value}


def unchanged(manifest: Manifest) -> list[Operation]:
    """Return tests that the agent is the same and that the same task is wanted as in `manifest`."""
    return [
        *same_spec(manifest),
        _test(manifest, "status", "manifestTask", "id"),
    ]


def assign(manifest: Manifest, task: NewTask, settings: Manifest) -> list[Operation]:
    """Return the patch that assigns the next task to an idle agent, together with the settings of the request."""
    recorded = (manifest.get("status") or {}).get("manifestTask") or {}
    covers = Covers(digest=digest_of(manifest["spec"]["instructions"]), manifest_task_id=recorded.get("id"))
    changes = change(manifest, settings)
    return [*unchanged(manifest), *changes, {"op": "add", "path": "/spec/task", "value": task.covering(covers)}]


def change(manifest: Manifest, settings: Manifest) -> list[Operation]:
    """Return operations that set fields of spec; they take effect at the next task. None removes a field, so that its
    default applies. Of `labels` only the named ones are set, or removed if None."""
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
    # Removing a missing field is an error, so it is added first.
    return [{"op": "add", "path": path, "value": ""}, {"op": "remove", "path": path}]


def _relabelled(manifest: Manifest, labels: dict[str, str | None]) -> list[Operation]:
    """Return operations that change the labels of spec, and their copies in metadata, which selectors use."""
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
    """Return an etag of the agent and its spec. It does not depend on the status, which changes all the time."""
    return f'"{manifest["metadata"]["uid"]}-{manifest["metadata"]["generation"]}"'


def same_agent(manifest: Manifest) -> list[Operation]:
    """Return a test that the object is the same agent, not a later one of the same name."""
    return [_test(manifest, "metadata", "uid")]


def same_spec(manifest: Manifest) -> list[Operation]:
    """Return tests that the agent still has the same `etag` as `manifest`."""
    return [_test(manifest, "metadata", "uid"), _test(manifest, "metadata", "generation")]


def cancel(manifest: Manifest, task_id: str) -> list[Operation]:
    """Return the patch that requests the end of `task_id`, and of no other task."""
    return [
        _test(manifest, "metadata", "uid"),
        _test(manifest, "spec", "cancelTaskID"),
        {"op": "add", "path": "/spec/cancelTaskID", "value": task_id},
    ]
