"""Pods, as far as they behave the same without a node."""

from datetime import datetime
from typing import Any

from tests.contract.kubernetes.cluster import JSON, answered, causes, refused
from tests.contract.kubernetes.room import Room


def bound(room: Room, **spec: Any) -> JSON:
    """A pod bound to a node that does not exist: only the test acts on it (for some twenty seconds)."""
    return room.create("pods", room.pod("web", nodeName="nowhere", **spec))


def moment(timestamp: str) -> datetime:
    return datetime.fromisoformat(timestamp)


def test_a_new_pod_is_pending_and_has_its_defaults(room: Room) -> None:
    """The server adds the fields that our operator omits, with the same values everywhere."""
    pod = room.create("pods", room.pod("web", schedulerName="nobody"))
    assert pod["status"]["phase"] == "Pending"
    spec = pod["spec"]
    assert (spec["restartPolicy"], spec["terminationGracePeriodSeconds"]) == ("Always", 30)
    assert spec["serviceAccountName"] == "default"
    assert spec["containers"][0]["imagePullPolicy"] == "Always"


def test_a_pod_needs_its_service_account(room: Room) -> None:
    """The account is created first; a pod without one is refused instead of running without an identity."""
    body = room.pod("web")
    body["spec"]["serviceAccountName"] = "nobody"
    refused(room.api.post(room.path("pods"), body), 403, "Forbidden")


def test_the_containers_of_a_pod_are_validated(room: Room) -> None:
    """An invalid template is refused with the path of the field."""
    body = room.pod("web")
    body["spec"]["containers"] = [{"image": "x"}, {"name": "a", "image": "x"}, {"name": "a", "image": "x"}]
    found = causes(room.api.post(room.path("pods"), body))
    assert found["spec.containers[0].name"] == "FieldValueRequired"
    assert found["spec.containers[2].name"] == "FieldValueDuplicate"
    body["spec"]["containers"] = []
    assert causes(room.api.post(room.path("pods"), body)) == {"spec.containers": "FieldValueRequired"}


def test_a_mount_needs_its_volume(room: Room) -> None:
    """As above."""
    mounts = [{"name": "data", "mountPath": "/data"}]
    body = room.pod("web", containers=[{"name": "main", "image": "x", "volumeMounts": mounts}])
    found = causes(room.api.post(room.path("pods"), body))
    assert found == {"spec.containers[0].volumeMounts[0].name": "FieldValueNotFound"}


def test_the_spec_of_a_pod_cannot_be_changed(room: Room) -> None:
    """Only the image can; for any other change the operator creates a new pod."""
    room.create("pods", room.pod("web", schedulerName="nobody"))
    path = room.path("pods", "web")
    patch = {"spec": {"containers": [{"name": "main", "image": "nothing", "command": ["other"]}]}}
    answer = room.api.patch(path, patch, "application/strategic-merge-patch+json")
    assert causes(answer) == {"spec": "FieldValueForbidden"}
    patch = {"spec": {"containers": [{"name": "main", "image": "newer"}]}}
    patched = answered(room.api.patch(path, patch, "application/strategic-merge-patch+json"))
    assert patched["spec"]["containers"][0]["image"] == "newer"


def test_the_status_of_a_pod_is_written_separately(room: Room) -> None:
    """By the kubelet, through /status."""
    bound(room)
    room.merge("pods", "web", {"status": {"phase": "Failed"}})
    assert room.read("pods", "web")["status"]["phase"] == "Pending"
    patch = {"spec": {"terminationGracePeriodSeconds": 5}, "status": {"phase": "Running", "podIP": "127.0.0.1"}}
    pod = room.merge("pods", "web", patch, "status")
    assert (pod["status"]["phase"], pod["status"]["podIP"]) == ("Running", "127.0.0.1")
    assert pod["spec"]["terminationGracePeriodSeconds"] == 30


def test_a_pod_without_a_node_is_deleted_at_once(room: Room) -> None:
    """No kubelet runs it, so nothing has to stop."""
    room.create("pods", room.pod("web", schedulerName="nobody"))
    answered(room.api.delete(room.path("pods", "web")))
    assert not room.exists("pods", "web")


def test_a_running_pod_is_deleted_gracefully(room: Room) -> None:
    """It is marked with the end of its grace period, and stays until the kubelet reports that it has ended."""
    bound(room)
    room.merge("pods", "web", {"status": {"phase": "Running"}}, "status")
    answered(room.api.delete(room.path("pods", "web")))
    pod = room.read("pods", "web")["metadata"]
    assert pod["deletionGracePeriodSeconds"] == 30
    assert (moment(pod["deletionTimestamp"]) - moment(pod["creationTimestamp"])).total_seconds() >= 30
    answered(room.api.delete(room.path("pods", "web"), {"gracePeriodSeconds": 0}))
    assert not room.exists("pods", "web")


def test_a_grace_period_comes_from_pod_or_client_and_can_only_be_shortened(room: Room) -> None:
    """The client's value takes precedence over the pod's; a second deletion can only shorten it."""
    bound(room, terminationGracePeriodSeconds=60)
    path = room.path("pods", "web")
    graces = []
    for options in (None, {"gracePeriodSeconds": 20}, {"gracePeriodSeconds": 40}, None):
        answered(room.api.delete(path, options))
        graces.append(room.read("pods", "web")["metadata"]["deletionGracePeriodSeconds"])
    assert graces == [60, 20, 20, 20]
    answered(room.api.delete(path, gracePeriodSeconds=0))
    assert not room.exists("pods", "web")


def test_a_finished_pod_is_deleted_at_once(room: Room) -> None:
    """Nothing has to stop."""
    bound(room)
    room.merge("pods", "web", {"status": {"phase": "Succeeded"}}, "status")
    answered(room.api.delete(room.path("pods", "web")))
    assert not room.exists("pods", "web")


def test_logs_of_a_missing_pod_are_404(room: Room) -> None:
    """`kubectl logs` reports it in words."""
    refused(room.api.get(room.path("pods", "nobody", "log")), 404, "NotFound")


def test_logs_of_a_missing_container_are_400(room: Room) -> None:
    """The message names the container."""
    room.create("pods", room.pod("web", schedulerName="nobody"))
    answer = room.api.get(room.path("pods", "web", "log"), container="other")
    assert "other" in refused(answer, 400, "BadRequest")["message"]


def test_logs_of_a_pod_without_a_node_are_empty(room: Room) -> None:
    """It has printed nothing yet."""
    room.create("pods", room.pod("web", schedulerName="nobody"))
    answer = room.api.get(room.path("pods", "web", "log"))
    assert (answer.status_code in (200, 204), answer.text) == (True, "")


def test_a_claim_is_pending_until_it_is_provisioned(room: Room) -> None:
    """An agent's disk: requested with a size, provided by another component."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "none"}
    claim = room.create("persistentvolumeclaims", {"metadata": {"name": "disk"}, "spec": spec})
    assert claim["status"]["phase"] == "Pending"
    assert claim["spec"]["volumeMode"] == "Filesystem"
    bad = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "lots"}}}
    assert (
        room.api.post(room.path("persistentvolumeclaims"), {"metadata": {"name": "x"}, "spec": bad}).status_code == 400
    )
