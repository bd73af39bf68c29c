"""Watches: no event is lost or repeated, and a watch that cannot continue reports it."""

from collections.abc import Iterator
from itertools import islice

import httpx
import pytest

from tests.contract.kubernetes.cluster import Event, answered
from tests.contract.kubernetes.room import Room


def take(events: Iterator[Event], count: int) -> list[tuple[str, str]]:
    """Return type and object of the next `count` events."""
    return [(event.type, event.name) for event in islice(events, count)]


def version(room: Room) -> str:
    return str(room.listing("widgets")["metadata"]["resourceVersion"])


def test_a_watch_reports_every_change_in_order(room: Room) -> None:
    """Each event has the whole object with a version above the previous one; that of a deletion is above the last
    write's."""
    with room.api.watch(room.path("widgets"), resourceVersion=version(room)) as events:
        written = [room.create("widgets", room.widget("ada"))]
        written.append(room.merge("widgets", "ada", {"spec": {"size": 5}}))
        written.append(room.merge("widgets", "ada", {"status": {"phase": "Ready"}}, "status"))
        answered(room.api.delete(room.path("widgets", "ada")))
        received = list(islice(events, 4))
    assert [event.type for event in received] == ["ADDED", "MODIFIED", "MODIFIED", "DELETED"]
    assert [event.object for event in received[:3]] == written
    versions = [int(event.object["metadata"].pop("resourceVersion")) for event in received]
    assert versions == sorted(set(versions))
    assert received[3].object == {**written[2], "metadata": received[2].object["metadata"]}


def test_a_watch_resumes_from_any_version(room: Room) -> None:
    """A cache that lost its connection misses nothing and gets nothing twice, deletions included."""
    created = [room.create("widgets", room.widget(f"w{i}"))["metadata"]["resourceVersion"] for i in range(4)]
    answered(room.api.delete(room.path("widgets", "w2")))
    with room.api.watch(room.path("widgets"), resourceVersion=created[1]) as events:
        assert take(events, 3) == [("ADDED", "w2"), ("ADDED", "w3"), ("DELETED", "w2")]


def test_a_watch_from_a_list_begins_after_the_list(room: Room) -> None:
    """Objects of the list are not repeated."""
    room.create("widgets", room.widget("before"))
    with room.api.watch(room.path("widgets"), resourceVersion=version(room)) as events:
        room.create("widgets", room.widget("after"))
        assert take(events, 1) == [("ADDED", "after")]


@pytest.mark.parametrize("params", [{}, {"resourceVersion": "0"}], ids=["none", "zero"])
def test_a_watch_without_a_version_begins_with_all_objects(room: Room, params: dict[str, str]) -> None:
    """As ADDED, then the changes: `kubectl get -w` and simple clients rely on it."""
    for name in ("a", "b"):
        room.create("widgets", room.widget(name))
    with room.api.watch(room.path("widgets"), **params) as events:
        assert sorted(take(events, 2)) == [("ADDED", "a"), ("ADDED", "b")]
        room.create("widgets", room.widget("c"))
        assert take(events, 1) == [("ADDED", "c")]


def test_a_watch_from_an_expired_version_gets_410(room: Room) -> None:
    """In an ERROR event, so that the cache lists again; changes are never omitted silently."""
    with room.api.watch(room.path("configmaps"), resourceVersion="1") as events:
        event = next(events)
    assert event.type == "ERROR"
    assert (event.object["kind"], event.object["code"], event.object["reason"]) == ("Status", 410, "Expired")


def test_bookmarks_report_the_version_of_a_quiet_watch(room: Room) -> None:
    """Kind and version only, at the latest before the watch ends. With it, a cache can resume even if its own kind had
    no changes for hours while others had."""
    room.create("widgets", room.widget("ada"))
    start = version(room)
    with room.api.watch(
        room.path("widgets"), resourceVersion=start, allowWatchBookmarks="true", timeoutSeconds=10
    ) as events:
        other = room.create("configmaps", room.config_map("other"))["metadata"]["resourceVersion"]
        event = next(events)
    assert event.type == "BOOKMARK"
    assert (event.object["apiVersion"], event.object["kind"]) == (f"{room.group}/v1", "Widget")
    assert "name" not in event.object["metadata"]
    reached = event.object["metadata"]["resourceVersion"]
    assert int(reached) >= int(other) > int(start)
    with room.api.watch(room.path("widgets"), resourceVersion=reached) as events:
        room.create("widgets", room.widget("after"))
        assert take(events, 1) == [("ADDED", "after")]


def test_bookmarks_are_sent_only_on_request(room: Room) -> None:
    """Clients that do not know them would take them for objects. The stream ends at its timeout."""
    with room.api.watch(room.path("widgets"), resourceVersion=version(room), timeoutSeconds=2) as events:
        assert list(events) == []


