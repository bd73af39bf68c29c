"""PATCH with its three types."""

from typing import Any

import pytest

from tests.contract.kubernetes.cluster import JSON_PATCH, MERGE, STRATEGIC, answered, causes, refused
from tests.contract.kubernetes.room import Room


def test_a_merge_patch_sets_and_null_removes(room: Room) -> None:
    """The type of most of our writes: fields that are not named stay."""
    room.create("widgets", room.widget("ada", size=5, note="hi", env={"A": "1", "B": "2"}))
    patched = room.merge("widgets", "ada", {"spec": {"note": None, "env": {"B": None, "C": "3"}, "tags": ["x"]}})
    assert patched["spec"] == {"color": "red", "size": 5, "env": {"A": "1", "C": "3"}, "tags": ["x"]}


def test_a_merge_patch_replaces_lists_whole(room: Room) -> None:
    """RFC 7386 has no list items; our programs send the whole list."""
    room.create("widgets", room.widget("ada", tags=["a", "b"]))
    assert room.merge("widgets", "ada", {"spec": {"tags": ["c"]}})["spec"]["tags"] == ["c"]


def test_a_merge_patch_with_a_stale_version_is_409(room: Room) -> None:
    """A patch may name the version that it was made for."""
    created = room.create("widgets", room.widget("ada"))
    room.merge("widgets", "ada", {"spec": {"size": 4}})
    patch = {"metadata": {"resourceVersion": created["metadata"]["resourceVersion"]}, "spec": {"size": 5}}
    refused(room.api.patch(room.path("widgets", "ada"), patch), 409, "Conflict")
    assert room.read("widgets", "ada")["spec"]["size"] == 4


def test_a_patch_of_another_uid_is_refused(room: Room) -> None:
    """A patch with the uid that was read never applies to a later object of the same name. 409 or 422 is not
    specified."""
    room.create("widgets", room.widget("ada"))
    answer = room.api.patch(room.path("widgets", "ada"), {"metadata": {"uid": "other"}, "spec": {"size": 5}})
    assert answer.status_code in (409, 422), answer.text
    assert room.read("widgets", "ada")["spec"]["size"] == 3


def test_a_json_patch_applies_its_operations_in_order(room: Room) -> None:
    """add, replace, remove, copy, move, append, and escaped keys."""
    room.create("widgets", room.widget("ada", tags=["a", "b"], env={"x/y": "1", "t~e": "2"}))
    steps = [
        {"op": "add", "path": "/spec/tags/-", "value": "c"},
        {"op": "remove", "path": "/spec/tags/0"},
        {"op": "replace", "path": "/spec/color", "value": "blue"},
        {"op": "replace", "path": "/spec/env/x~1y", "value": "one"},
        {"op": "move", "from": "/spec/env/t~0e", "path": "/spec/env/moved"},
        {"op": "copy", "from": "/spec/color", "path": "/spec/note"},
        {"op": "add", "path": "/metadata/labels", "value": {"a": "b"}},
    ]
    patched = answered(room.api.patch(room.path("widgets", "ada"), steps, JSON_PATCH))
    assert patched["metadata"]["labels"] == {"a": "b"}
    assert patched["spec"] == {
        "color": "blue", "size": 3, "tags": ["b", "c"], "env": {"x/y": "one", "moved": "2"}, "note": "blue"
    }  # fmt: skip


def test_a_json_patch_whose_tests_hold_is_applied(room: Room) -> None:
    """How a task is assigned: tests on the uid and on what was read, then the write, atomically."""
    created = room.create("widgets", room.widget("ada", note="first"))
    steps = [
        {"op": "test", "path": "/metadata/uid", "value": created["metadata"]["uid"]},
        {"op": "test", "path": "/spec/note", "value": "first"},
        {"op": "add", "path": "/spec/note", "value": "second"},
    ]
    assert answered(room.api.patch(room.path("widgets", "ada"), steps, JSON_PATCH))["spec"]["note"] == "second"
    refused(room.api.patch(room.path("widgets", "ada"), steps, JSON_PATCH), 422, "Invalid")


@pytest.mark.parametrize(
    "test",
    [
        {"path": "/spec/note", "value": "other"},
        {"path": "/spec/size", "value": "3"},
        {"path": "/spec/note", "value": None},
        {"path": "/spec/nested/nothing/deeper", "value": None},
        {"path": "/spec/tags", "value": "a"},
        {"path": "/metadata/uid", "value": "other"},
    ],
    ids=str,
)
def test_a_json_patch_whose_test_fails_changes_nothing(room: Room, test: dict[str, Any]) -> None:
    """The second of two simultaneous assignments fails, and none of its operations is applied."""
    created = room.create("widgets", room.widget("ada", note="first"))
    steps = [{"op": "replace", "path": "/spec/color", "value": "blue"}, {"op": "test", **test}]
    refused(room.api.patch(room.path("widgets", "ada"), steps, JSON_PATCH), 422, "Invalid")
    assert room.read("widgets", "ada") == created


def test_a_test_for_null_passes_on_a_missing_key(room: Room) -> None:
    """ "There is no task yet" is tested like this; the parent object must exist."""
    room.create("widgets", room.widget("ada"))
    steps = [{"op": "test", "path": "/spec/note", "value": None}, {"op": "add", "path": "/spec/note", "value": "new"}]
    assert answered(room.api.patch(room.path("widgets", "ada"), steps, JSON_PATCH))["spec"]["note"] == "new"
    missing_parent = [{"op": "test", "path": "/status/phase", "value": None}]
    refused(room.api.patch(room.path("widgets", "ada"), missing_parent, JSON_PATCH), 422, "Invalid")


