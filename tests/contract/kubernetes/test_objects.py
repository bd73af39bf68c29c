"""Creating, reading, updating and deleting one object."""

from typing import Any

import pytest

from tests.contract.kubernetes.cluster import Api, answered, causes, refused
from tests.contract.kubernetes.room import Room


def test_a_created_object_is_given_its_identity(room: Room) -> None:
    """Our caches and preconditions use uid and resourceVersion; values from the client are ignored."""
    sent = room.widget("ada", metadata={"uid": "mine", "creationTimestamp": "2001-01-01T00:00:00Z", "generation": 9})
    metadata = room.create("widgets", sent)["metadata"]
    assert metadata["uid"] != "mine"
    assert metadata["creationTimestamp"] > "2020"
    assert metadata["generation"] == 1
    assert int(metadata["resourceVersion"]) > 0
    assert metadata["namespace"] == room.namespace


@pytest.mark.parametrize("plural", ["widgets", "configmaps"])
def test_a_created_object_is_read_back_unchanged(room: Room, plural: str) -> None:
    """Our caches store the response of a write as if it had been read."""
    created = room.create(plural, room.widget("ada") if plural == "widgets" else room.config_map("ada", {"a": "1"}))
    assert room.read(plural, "ada") == created


def test_a_name_can_be_used_once(room: Room) -> None:
    """POST /agents distinguishes "new" from "exists" by this 409."""
    room.create("widgets", room.widget("ada"))
    status = refused(room.api.post(room.path("widgets"), room.widget("ada", color="blue")), 409, "AlreadyExists")
    assert status["details"]["name"] == "ada"
    assert room.read("widgets", "ada")["spec"]["color"] == "red"


def test_the_same_name_in_two_namespaces_are_two_objects(room: Room) -> None:
    """Two agents of one name in two namespaces share nothing."""
    mine = room.create("configmaps", room.config_map("ada"))
    theirs = answered(room.api.post(room.path("configmaps", namespace="default"), room.config_map(room.namespace)), 201)
    answered(room.api.delete(room.path("configmaps", room.namespace, namespace="default")))
    assert mine["metadata"]["uid"] != theirs["metadata"]["uid"]
    assert room.exists("configmaps", "ada")


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_a_missing_object_is_404_and_named(room: Room, method: str) -> None:
    """Our `NotFound` is derived from this."""
    body = {"PUT": room.widget("nobody", metadata={"resourceVersion": "1"}), "PATCH": {}}.get(method)
    content_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
    answer = room.api.request(method, room.path("widgets", "nobody"), body, content_type=content_type)
    status = refused(answer, 404, "NotFound")
    assert status["details"]["name"] == "nobody"
    assert status["details"]["kind"] == "widgets"


def test_generate_name_makes_a_new_name_each_time(room: Room) -> None:
    """Events and pods are created in bursts under one prefix."""
    body: dict[str, Any] = {"metadata": {"generateName": "burst-"}}
    names = {room.create("configmaps", body)["metadata"]["name"] for _ in range(5)}
    assert len(names) == 5
    assert all(name.startswith("burst-") and len(name) == len("burst-") + 5 for name in names)


@pytest.mark.parametrize(
    "change",
    [{"metadata": {"name": "ada", "namespace": "elsewhere"}}, {"kind": "Secret"}, {"apiVersion": "v2"}],
    ids=["namespace", "kind", "apiVersion"],
)
def test_a_body_that_contradicts_the_path_is_refused(room: Room, change: dict[str, Any]) -> None:
    """A manifest sent to the wrong path must not be created under a wrong identity."""
    refused(room.api.post(room.path("configmaps"), room.config_map("ada") | change), 400, "BadRequest")
    assert not room.exists("configmaps", "ada")


def test_a_name_that_contradicts_the_path_is_refused(room: Room) -> None:
    """PUT and PATCH never rename."""
    created = room.create("configmaps", room.config_map("ada"))
    created["metadata"]["name"] = "bob"
    refused(room.api.put(room.path("configmaps", "ada"), created), 400, "BadRequest")
    refused(room.api.patch(room.path("configmaps", "ada"), {"metadata": {"name": "bob"}}), 400, "BadRequest")


def test_an_update_replaces_the_object_and_changes_its_version(room: Room) -> None:
    """Fields that PUT omits are removed."""
    created = room.create("configmaps", room.config_map("ada", {"a": "1", "b": "2"}))
    updated = answered(room.api.put(room.path("configmaps", "ada"), created | {"data": {"c": "3"}}))
    assert updated["data"] == {"c": "3"}
    assert updated["metadata"]["uid"] == created["metadata"]["uid"]
    assert int(updated["metadata"]["resourceVersion"]) > int(created["metadata"]["resourceVersion"])


@pytest.mark.parametrize("plural", ["widgets", "configmaps"])
def test_a_stale_update_is_409_and_changes_nothing(room: Room, plural: str) -> None:
    """One of two writers that read the same version must fail."""
    first = room.create(plural, room.widget("ada") if plural == "widgets" else room.config_map("ada"))
    path = room.path(plural, "ada")
    second = answered(room.api.put(path, {**first, "metadata": {**first["metadata"], "labels": {"by": "one"}}}))
    refused(room.api.put(path, {**first, "metadata": {**first["metadata"], "labels": {"by": "two"}}}), 409, "Conflict")
    assert room.read(plural, "ada") == second


