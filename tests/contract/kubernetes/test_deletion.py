"""Finalizers, preconditions, propagation, and the garbage collector."""

from typing import Any

import pytest

from tests.contract.kubernetes.cluster import JSON, answered, causes, eventually, refused
from tests.contract.kubernetes.room import Room, owned_by

HOLD = "contract.komputer.ai/hold"


def held(room: Room, name: str = "ada") -> JSON:
    """A widget with a finalizer."""
    return room.create("widgets", room.widget(name, metadata={"finalizers": [HOLD]}))


def release(room: Room, name: str = "ada") -> None:
    room.merge("widgets", name, {"metadata": {"finalizers": None}})


def test_a_finalizer_holds_a_deleted_object(room: Room) -> None:
    """The object stays, marked as deleted, until the finalizer is removed; then its name is free."""
    created = held(room)
    answer = answered(room.api.delete(room.path("widgets", "ada")))
    terminating = room.read("widgets", "ada")
    assert answer["metadata"]["uid"] == created["metadata"]["uid"]
    assert terminating["metadata"]["deletionTimestamp"] >= created["metadata"]["creationTimestamp"]
    assert terminating["metadata"]["deletionGracePeriodSeconds"] == 0
    assert terminating["metadata"]["generation"] == 2
    refused(room.api.post(room.path("widgets"), room.widget("ada")), 409, "AlreadyExists")
    release(room)
    assert not room.exists("widgets", "ada")
    assert room.create("widgets", room.widget("ada"))["metadata"]["uid"] != created["metadata"]["uid"]


def test_a_second_delete_changes_nothing(room: Room) -> None:
    """DELETE is idempotent."""
    held(room)
    answered(room.api.delete(room.path("widgets", "ada")))
    terminating = room.read("widgets", "ada")
    answered(room.api.delete(room.path("widgets", "ada")))
    assert room.read("widgets", "ada") == terminating
    release(room)


def test_a_terminating_object_can_still_be_written(room: Room) -> None:
    """Its status shows the progress of the deletion."""
    held(room)
    answered(room.api.delete(room.path("widgets", "ada")))
    assert room.merge("widgets", "ada", {"status": {"phase": "Pending"}}, "status")["status"]["phase"] == "Pending"
    release(room)


def test_a_terminating_object_accepts_no_new_finalizer(room: Room) -> None:
    """A deletion that has begun completes."""
    held(room)
    answered(room.api.delete(room.path("widgets", "ada")))
    patch = {"metadata": {"finalizers": [HOLD, "contract.komputer.ai/late"]}}
    assert causes(room.api.patch(room.path("widgets", "ada"), patch)) == {"metadata.finalizers": "FieldValueForbidden"}
    release(room)


def test_clients_cannot_write_the_deletion_timestamp(room: Room) -> None:
    """An update can neither set nor remove it."""
    room.create("widgets", room.widget("free"))
    room.api.patch(room.path("widgets", "free"), {"metadata": {"deletionTimestamp": "2001-01-01T00:00:00Z"}})
    assert "deletionTimestamp" not in room.read("widgets", "free")["metadata"]
    held(room)
    answered(room.api.delete(room.path("widgets", "ada")))
    room.api.patch(room.path("widgets", "ada"), {"metadata": {"deletionTimestamp": None}})
    assert "deletionTimestamp" in room.read("widgets", "ada")["metadata"]
    release(room)


@pytest.mark.parametrize("precondition", [{"uid": "other"}, {"resourceVersion": "1"}], ids=str)
def test_a_delete_whose_precondition_fails_is_409(room: Room, precondition: dict[str, str]) -> None:
    """A client that read an earlier object of the same name does not delete its successor."""
    created = room.create("widgets", room.widget("ada"))
    refused(room.api.delete(room.path("widgets", "ada"), {"preconditions": precondition}), 409, "Conflict")
    assert room.read("widgets", "ada") == created


def test_a_delete_whose_preconditions_hold_succeeds(room: Room) -> None:
    """With the uid and version of the object that was read."""
    created = room.create("widgets", room.widget("ada"))["metadata"]
    both = {"uid": created["uid"], "resourceVersion": created["resourceVersion"]}
    answered(room.api.delete(room.path("widgets", "ada"), {"preconditions": both}))
    assert not room.exists("widgets", "ada")


def test_an_invalid_propagation_policy_is_422(room: Room) -> None:
    """Before anything is deleted, from the query as well as from the body."""
    room.create("widgets", room.widget("ada"))
    path = room.path("widgets", "ada")
    assert causes(room.api.delete(path, propagationPolicy="Sideways")) == {
        "propagationPolicy": "FieldValueNotSupported"
    }
    assert causes(room.api.delete(path, {"propagationPolicy": "No"})) == {"propagationPolicy": "FieldValueNotSupported"}
    assert room.exists("widgets", "ada")


