"""The small kinds around: namespaces, Events, Leases."""

from typing import Any

from tests.contract.kubernetes.cluster import JSON, Api, answered, eventually, refused
from tests.contract.kubernetes.room import NAMESPACES, Room


def test_a_namespace_is_active_and_labelled_with_its_name(room: Room) -> None:
    """Selectors over namespaces use that label."""
    namespace = answered(room.api.get(f"{NAMESPACES}/{room.namespace}"))
    assert namespace["status"]["phase"] == "Active"
    assert namespace["metadata"]["labels"]["kubernetes.io/metadata.name"] == room.namespace


def test_default_and_system_namespaces_exist(api: Api) -> None:
    """Manifests without a namespace go to the first, leases to the second."""
    names = eventually(
        lambda: {n["metadata"]["name"] for n in answered(api.get(NAMESPACES))["items"]},
        lambda names: {"default", "kube-system"} <= names,
    )
    assert "default" in names


def test_a_deleted_namespace_takes_everything_along(room: Room) -> None:
    """Ours and built-in kinds; then its name is free."""
    room.create("widgets", room.widget("ada"))
    room.create("configmaps", room.config_map("ada"))
    path = f"{NAMESPACES}/{room.namespace}"
    answered(room.api.delete(path))
    eventually(lambda: room.api.get(path).status_code, lambda code: code == 404)
    assert not room.exists("widgets", "ada")
    assert not room.exists("configmaps", "ada")


def test_a_terminating_namespace_takes_nothing_new_and_waits_for_finalizers(room: Room) -> None:
    """Phase Terminating; a create there is 403, so that a deletion comes to an end."""
    room.create("widgets", room.widget("ada", metadata={"finalizers": ["contract.komputer.ai/hold"]}))
    path = f"{NAMESPACES}/{room.namespace}"
    answered(room.api.delete(path))
    assert answered(room.api.get(path))["status"]["phase"] == "Terminating"
    status = refused(room.api.post(room.path("widgets"), room.widget("late")), 403, "Forbidden")
    assert "NamespaceTerminating" in {cause["reason"] for cause in status["details"].get("causes", [])}
    eventually(lambda: room.read("widgets", "ada")["metadata"], lambda metadata: "deletionTimestamp" in metadata)
    assert room.api.get(path).status_code == 200
    room.merge("widgets", "ada", {"metadata": {"finalizers": None}})
    eventually(lambda: room.api.get(path).status_code, lambda code: code == 404)


def happening(room: Room, about: JSON, **more: Any) -> JSON:
    metadata = about["metadata"]
    involved = {
        "apiVersion": about["apiVersion"],
        "kind": about["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": "ada."},
        "involvedObject": {**involved, "namespace": room.namespace},
        "type": "Normal",
        "reason": "Worked",
        "message": "It worked.",
        "firstTimestamp": metadata["creationTimestamp"],
        "lastTimestamp": metadata["creationTimestamp"],
        "count": 1,
        "source": {"component": "contract"},
        **more,
    }


def test_events_are_kept_and_found_by_their_object(room: Room) -> None:
    """`kubectl describe` shows what the operator has said about an agent."""
    ada, bob = (room.create("widgets", room.widget(name)) for name in ("ada", "bob"))
    for about in (ada, bob):
        room.create("events", happening(room, about))
    selector = f"involvedObject.name=ada,involvedObject.uid={ada['metadata']['uid']},involvedObject.kind=Widget"
    (event,) = room.listing("events", fieldSelector=selector)["items"]
    assert (event["reason"], event["message"], event["count"]) == ("Worked", "It worked.", 1)
    assert len(room.listing("events", fieldSelector="type=Normal,reason=Worked")["items"]) == 2
    patched = room.merge("events", event["metadata"]["name"], {"count": 2})
    assert patched["count"] == 2


def test_an_event_lives_where_its_object_lives(room: Room) -> None:
    """Otherwise it would be found by nobody."""
    ada = room.create("widgets", room.widget("ada"))
    event = happening(room, ada)
    event["involvedObject"]["namespace"] = "default"
    refused(room.api.post(room.path("events"), event), 422, "Invalid")


def test_a_lease_is_held_by_who_wrote_last_from_what_he_read(room: Room) -> None:
    """Leader election: microseconds are kept, and of two that read the same version one wins."""
    moment = "2026-01-02T03:04:05.678901Z"
    spec = {"holderIdentity": "one", "leaseDurationSeconds": 15, "renewTime": moment, "acquireTime": moment}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "leader"}, "spec": spec}
    created = room.create("leases", lease)
    assert created["spec"] == spec
    path = room.path("leases", "leader")
    answered(room.api.put(path, created | {"spec": spec | {"holderIdentity": "two"}}))
    refused(room.api.put(path, created | {"spec": spec | {"holderIdentity": "three"}}), 409, "Conflict")
    assert room.read("leases", "leader")["spec"]["holderIdentity"] == "two"


def test_the_server_says_its_version_and_health(api: Api) -> None:
    """kubectl compares versions; `up` and probes ask the others."""
    version = answered(api.get("/version"))
    assert int(version["major"]) == 1
    assert version["gitVersion"].startswith("v1.")
    for path in ("/healthz", "/readyz", "/livez"):
        answer = api.get(path)
        assert (answer.status_code, answer.text) == (200, "ok")


def test_discovery_names_what_we_use(api: Api) -> None:
    """Every client begins with it; aggregated discovery is not needed."""
    core = {r["name"]: r for r in answered(api.get("/api/v1"))["resources"]}
    needed = ("pods", "pods/status", "pods/log", "secrets", "configmaps", "persistentvolumeclaims", "events")
    for name in (*needed, "serviceaccounts", "serviceaccounts/token", "namespaces"):
        assert core[name]["verbs"], name
    assert core["pods"]["shortNames"] == ["po"]
    assert answered(api.get("/api"))["versions"] == ["v1"]
    groups = {g["name"] for g in answered(api.get("/apis"))["groups"]}
    needed_groups = {"apiextensions.k8s.io", "authentication.k8s.io", "authorization.k8s.io", "coordination.k8s.io"}
    assert needed_groups <= groups