def test_a_custom_object_is_not_updated_without_a_version(room: Room) -> None:
    """PUT of a custom object without a resourceVersion is an error, not a last-writer-wins."""
    room.create("widgets", room.widget("ada"))
    answer = room.api.put(room.path("widgets", "ada"), room.widget("ada", color="blue"))
    assert causes(answer) == {"metadata.resourceVersion": "FieldValueInvalid"}


def test_a_built_in_object_may_be_updated_without_a_version(room: Room) -> None:
    """`kubectl replace` does it."""
    room.create("configmaps", room.config_map("ada"))
    assert answered(room.api.put(room.path("configmaps", "ada"), room.config_map("ada", {"a": "1"})))["data"] == {
        "a": "1"
    }


def test_an_update_of_another_objects_uid_is_409(room: Room) -> None:
    """A client that read an earlier object of the same name must not overwrite its successor."""
    created = room.create("configmaps", room.config_map("ada"))
    created["metadata"] |= {"uid": "00000000-0000-0000-0000-000000000000"}
    refused(room.api.put(room.path("configmaps", "ada"), created), 409, "Conflict")


def test_a_write_that_changes_nothing_creates_no_version(room: Room) -> None:
    """Level-triggered controllers repeat their writes; that must not wake watchers."""
    created = room.create("widgets", room.widget("ada", size=5))
    assert answered(room.api.put(room.path("widgets", "ada"), created)) == created
    assert room.merge("widgets", "ada", {"spec": {"size": 5}}) == created


def test_generation_counts_changes_of_the_spec(room: Room) -> None:
    """`status.observedGeneration` names the spec that was observed: labels and status do not count."""
    room.create("widgets", room.widget("ada"))
    assert room.merge("widgets", "ada", {"metadata": {"labels": {"a": "b"}}})["metadata"]["generation"] == 1
    assert room.merge("widgets", "ada", {"status": {"phase": "Ready"}}, "status")["metadata"]["generation"] == 1
    assert room.merge("widgets", "ada", {"spec": {"size": 4}})["metadata"]["generation"] == 2
    assert room.merge("widgets", "ada", {"metadata": {"generation": 77}})["metadata"]["generation"] == 2


def test_identity_cannot_be_changed(room: Room) -> None:
    """uid and creationTimestamp stay, whatever a client sends."""
    created = room.create("configmaps", room.config_map("ada"))["metadata"]
    assert "metadata.uid" in causes(room.api.patch(room.path("configmaps", "ada"), {"metadata": {"uid": "other"}}))
    room.api.patch(room.path("configmaps", "ada"), {"metadata": {"creationTimestamp": "2001-01-01T00:00:00Z"}})
    kept = room.read("configmaps", "ada")["metadata"]
    assert (kept["uid"], kept["creationTimestamp"]) == (created["uid"], created["creationTimestamp"])


def test_delete_answers_success_with_the_uid(room: Room) -> None:
    """An object without finalizers is gone when the response arrives, and its name is free at once."""
    created = room.create("widgets", room.widget("ada"))
    status = answered(room.api.delete(room.path("widgets", "ada")))
    assert (status["kind"], status["status"]) == ("Status", "Success")
    assert status["details"]["uid"] == created["metadata"]["uid"]
    assert room.create("widgets", room.widget("ada"))["metadata"]["uid"] != created["metadata"]["uid"]


def test_a_collection_is_deleted_by_selector(room: Room) -> None:
    """The dependents of one agent are deleted in one call; those of others stay."""
    for name, team in (("ada", "red"), ("bob", "red"), ("eve", "blue")):
        room.create("widgets", room.widget(name, labels={"team": team}))
    answered(room.api.delete(room.path("widgets"), labelSelector="team=red"))
    assert room.names("widgets") == ["eve"]


def test_a_dry_run_writes_nothing(room: Room) -> None:
    """`kubectl apply --dry-run=server` and `kubectl diff` validate and default without writing."""
    tried = answered(room.api.post(room.path("widgets"), room.widget("ada"), dryRun="All"), 201)
    assert tried["spec"]["size"] == 3
    assert not room.exists("widgets", "ada")
    created = room.create("widgets", room.widget("ada"))
    assert (
        answered(room.api.patch(room.path("widgets", "ada"), {"spec": {"size": 9}}, dryRun="All"))["spec"]["size"] == 9
    )
    answered(room.api.delete(room.path("widgets", "ada"), dryRun="All"))
    assert room.read("widgets", "ada") == created


def test_secrets_accept_plain_text_and_store_base64(room: Room) -> None:
    """`stringData` is merged into `data`, the only field that is returned."""
    room.create("secrets", {"metadata": {"name": "key"}, "stringData": {"token": "äpfel"}, "data": {"b": "Yg=="}})
    secret = room.read("secrets", "key")
    assert secret["data"] == {"token": "w6RwZmVs", "b": "Yg=="}
    assert "stringData" not in secret
    assert secret["type"] == "Opaque"


def test_secrets_that_are_not_base64_are_refused(room: Room) -> None:
    """Whatever is stored can be decoded when it is mounted."""
    answer = room.api.post(room.path("secrets"), {"metadata": {"name": "key"}, "data": {"b": "not base64!"}})
    refused(answer, 400, "BadRequest")


@pytest.mark.parametrize("method", ["POST"])
def test_an_unsupported_method_is_405(api: Api, room: Room, method: str) -> None:
    """POST is for collections only."""
    refused(api.request(method, room.path("configmaps", "ada"), {}), 405, "MethodNotAllowed")