def test_a_patch_of_the_spec_can_test_the_status(room: Room) -> None:
    """A patch of the main resource can read the status although it cannot write it: an assignment tests which task has
    ended."""
    room.create("widgets", room.widget("ada"))
    room.merge("widgets", "ada", {"status": {"phase": "Ready"}}, "status")
    step = {"op": "replace", "path": "/spec/size", "value": 9}
    wrong = [{"op": "test", "path": "/status/phase", "value": "Pending"}, step]
    refused(room.api.patch(room.path("widgets", "ada"), wrong, JSON_PATCH), 422, "Invalid")
    right = [{"op": "test", "path": "/status/phase", "value": "Ready"}, step]
    assert answered(room.api.patch(room.path("widgets", "ada"), right, JSON_PATCH))["spec"]["size"] == 9


def test_tests_compare_values_not_their_encoding(room: Room) -> None:
    """Objects are equal whatever the order of their keys."""
    room.create("widgets", room.widget("ada", free={"a": {"x": 1, "y": [1, 2.5]}}))
    steps = [{"op": "test", "path": "/spec/free", "value": {"a": {"y": [1, 2.5], "x": 1}}}]
    answered(room.api.patch(room.path("widgets", "ada"), steps, JSON_PATCH))


@pytest.mark.parametrize(
    "step",
    [
        {"op": "remove", "path": "/spec/note"},
        {"op": "replace", "path": "/spec/nothing/there", "value": 1},
        {"op": "add", "path": "/spec/nothing/there", "value": 1},
        {"op": "add", "path": "/spec/tags/7", "value": "x"},
        {"op": "move", "from": "/spec/nothing", "path": "/spec/note"},
        {"op": "juggle", "path": "/spec/note"},
    ],
    ids=str,
)
def test_a_json_patch_that_does_not_apply_is_422(room: Room, step: dict[str, Any]) -> None:
    """And none of its operations is applied."""
    created = room.create("widgets", room.widget("ada", tags=["a"]))
    refused(room.api.patch(room.path("widgets", "ada"), [step], JSON_PATCH), 422, "Invalid")
    assert room.read("widgets", "ada") == created


@pytest.mark.parametrize("content_type", [MERGE, JSON_PATCH])
def test_the_result_of_a_patch_is_validated(room: Room, content_type: str) -> None:
    """With the path of the field, as for a create."""
    room.create("widgets", room.widget("ada"))
    patch: Any = {"spec": {"size": 1000}}
    if content_type == JSON_PATCH:
        patch = [{"op": "replace", "path": "/spec/size", "value": 1000}]
    assert causes(room.api.patch(room.path("widgets", "ada"), patch, content_type)) == {
        "spec.size": "FieldValueInvalid"
    }


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"{", MERGE),
        (b"[1]", MERGE),
        (b'"x"', MERGE),
        (b"", MERGE),
        (b"{}", JSON_PATCH),
        (b"[", JSON_PATCH),
        (b"\xff", MERGE),
    ],
)
def test_a_malformed_patch_is_400(room: Room, body: bytes, content_type: str) -> None:
    """The body does not match its content type."""
    room.create("widgets", room.widget("ada"))
    refused(room.api.patch(room.path("widgets", "ada"), body, content_type), 400, "BadRequest")


def test_an_unknown_type_of_patch_is_415(room: Room) -> None:
    """The server does not guess."""
    room.create("configmaps", room.config_map("ada"))
    refused(room.api.patch(room.path("configmaps", "ada"), {}, "application/json"), 415, "UnsupportedMediaType")
    refused(room.api.patch(room.path("configmaps", "ada"), {}, "text/plain"), 415, "UnsupportedMediaType")


def test_custom_objects_have_no_strategic_merge(room: Room) -> None:
    """kubectl falls back to a merge patch on this 415."""
    room.create("widgets", room.widget("ada"))
    refused(room.api.patch(room.path("widgets", "ada"), {}, STRATEGIC), 415, "UnsupportedMediaType")


def test_a_strategic_merge_finds_list_items_by_their_key(room: Room) -> None:
    """`kubectl apply` on a pod: one container changes; the others and the order stay."""
    containers = [{"name": "a", "image": "one"}, {"name": "b", "image": "two"}]
    room.create("pods", room.pod("web", containers=containers, schedulerName="nobody"))
    patch = {"metadata": {"labels": {"new": "yes"}}, "spec": {"containers": [{"name": "b", "image": "three"}]}}
    patched = answered(room.api.patch(room.path("pods", "web"), patch, STRATEGIC))
    assert [(c["name"], c["image"]) for c in patched["spec"]["containers"]] == [("a", "one"), ("b", "three")]
    assert patched["metadata"]["labels"] == {"new": "yes"}


def test_a_strategic_merge_merges_maps_and_null_removes(room: Room) -> None:
    """`kubectl apply`, `label` and `annotate` on built-in kinds."""
    room.create("configmaps", room.config_map("ada", {"a": "1", "b": "2"}, labels={"old": "1"}))
    patch = {"metadata": {"labels": {"old": None, "new": "2"}}, "data": {"b": None, "c": "3"}}
    patched = answered(room.api.patch(room.path("configmaps", "ada"), patch, STRATEGIC))
    assert patched["data"] == {"a": "1", "c": "3"}
    assert patched["metadata"]["labels"] == {"new": "2"}