def test_a_watch_with_a_selector_reports_objects_that_begin_and_cease_to_match(room: Room) -> None:
    """An object that begins to match is ADDED, one that ceases to match is DELETED; others do not appear."""
    with room.api.watch(room.path("widgets"), resourceVersion=version(room), labelSelector="team=red") as events:
        room.create("widgets", room.widget("other", labels={"team": "blue"}))
        room.create("widgets", room.widget("ada"))
        for team in ("red", "red", "blue", "red"):
            room.merge(
                "widgets", "ada", {"metadata": {"labels": {"team": team, "at": team}}, "spec": {"note": f"is {team}"}}
            )
            room.merge("widgets", "ada", {"spec": {"note": None}})
        answered(room.api.delete(room.path("widgets", "ada")))
        types = [event.type for event in islice(events, 8)]
    assert types == ["ADDED", "MODIFIED", "MODIFIED", "MODIFIED", "DELETED", "ADDED", "MODIFIED", "DELETED"]


def test_an_object_that_ceases_to_match_is_deleted_with_its_new_version(room: Room) -> None:
    """A cache that resumes after this event must not get it again."""
    created = room.create("widgets", room.widget("ada", labels={"team": "red"}))
    start = created["metadata"]["resourceVersion"]
    with room.api.watch(room.path("widgets"), resourceVersion=start, labelSelector="team=red") as events:
        moved = room.merge("widgets", "ada", {"metadata": {"labels": {"team": "blue"}}})
        event = next(events)
    assert event.type == "DELETED"
    assert event.object["metadata"]["resourceVersion"] == moved["metadata"]["resourceVersion"]


def test_one_object_is_watched_by_name(room: Room) -> None:
    """`kubectl wait`."""
    params = {"resourceVersion": version(room), "fieldSelector": "metadata.name=ada"}
    with room.api.watch(room.path("widgets"), **params) as events:
        for name in ("other", "ada"):
            room.create("widgets", room.widget(name))
        room.merge("widgets", "ada", {"spec": {"size": 5}})
        assert take(events, 2) == [("ADDED", "ada"), ("MODIFIED", "ada")]


def test_a_watch_of_a_namespace_sees_no_other_namespace(room: Room) -> None:
    """And a watch of all namespaces sees all of them."""
    start = version(room)
    with (
        room.api.watch(room.path("widgets"), resourceVersion=start) as ours,
        room.api.watch(room.everywhere("widgets"), resourceVersion=start) as everybody,
    ):
        elsewhere = answered(room.api.post(room.path("widgets", namespace="default"), room.widget(room.namespace)), 201)
        answered(room.api.delete(room.path("widgets", room.namespace, namespace="default")))
        room.create("widgets", room.widget("ada"))
        assert next(ours).name == "ada"
        names = []
        for event in everybody:  # among the deletions of earlier tests' namespaces, for as long as they take
            if event.object["metadata"]["namespace"] in (room.namespace, "default"):
                names.append(event.name)
                if event.name == "ada":
                    break
    assert names == [elsewhere["metadata"]["name"]] * 2 + ["ada"]


def test_a_pending_deletion_is_first_a_modification(room: Room) -> None:
    """MODIFIED with a deletionTimestamp, then DELETED when the last finalizer is removed."""
    created = room.create("widgets", room.widget("ada", metadata={"finalizers": ["contract.komputer.ai/hold"]}))
    with room.api.watch(room.path("widgets"), resourceVersion=created["metadata"]["resourceVersion"]) as events:
        answered(room.api.delete(room.path("widgets", "ada")))
        first = next(events)
        assert first.type == "MODIFIED"
        assert "deletionTimestamp" in first.object["metadata"]
        room.merge("widgets", "ada", {"metadata": {"finalizers": None}})
        assert next(events).type == "DELETED"


def test_an_unsupported_watch_list_is_refused(room: Room) -> None:
    """`sendInitialEvents` is either answered 422, upon which clients fall back, or supported up to the bookmark that
    ends the list."""
    room.create("widgets", room.widget("ada"))
    params = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    query = {"watch": "1", "timeoutSeconds": 5, **params}
    response: httpx.Response = room.api.get(room.path("widgets"), **query)
    assert response.status_code == 422 or "k8s.io/initial-events-end" in response.text


def test_a_watch_and_concurrent_writes_stay_in_order(room: Room) -> None:
    """A client that reads a version and watches from there sees a history without gaps, also under load."""
    with room.api.watch(room.path("configmaps"), resourceVersion=version(room), labelSelector="load=yes") as events:
        for i in range(100):
            room.create("configmaps", room.config_map(f"c{i}", labels={"load": "yes"}))
        assert take(events, 100) == [("ADDED", f"c{i}") for i in range(100)]
