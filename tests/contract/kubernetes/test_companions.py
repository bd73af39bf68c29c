"""Supporting kinds: namespaces, Events, Leases; version, health and discovery."""

from typing import Any

from tests.contract.kubernetes.cluster import JSON, Api, answered, eventually, refused
from tests.contract.kubernetes.room import NAMESPACES, Room


def test_a_namespace_is_active_and_labelled_with_its_name(room: Room) -> None:
    """Namespace selectors use that label."""
    namespace = answered(room.api.get(f"{NAMESPACES}/{room.namespace}"))
    assert namespace["status"]["phase"] == "Active"
    assert namespace["metadata"]["labels"]["kubernetes.io/metadata.name"] == room.namespace


def test_default_and_system_namespaces_exist(api: Api) -> None:
    """Manifests without a namespace are created in the first, leases in the second."""
    names = eventually(
        lambda: {n["metadata"]["name"] for n in answered(api.get(NAMESPACES))["items"]},
        lambda names: {"default", "kube-system"} <= names,
    )
    assert "default" in names


def test_deleting_a_namespace_deletes_its_contents(room: Room) -> None:
    """Custom and built-in kinds; afterwards its name is free."""
    room.create("widgets", room.widget("ada"))
    room.create("configmaps", room.config_map("ada"))
    path = f"{NAMESPACES}/{room.namespace}"
    answered(room.api.delete(path))
    eventually(lambda: room.api.get(path).status_code, lambda code: code == 404)
    assert not room.exists("widgets", "ada")
    assert not room.exists("configmaps", "ada")


def test_a_terminating_namespace_refuses_creates_and_waits_for_finalizers(room: Room) -> None:
    """Its phase is Terminating; a create is answered 403, so that the deletion can complete."""
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


def event_body(room: Room, about: JSON, **more: Any) -> JSON:
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


def test_events_are_stored_and_selected_by_their_object(room: Room) -> None:
    """`kubectl describe` shows what the operator has reported about an agent."""
    ada, bob = (room.create("widgets", room.widget(name)) for name in ("ada", "bob"))
    for about in (ada, bob):
        room.create("events", event_body(room, about))
    selector = f"involvedObject.name=ada,involvedObject.uid={ada['metadata']['uid']},involvedObject.kind=Widget"
    (event,) = room.listing("events", fieldSelector=selector)["items"]
    assert (event["reason"], event["message"], event["count"]) == ("Worked", "It worked.", 1)
    assert len(room.listing("events", fieldSelector="type=Normal,reason=Worked")["items"]) == 2
    patched = room.merge("events", event["metadata"]["name"], {"count": 2})
    assert patched["count"] == 2


def test_an_event_must_be_in_the_namespace_of_its_object(room: Room) -> None:
    """An event in another namespace would not be found."""
    ada = room.create("widgets", room.widget("ada"))
    event = event_body(room, ada)
    event["involvedObject"]["namespace"] = "default"
    refused(room.api.post(room.path("events"), event), 422, "Invalid")


def test_a_lease_is_updated_with_optimistic_locking(room: Room) -> None:
    """Leader election: microseconds are preserved, and of two writers that read the same version one succeeds."""
    moment = "2026-01-02T03:04:05.678901Z"
    spec = {"holderIdentity": "one", "leaseDurationSeconds": 15, "renewTime": moment, "acquireTime": moment}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "leader"}, "spec": spec}
    created = room.create("leases", lease)
    assert created["spec"] == spec
    path = room.path("leases", "leader")
    answered(room.api.put(path, created | {"spec": spec | {"holderIdentity": "two"}}))
    refused(room.api.put(path, created | {"spec": spec | {"holderIdentity": "three"}}), 409, "Conflict")
    assert room.read("leases", "leader")["spec"]["holderIdentity"] == "two"


def test_the_server_reports_its_version_and_health(api: Api) -> None:
    """kubectl compares versions; `up` and probes use the health endpoints."""
    version = answered(api.get("/version"))
    assert int(version["major"]) == 1
    assert version["gitVersion"].startswith("v1.")
    for path in ("/healthz", "/readyz", "/livez"):
        answer = api.get(path)
        assert (answer.status_code, answer.text) == (200, "ok")


def test_discovery_lists_the_resources_that_we_use(api: Api) -> None:
    """Every client begins with discovery; aggregated discovery is not required."""
    core = {r["name"]: r for r in answered(api.get("/api/v1"))["resources"]}
    needed = ("pods", "pods/status", "pods/log", "secrets", "configmaps", "persistentvolumeclaims", "events")
    for name in (*needed, "serviceaccounts", "serviceaccounts/token", "namespaces"):
        assert core[name]["verbs"], name
    assert core["pods"]["shortNames"] == ["po"]
    assert answered(api.get("/api"))["versions"] == ["v1"]
    groups = {g["name"] for g in answered(api.get("/apis"))["groups"]}
    needed_groups = {"apiextensions.k8s.io", "authentication.k8s.io", "authorization.k8s.io", "coordination.k8s.io"}
    assert needed_groups <= groups
