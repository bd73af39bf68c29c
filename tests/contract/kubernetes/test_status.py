"""The status is written through /status only, and /status writes nothing else."""

from tests.contract.kubernetes.cluster import JSON_PATCH, answered, causes, refused
from tests.contract.kubernetes.room import Room


def test_a_status_in_a_new_object_is_dropped(room: Room) -> None:
    """A manifest exported from another cluster does not bring its status."""
    assert "status" not in room.create("widgets", room.widget("ada") | {"status": {"phase": "Ready"}})


def test_the_main_resource_does_not_write_the_status(room: Room) -> None:
    """A user who applies an exported manifest cannot reset what the operator has written."""
    room.create("widgets", room.widget("ada"))
    known = room.merge("widgets", "ada", {"status": {"phase": "Ready"}}, "status")
    path = room.path("widgets", "ada")
    assert answered(room.api.put(path, known | {"status": {"phase": "Pending"}}))["status"] == {"phase": "Ready"}
    assert room.merge("widgets", "ada", {"status": {"phase": "Pending"}})["status"] == {"phase": "Ready"}
    steps = [{"op": "remove", "path": "/status"}]
    assert answered(room.api.patch(path, steps, JSON_PATCH))["status"] == {"phase": "Ready"}


def test_the_status_does_not_write_the_main_resource(room: Room) -> None:
    """The operator, which writes the status all the time, can never revert a user's change, labels included."""
    known = room.create("widgets", room.widget("ada", size=5))
    patch = {"metadata": {"labels": {"a": "b"}}, "spec": {"size": 9}, "status": {"phase": "Ready"}}
    patched = room.merge("widgets", "ada", patch, "status")
    assert patched["spec"]["size"] == 5
    assert "labels" not in patched["metadata"]
    assert patched["status"] == {"phase": "Ready"}
    path = room.path("widgets", "ada", "status")
    replaced = answered(room.api.put(path, patched | {"spec": {"color": "blue"}, "status": {"ready": True}}))
    assert (replaced["spec"], replaced["status"]) == (known["spec"], {"ready": True})


def test_a_status_write_changes_the_version(room: Room) -> None:
    """Watches see it, and an update based on the version before is stale."""
    created = room.create("widgets", room.widget("ada"))
    patched = room.merge("widgets", "ada", {"status": {"phase": "Ready"}}, "status")
    assert int(patched["metadata"]["resourceVersion"]) > int(created["metadata"]["resourceVersion"])
    refused(room.api.put(room.path("widgets", "ada"), created | {"spec": {"color": "blue"}}), 409, "Conflict")
    refused(room.api.put(room.path("widgets", "ada", "status"), created | {"status": {}}), 409, "Conflict")


def test_the_status_is_validated_and_pruned(room: Room) -> None:
    """By the same schema."""
    room.create("widgets", room.widget("ada"))
    path = room.path("widgets", "ada", "status")
    assert "status.phase" in causes(room.api.patch(path, {"status": {"phase": "Odd"}}))
    patched = room.merge("widgets", "ada", {"status": {"phase": "Ready", "unknown": 1}}, "status")
    assert patched["status"] == {"phase": "Ready"}


def test_the_status_accepts_a_json_patch_with_tests(room: Room) -> None:
    """How the operator accounts costs: a test on the cursor, then cursor and cost in one write."""
    room.create("widgets", room.widget("ada"))
    room.merge("widgets", "ada", {"status": {"observedGeneration": 1}}, "status")
    steps = [
        {"op": "test", "path": "/status/observedGeneration", "value": 1},
        {"op": "replace", "path": "/status/observedGeneration", "value": 2},
    ]
    path = room.path("widgets", "ada", "status")
    assert answered(room.api.patch(path, steps, JSON_PATCH))["status"] == {"observedGeneration": 2}
    refused(room.api.patch(path, steps, JSON_PATCH), 422, "Invalid")


def test_the_status_can_be_read_alone(room: Room) -> None:
    """GET of /status returns the whole object."""
    created = room.create("widgets", room.widget("ada"))
    assert answered(room.api.get(room.path("widgets", "ada", "status"))) == created


def test_a_kind_without_a_status_subresource_has_no_status_path(room: Room) -> None:
    """Its status is an ordinary field, and a change of it increments the generation."""
    gadgets = f"/apis/{room.group}/v1/gadgets"
    body = {"apiVersion": f"{room.group}/v1", "kind": "Gadget", "metadata": {"name": room.namespace}}
    created = answered(room.api.post(gadgets, body | {"status": {"phase": "set"}}), 201)
    assert created["status"] == {"phase": "set"}
    assert room.api.get(f"{gadgets}/{room.namespace}/status").status_code == 404
    patched = answered(room.api.patch(f"{gadgets}/{room.namespace}", {"status": {"phase": "other"}}))
    assert patched["metadata"]["generation"] == 2
    answered(room.api.delete(f"{gadgets}/{room.namespace}"))
