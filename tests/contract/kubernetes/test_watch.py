"""Watches: nothing is lost, nothing comes twice, and what cannot be followed is said."""

from collections.abc import Iterator
from itertools import islice

import httpx
import pytest

from tests.contract.kubernetes.cluster import Event, answered
from tests.contract.kubernetes.room import Room


def take(events: Iterator[Event], count: int) -> list[tuple[str, str]]:
    """Type and object of the next `count` frames."""
    return [(event.type, event.name) for event in islice(events, count)]


def version(room: Room) -> str:
    return str(room.listing("widgets")["metadata"]["resourceVersion"])


def test_a_watch_tells_every_change_in_order(room: Room) -> None:
    """Each frame holds the whole object with a version above the one before; a deletion's is above the last write's."""
    with room.api.watch(room.path("widgets"), resourceVersion=version(room)) as events:
        written = [room.create("widgets", room.widget("ada"))]
        written.append(room.merge("widgets", "ada", {"spec": {"size": 5}}))
        written.append(room.merge("widgets", "ada", {"status": {"phase": "Ready"}}, "status"))
        answered(room.api.delete(room.path("widgets", "ada")))
        seen = list(islice(events, 4))
    assert [event.type for event in seen] == ["ADDED", "MODIFIED", "MODIFIED", "DELETED"]
    assert [event.object for event in seen[:3]] == written
    versions = [int(event.object["metadata"].pop("resourceVersion")) for event in seen]
    assert versions == sorted(set(versions))
    assert seen[3].object == {**written[2], "metadata": seen[2].object["metadata"]}


def test_a_watch_goes_on_from_any_version_that_was_seen(room: Room) -> None:
    """A cache that lost its connection misses nothing and sees nothing twice, also not what was deleted meanwhile."""
    seen = [room.create("widgets", room.widget(f"w{i}"))["metadata"]["resourceVersion"] for i in range(4)]
    answered(room.api.delete(room.path("widgets", "w2")))
    with room.api.watch(room.path("widgets"), resourceVersion=seen[1]) as events:
        assert take(events, 3) == [("ADDED", "w2"), ("ADDED", "w3"), ("DELETED", "w2")]


def test_a_watch_from_a_list_begins_after_the_list(room: Room) -> None:
    """What the list had does not come again."""
    room.create("widgets", room.widget("before"))
    with room.api.watch(room.path("widgets"), resourceVersion=version(room)) as events:
        room.create("widgets", room.widget("after"))
        assert take(events, 1) == [("ADDED", "after")]


@pytest.mark.parametrize("params", [{}, {"resourceVersion": "0"}], ids=["none", "zero"])
def test_a_watch_without_a_version_begins_with_what_is_there(room: Room, params: dict[str, str]) -> None:
    """As ADDED, then the changes: `kubectl get -w` and simple watchers live on it."""
    for name in ("a", "b"):
        room.create("widgets", room.widget(name))
    with room.api.watch(room.path("widgets"), **params) as events:
        assert sorted(take(events, 2)) == [("ADDED", "a"), ("ADDED", "b")]
        room.create("widgets", room.widget("c"))
        assert take(events, 1) == [("ADDED", "c")]


def test_a_watch_from_an_ancient_version_is_told_410(room: Room) -> None:
    """In a frame of its own, so that the cache lists again; never by silently leaving out what is forgotten."""
    with room.api.watch(room.path("configmaps"), resourceVersion="1") as events:
        event = next(events)
    assert event.type == "ERROR"
    assert (event.object["kind"], event.object["code"], event.object["reason"]) == ("Status", 410, "Expired")


def test_bookmarks_tell_how_far_a_quiet_watch_is(room: Room) -> None:
    """Kind and version only, at the latest before the watch ends. With it a cache goes on although its own kind was
    quiet for hours while others changed."""
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


def test_bookmarks_come_only_when_asked_for(room: Room) -> None:
    """Clients that do not know them would take them for objects. The stream ends by itself when its time is over."""
    with room.api.watch(room.path("widgets"), resourceVersion=version(room), timeoutSeconds=2) as events:
        assert list(events) == []


def test_a_selected_watch_tells_who_comes_and_goes(room: Room) -> None:
    """An object that begins to match is ADDED, one that ceases to is DELETED; the others are not mentioned."""
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


def test_what_ceases_to_match_is_deleted_with_its_new_version(room: Room) -> None:
    """A cache that resumes after such a frame must not be told it again."""
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


def test_a_watch_of_a_namespace_is_blind_for_the_others(room: Room) -> None:
    """And one of all namespaces sees them all."""
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
        for event in everybody:  # among what goes with the namespaces of tests before, for as long as that takes
            if event.object["metadata"]["namespace"] in (room.namespace, "default"):
                names.append(event.name)
                if event.name == "ada":
                    break
    assert names == [elsewhere["metadata"]["name"]] * 2 + ["ada"]


def test_a_deletion_that_waits_is_first_a_change(room: Room) -> None:
    """MODIFIED with a deletionTimestamp, then DELETED when the last finalizer is off."""
    created = room.create("widgets", room.widget("ada", metadata={"finalizers": ["contract.komputer.ai/hold"]}))
    with room.api.watch(room.path("widgets"), resourceVersion=created["metadata"]["resourceVersion"]) as events:
        answered(room.api.delete(room.path("widgets", "ada")))
        first = next(events)
        assert first.type == "MODIFIED"
        assert "deletionTimestamp" in first.object["metadata"]
        room.merge("widgets", "ada", {"metadata": {"finalizers": None}})
        assert next(events).type == "DELETED"


def test_a_watch_that_the_server_cannot_begin_with_a_list_is_refused(room: Room) -> None:
    """`sendInitialEvents` gets a 422, on which clients fall back, or is done to the bookmark that ends the list."""
    room.create("widgets", room.widget("ada"))
    params = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    query = {"watch": "1", "timeoutSeconds": 5, **params}
    response: httpx.Response = room.api.get(room.path("widgets"), **query)
    assert response.status_code == 422 or "k8s.io/initial-events-end" in response.text


def test_a_watch_and_the_writes_it_is_told_of_do_not_overtake_each_other(room: Room) -> None:
    """Whoever has read a version and watches from there sees a gapless history, under load as well."""
    with room.api.watch(room.path("configmaps"), resourceVersion=version(room), labelSelector="load=yes") as events:
        for i in range(100):
            room.create("configmaps", room.config_map(f"c{i}", labels={"load": "yes"}))
        assert take(events, 100) == [("ADDED", f"c{i}") for i in range(100)]
