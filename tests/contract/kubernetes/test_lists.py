"""Lists: content, order and pages."""

import pytest

from tests.contract.kubernetes.cluster import answered, refused
from tests.contract.kubernetes.room import Room


def test_a_list_has_a_version_to_watch_from(room: Room) -> None:
    """List, then watch from there: the loop of every cache."""
    created = room.create("widgets", room.widget("ada"))
    listed = room.listing("widgets")
    assert (listed["kind"], listed["apiVersion"]) == ("WidgetList", f"{room.group}/v1")
    assert int(listed["metadata"]["resourceVersion"]) >= int(created["metadata"]["resourceVersion"])
    assert listed["items"] == [created]


def test_an_empty_list_is_an_empty_array(room: Room) -> None:
    """Never null: clients iterate over it."""
    assert room.listing("widgets")["items"] == []


def test_a_list_is_ordered_by_namespace_and_name(room: Room) -> None:
    """A stable order for users."""
    for name in ("mid", "b", "a-2", "a", "z"):
        room.create("widgets", room.widget(name))
    assert room.names("widgets") == ["a", "a-2", "b", "mid", "z"]


def test_a_list_of_all_namespaces_contains_the_objects_of_each(room: Room) -> None:
    """The API and the operator watch all namespaces in one stream."""
    room.create("widgets", room.widget("ada"))
    listed = answered(room.api.get(room.everywhere("widgets")))
    assert (room.namespace, "ada") in {(w["metadata"]["namespace"], w["metadata"]["name"]) for w in listed["items"]}


def test_pages_contain_every_object_once_at_one_version(room: Room) -> None:
    """A cache that is filled page by page must be able to watch from the version of the first page."""
    names = [f"w{i}" for i in range(7)]
    for name in names:
        room.create("widgets", room.widget(name))
    first = room.listing("widgets", limit=3)
    assert first["metadata"]["remainingItemCount"] == 4
    items, page = list(first["items"]), first
    while token := page["metadata"].get("continue"):
        page = room.listing("widgets", limit=3, **{"continue": token})
        items += page["items"]
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert [item["metadata"]["name"] for item in items] == names
    assert "remainingItemCount" not in page["metadata"]


def test_pages_contain_selected_objects_only(room: Room) -> None:
    """`limit` counts returned objects, not examined ones."""
    for i in range(6):
        room.create("widgets", room.widget(f"w{i}", labels={"even": str(i % 2 == 0).lower()}))
    first = room.listing("widgets", limit=2, labelSelector="even=true")
    rest = room.listing("widgets", limit=2, labelSelector="even=true", **{"continue": first["metadata"]["continue"]})
    assert [w["metadata"]["name"] for w in first["items"] + rest["items"]] == ["w0", "w2", "w4"]


def test_an_invalid_continue_token_is_400(room: Room) -> None:
    """The token comes from a client."""
    refused(room.api.get(room.path("widgets"), limit=1, **{"continue": "bm9uc2Vuc2U"}), 400, "BadRequest")


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("team=red", ["ada", "bob"]),
        ("team==red", ["ada", "bob"]),
        ("team!=red", ["eve", "nil"]),
        ("team in (red, blue)", ["ada", "bob", "eve"]),
        ("team notin (red)", ["eve", "nil"]),
        ("team", ["ada", "bob", "eve"]),
        ("!team", ["nil"]),
        ("team=red,rank=1", ["ada"]),
        ("team,rank!=1", ["bob", "eve"]),
        ("komputer.ai/name=ada", ["ada"]),
        ("team=", []),
        ("", ["ada", "bob", "eve", "nil"]),
    ],
)
def test_label_selectors_select_objects(room: Room, selector: str, expected: list[str]) -> None:
    """The dependents of an agent are found by label; `!=` and `notin` also select objects without the label."""
    room.create("widgets", room.widget("ada", labels={"team": "red", "rank": "1", "komputer.ai/name": "ada"}))
    room.create("widgets", room.widget("bob", labels={"team": "red", "rank": "2"}))
    room.create("widgets", room.widget("eve", labels={"team": "blue"}))
    room.create("widgets", room.widget("nil"))
    assert room.names("widgets", labelSelector=selector) == expected


@pytest.mark.parametrize("selector", ["team red", "team in red", "=x", "team=a b", "-x=1"])
def test_an_invalid_label_selector_is_400(room: Room, selector: str) -> None:
    """It often comes from a user of our REST API."""
    refused(room.api.get(room.path("widgets"), labelSelector=selector), 400, "BadRequest")


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("metadata.name=ada", ["ada"]),
        ("metadata.name==ada", ["ada"]),
        ("metadata.name!=ada", ["bob"]),
        ("metadata.name=ada,metadata.name!=bob", ["ada"]),
        ("metadata.name=nobody", []),
    ],
)
def test_every_kind_is_selected_by_name(room: Room, selector: str, expected: list[str]) -> None:
    """`kubectl wait` and `kubectl get -w NAME` list and watch one object this way."""
    room.create("widgets", room.widget("ada"))
    room.create("widgets", room.widget("bob"))
    assert room.names("widgets", fieldSelector=selector) == expected


def test_every_kind_is_selected_by_namespace(room: Room) -> None:
    """In a list of all namespaces."""
    room.create("widgets", room.widget("ada"))
    selected = answered(room.api.get(room.everywhere("widgets"), fieldSelector=f"metadata.namespace={room.namespace}"))
    assert [w["metadata"]["name"] for w in selected["items"]] == ["ada"]


def test_pods_are_selected_by_phase_and_node(room: Room) -> None:
    """A kubelet watches its own pods, an operator the pods that have ended."""
    room.create("pods", room.pod("here", nodeName="nowhere"))
    room.create("pods", room.pod("waiting", schedulerName="nobody"))
    assert room.names("pods", fieldSelector="spec.nodeName=nowhere") == ["here"]
    assert room.names("pods", fieldSelector="spec.nodeName=") == ["waiting"]
    room.merge("pods", "here", {"status": {"phase": "Failed"}}, "status")
    assert room.names("pods", fieldSelector="status.phase=Failed") == ["here"]
    assert room.names("pods", fieldSelector="status.phase!=Failed") == ["waiting"]


@pytest.mark.parametrize("selector", ["spec.color=red", "metadata.name", "nonsense"])
def test_an_unsupported_field_selector_is_400(room: Room, selector: str) -> None:
    """It must not silently select everything."""
    refused(room.api.get(room.path("widgets"), fieldSelector=selector), 400, "BadRequest")


def test_a_limit_that_is_no_number_is_400(room: Room) -> None:
    """The limit comes from a client."""
    refused(room.api.get(room.path("widgets"), limit="x"), 400, "BadRequest")
