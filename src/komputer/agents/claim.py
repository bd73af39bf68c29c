"""Assigning a task: which writes do it, as values. Pure.

The claim is a JSON patch that tests everything it was decided on (rule `test_mt`), and not the resourceVersion, which
every status write moves. A test of a missing field is a test for null on it, as evanphx/json-patch and so Kubernetes
has it; of a field whose parent is missing too, on the parent.
"""

from typing import Any

from komputer.resources import names
from komputer.resources.agent import Covers, Task, TaskKind, digest_of
from komputer.resources.base import Manifest

Operation = dict[str, Any]


def new_agent(name: str, namespace: str, task_id: str, instructions: str, settings: Manifest) -> Manifest:
    """The resource that a creating POST writes: the manifest's instructions and the task that covers them."""
    task = Task(id=task_id, instructions=instructions, covers=Covers(digest=digest_of(instructions)))
    return {
        "apiVersion": names.API_VERSION,
        "kind": "KomputerAgent",
        "metadata": {"name": name, "namespace": namespace, "labels": {names.AGENT_LABEL: name}},
        "spec": {"instructions": instructions, **settings, "task": task.to_wire()},
    }


def _test(manifest: Manifest, *path: str) -> Operation:
    """A test that the field at `path` is what it is in `manifest`, also if that is: not there."""
    value: Any = manifest
    for depth, key in enumerate(path, 1):
        value = value.get(key)
        if value is None:
            return {"op": "test", "path": "/" + "/".join(path[:depth]), "value": None}
    return {"op": "test", "path": "/" + "/".join(path), "value": value}


def unchanged(manifest: Manifest) -> list[Operation]:
    """Tests that the agent is still the one that was read, and wants the same."""
    return [
        _test(manifest, "metadata", "uid"),
        _test(manifest, "spec", "instructions"),
        _test(manifest, "spec", "task", "id"),
        _test(manifest, "status", "manifestTask", "id"),
    ]


def assign(
    manifest: Manifest, task_id: str, instructions: str, settings: Manifest, kind: TaskKind | None = None
) -> list[Operation]:
    """The patch that gives an idle agent its next task, and with it the settings that came along."""
    recorded = (manifest.get("status") or {}).get("manifestTask") or {}
    covers = Covers(digest=digest_of(manifest["spec"]["instructions"]), manifest_task_id=recorded.get("id"))
    task = Task(id=task_id, instructions=instructions, covers=covers, kind=kind)
    return [*unchanged(manifest), *change(settings), {"op": "add", "path": "/spec/task", "value": task.to_wire()}]


def change(settings: Manifest) -> list[Operation]:
    """Sets fields of spec; they act at the next task."""
    return [{"op": "add", "path": f"/spec/{field}", "value": value} for field, value in settings.items()]


def cancel(manifest: Manifest, task_id: str) -> list[Operation]:
    """The patch that asks for the end of `task_id`, and of no other task."""
    return [
        _test(manifest, "metadata", "uid"),
        _test(manifest, "spec", "cancelTaskID"),
        {"op": "add", "path": "/spec/cancelTaskID", "value": task_id},
    ]