def owner_and_dependent(room: Room, **reference: Any) -> tuple[JSON, JSON]:
    """An owner and a dependent of built-in kinds, which a garbage collector knows from its start."""
    owner = room.create("configmaps", room.config_map("owner"))
    child = room.create("configmaps", room.config_map("child", ownerReferences=[owned_by(owner, **reference)]))
    return owner, child


def test_dependents_are_deleted_with_their_owner(room: Room) -> None:
    """We delete the agent; ownerReferences delete pod, disk and settings."""
    owner_and_dependent(room)
    answered(room.api.delete(room.path("configmaps", "owner"), propagationPolicy="Background"))
    assert not room.exists("configmaps", "owner")
    room.await_gone("configmaps", "child")


def test_dependents_of_a_custom_object_are_deleted_with_it(room: Room) -> None:
    """The same for custom kinds, created after the collector's start, with a second level of dependents."""
    owner = room.create("widgets", room.widget("ada"))
    child = room.create(
        "secrets", {"metadata": {"name": "child", "ownerReferences": [owned_by(owner, controller=True)]}}
    )
    own = owned_by({"apiVersion": "v1", "kind": "Secret", **child})
    room.create("configmaps", room.config_map("grandchild", ownerReferences=[own]))
    answered(room.api.delete(room.path("widgets", "ada")))
    room.await_gone("secrets", "child")
    room.await_gone("configmaps", "grandchild")


def test_a_dependent_of_two_owners_stays_with_the_remaining_one(room: Room) -> None:
    """The reference to the deleted owner is removed."""
    owners = [room.create("configmaps", room.config_map(name)) for name in ("one", "two")]
    room.create("configmaps", room.config_map("child", ownerReferences=[owned_by(owner) for owner in owners]))
    answered(room.api.delete(room.path("configmaps", "one")))

    def owner_names() -> list[str]:
        return [r["name"] for r in room.read("configmaps", "child")["metadata"]["ownerReferences"]]

    eventually(owner_names, lambda names: names == ["two"])


def test_a_dependent_of_a_nonexistent_owner_is_collected(room: Room) -> None:
    """A dependent created for an agent that was deleted meanwhile, and perhaps created again: only the uid counts."""
    owner = room.create("configmaps", room.config_map("owner"))
    nonexistent_owner = owned_by(owner) | {"uid": "11111111-2222-3333-4444-555555555555"}
    room.create("configmaps", room.config_map("child", ownerReferences=[nonexistent_owner]))
    room.await_gone("configmaps", "child")
    assert room.exists("configmaps", "owner")


def test_orphaned_dependents_stay(room: Room) -> None:
    """`kubectl delete --cascade=orphan`: the dependent stays without the reference."""
    owner_and_dependent(room)
    answered(room.api.delete(room.path("configmaps", "owner"), propagationPolicy="Orphan"))
    room.await_gone("configmaps", "owner")
    assert "ownerReferences" not in room.read("configmaps", "child")["metadata"]


def test_foreground_deletion_deletes_the_owner_last(room: Room) -> None:
    """`kubectl delete --cascade=foreground`: the owner waits, marked as deleted, for dependents that block it."""
    owner = room.create("configmaps", room.config_map("owner"))
    reference = owned_by(owner, blockOwnerDeletion=True)
    child = room.config_map("child", ownerReferences=[reference], finalizers=[HOLD])
    room.create("configmaps", child)
    answered(room.api.delete(room.path("configmaps", "owner"), {"propagationPolicy": "Foreground"}))
    eventually(lambda: room.read("configmaps", "child")["metadata"], lambda metadata: "deletionTimestamp" in metadata)
    waiting = room.read("configmaps", "owner")["metadata"]
    assert waiting["finalizers"] == ["foregroundDeletion"]
    assert "deletionTimestamp" in waiting
    room.merge("configmaps", "child", {"metadata": {"finalizers": None}})
    room.await_gone("configmaps", "owner")


@pytest.mark.parametrize("missing", ["apiVersion", "kind", "name", "uid"])
def test_an_incomplete_owner_reference_is_refused(room: Room, missing: str) -> None:
    """An incomplete reference could leave a dependent forever, or delete it with the wrong owner."""
    reference = owned_by(room.create("configmaps", room.config_map("owner")))
    del reference[missing]
    answer = room.api.post(room.path("configmaps"), room.config_map("child", ownerReferences=[reference]))
    assert causes(answer) == {f"metadata.ownerReferences.{missing}": "FieldValueInvalid"}


def test_an_object_has_one_controller(room: Room) -> None:
    """The controlling owner is always unique."""
    owners = [room.create("configmaps", room.config_map(name)) for name in ("one", "two")]
    references = [owned_by(owner, controller=True) for owner in owners]
    answer = room.api.post(room.path("configmaps"), room.config_map("child", ownerReferences=references))
    assert "metadata.ownerReferences" in causes(answer)
