"""lightkube, the client library that the product uses, in case it reads a response differently from these tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lightkube import ApiError, Client, KubeConfig
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap, Pod, ServiceAccount
from lightkube.types import PatchType

from tests.contract.kubernetes.room import Room


@pytest.fixture
def client(kubeconfig: Path, room: Room) -> Iterator[Client]:
    client = Client(config=KubeConfig.from_file(kubeconfig), namespace=room.namespace, trust_env=False)
    yield client
    client._client._client.close()  # the library has no close method


@pytest.fixture
def widget_kind(room: Room) -> Any:
    return create_namespaced_resource(room.group, "v1", "Widget", "widgets")


def test_custom_objects_are_created_read_changed_and_deleted(client: Client, room: Room, widget_kind: Any) -> None:
    """Create, get, list, patch, patch the status, delete."""
    created = client.create(widget_kind(metadata=ObjectMeta(name="ada"), spec={"color": "red"}))
    assert created["spec"]["size"] == 3
    assert client.get(widget_kind, "ada").metadata.uid == created.metadata.uid
    client.patch(widget_kind, "ada", {"spec": {"size": 5}}, patch_type=PatchType.MERGE)
    client.patch(widget_kind.Status, "ada", {"status": {"phase": "Ready"}}, patch_type=PatchType.MERGE)
    (listed,) = client.list(widget_kind)
    assert (listed["spec"]["size"], listed["status"]) == (5, {"phase": "Ready"})
    client.delete(widget_kind, "ada")
    assert list(client.list(widget_kind)) == []


def test_paged_lists_are_read_completely(client: Client, room: Room, widget_kind: Any) -> None:
    """The library follows `continue` automatically."""
    for i in range(5):
        room.create("widgets", room.widget(f"w{i}"))
    assert [w.metadata.name for w in client.list(widget_kind, chunk_size=2)] == [f"w{i}" for i in range(5)]


def test_built_in_objects_match_the_typed_models(client: Client, room: Room) -> None:
    """The typed models accept the server's objects."""
    client.create(ConfigMap(metadata=ObjectMeta(name="ada"), data={"a": "1"}))
    assert client.get(ConfigMap, "ada").data == {"a": "1"}
    room.create("pods", room.pod("web", schedulerName="nobody"))
    pod = client.get(Pod, "web")
    assert pod.spec is not None
    assert pod.spec.containers[0].name == "main"
    assert [account.metadata.name for account in client.list(ServiceAccount) if account.metadata] == ["default"]


def test_refusals_have_code_and_reason(client: Client, room: Room, widget_kind: Any) -> None:
    """Our errors are derived from them."""
    room.create("widgets", room.widget("ada"))

    def refusal(name: str, patch: Any, patch_type: PatchType = PatchType.MERGE) -> tuple[int | None, str | None]:
        with pytest.raises(ApiError) as caught:
            client.patch(widget_kind, name, patch, patch_type=patch_type)
        return caught.value.status.code, caught.value.status.reason

    assert refusal("nobody", {}) == (404, "NotFound")
    assert refusal("ada", {"metadata": {"resourceVersion": "1"}}) == (409, "Conflict")
    assert refusal("ada", {"spec": {"size": 0}}) == (422, "Invalid")
    failing = [{"op": "test", "path": "/spec/color", "value": "blue"}]
    assert refusal("ada", failing, PatchType.JSON) == (422, "Invalid")


def test_watches_are_read(client: Client, room: Room, widget_kind: Any) -> None:
    """From a version on; one from an expired version raises 410."""
    created = room.create("widgets", room.widget("ada"))
    events = client.watch(widget_kind, resource_version=created["metadata"]["resourceVersion"])
    room.merge("widgets", "ada", {"spec": {"size": 5}})
    kind, changed = next(iter(events))
    assert (kind, changed["spec"]["size"]) == ("MODIFIED", 5)
    with pytest.raises(ApiError) as caught:
        next(iter(client.watch(ConfigMap, resource_version="1")))
    assert caught.value.status.code == 410
