"""What a cache believes when the watch, the lists and our own writes overtake each other."""

from typing import Any

from komputer.kube import Manifest
from komputer.kube.store import CacheChange, ObjectStore


def thing(version: int, *, name: str = "ada", uid: str = "u1", namespace: str = "team", **metadata: Any) -> Manifest:
    own = {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": str(version)}
    return {"apiVersion": "v1", "kind": "Thing", "metadata": own | metadata}


def kinds(changes: list[CacheChange]) -> list[tuple[str, str, str]]:
    of = [(change.type, change.manifest["metadata"]) for change in changes]
    return [(type, metadata["uid"], metadata["resourceVersion"]) for type, metadata in of]


def test_a_list_and_a_watch_tell_what_there_is() -> None:
    store = ObjectStore()
    assert kinds(store.listed([thing(3)], 5)) == [("ADDED", "u1", "3")]
    assert kinds(store.watched("ADDED", thing(6, name="bob", uid="u2"))) == [("ADDED", "u2", "6")]
    changes = store.watched("MODIFIED", thing(7))
    assert changes == [CacheChange("MODIFIED", thing(7), thing(3))]
    assert store.watched("DELETED", thing(8)) == [CacheChange("DELETED", thing(8), thing(7))]
    assert store.items() == [thing(6, name="bob", uid="u2")]
    assert store.get("team", "ada") is None
    assert store.version == 4


def test_versions_are_compared_as_numbers() -> None:
    store = ObjectStore()
    store.listed([thing(9)], 9)
    assert kinds(store.put(thing(10))) == [("MODIFIED", "u1", "10")]


def test_our_own_write_is_read_at_once_and_the_watch_does_not_repeat_it() -> None:
    store = ObjectStore()
    store.listed([thing(3)], 5)
    assert kinds(store.put(thing(8))) == [("MODIFIED", "u1", "8")]
    assert store.watched("MODIFIED", thing(7)) == []
    assert store.watched("MODIFIED", thing(8)) == []
    assert store.get("team", "ada") == thing(8)


def test_a_stale_answer_does_not_undo_a_newer_one() -> None:
    store = ObjectStore()
    store.listed([thing(3)], 5)
    store.put(thing(8))
    assert store.put(thing(7)) == []
    assert store.get("team", "ada") == thing(8)


def test_what_was_deleted_is_not_brought_back_by_a_late_answer() -> None:
    store = ObjectStore()
    store.listed([thing(3)], 5)
    store.watched("DELETED", thing(8))
    assert store.put(thing(7)) == []
    assert store.items() == []


def test_what_was_deleted_while_nobody_told_us_is_found_by_the_next_list() -> None:
    store = ObjectStore()
    store.listed([thing(3), thing(4, name="bob", uid="u2")], 5)
    assert store.listed([thing(3)], 9) == [
        CacheChange("DELETED", thing(4, name="bob", uid="u2"), thing(4, name="bob", uid="u2"))
    ]
    assert store.put(thing(8, name="bob", uid="u2")) == []


def test_a_list_does_not_remove_what_was_written_after_it() -> None:
    store = ObjectStore()
    store.listed([], 5)
    store.put(thing(8))
    assert store.listed([], 7) == []
    assert store.watched("ADDED", thing(8)) == []
    assert store.get("team", "ada") == thing(8)


def test_the_end_of_an_older_object_does_not_remove_a_newer_one_of_its_name() -> None:
    store = ObjectStore()
    store.listed([thing(3)], 5)
    assert kinds(store.put(thing(9, uid="u2"))) == [("DELETED", "u1", "3"), ("ADDED", "u2", "9")]
    assert store.watched("DELETED", thing(8)) == []
    assert store.get("team", "ada") == thing(9, uid="u2")


def test_an_answer_about_an_older_object_does_not_replace_a_newer_one_of_its_name() -> None:
    store = ObjectStore()
    store.listed([thing(9, uid="u2")], 9)
    assert store.put(thing(7)) == []
    assert store.watched("ADDED", thing(11, uid="u3")) != []
    assert store.put(thing(10, uid="u2")) == []


def test_a_deletion_of_ours_is_read_at_once_and_older_news_does_not_undo_it() -> None:
    store = ObjectStore()
    store.listed([thing(3)], 5)
    assert kinds(store.forget(thing(3))) == [("DELETED", "u1", "3")]
    assert store.watched("MODIFIED", thing(7)) == []
    assert store.put(thing(8)) == []
    assert store.watched("DELETED", thing(9)) == []
    assert store.items() == []


def test_a_deletion_of_ours_says_nothing_of_the_next_object_of_that_name() -> None:
    store = ObjectStore()
    store.listed([thing(3)], 5)
    store.forget(thing(3))
    assert kinds(store.put(thing(9, uid="u2"))) == [("ADDED", "u2", "9")]
    assert store.forget(thing(3)) == []
    assert store.watched("DELETED", thing(8)) == []
    assert store.get("team", "ada") == thing(9, uid="u2")


def test_an_object_that_we_took_for_gone_and_that_is_terminating_comes_back() -> None:
    store = ObjectStore()
    store.listed([thing(3)], 5)
    store.forget(thing(3))
    terminating = thing(7, deletionTimestamp="2026-01-01T00:00:00Z")
    assert kinds(store.watched("MODIFIED", terminating)) == [("ADDED", "u1", "7")]
    assert store.forget(terminating) == []
    assert kinds(store.watched("DELETED", thing(9))) == [("DELETED", "u1", "9")]


def test_a_deletion_of_ours_is_remembered_until_the_server_has_told_it() -> None:
    store = ObjectStore()
    store.listed([thing(3)], 5)
    store.forget(thing(4))
    assert store.listed([thing(3)], 6) == [], "this list was made before the deletion"
    assert store.listed([], 9) == []
    assert store.put(thing(8)) == []


def test_a_server_that_lost_history_is_believed() -> None:
    store = ObjectStore()
    store.listed([thing(30), thing(40, name="bob", uid="u2")], 50)
    store.forget(thing(40, name="bob", uid="u2"))
    changes = store.listed([thing(3), thing(4, name="bob", uid="u2")], 5)
    assert kinds(changes) == [("MODIFIED", "u1", "3"), ("ADDED", "u2", "4")]
    assert kinds(store.put(thing(6))) == [("MODIFIED", "u1", "6")]


def test_an_object_that_leaves_the_selector_and_returns_is_shown_again() -> None:
    store = ObjectStore(selects=lambda manifest: "label" in manifest["metadata"])
    store.listed([thing(3, label=1)], 5)
    assert kinds(store.put(thing(7))) == [("MODIFIED", "u1", "7")]
    assert kinds(store.watched("DELETED", thing(7))) == [("DELETED", "u1", "7")]
    assert store.put(thing(8)) == [], "it is not selected and not known"
    assert kinds(store.watched("ADDED", thing(9, label=1))) == [("ADDED", "u1", "9")]


def test_a_return_to_the_selector_is_not_undone_by_the_news_that_it_had_left() -> None:
    store = ObjectStore(selects=lambda manifest: "label" in manifest["metadata"])
    store.listed([thing(3, label=1)], 5)
    store.put(thing(9, label=1))
    assert store.watched("DELETED", thing(7)) == []
    assert store.get("team", "ada") == thing(9, label=1)


def test_each_namespace_has_its_own_history() -> None:
    store = ObjectStore(namespaces=["team", "crew"])
    store.listed([thing(3)], 5, "team")
    store.listed([thing(8, namespace="crew", uid="u2")], 9, "crew")
    assert store.listed([], 6, "team") == [CacheChange("DELETED", thing(3), thing(3))]
    assert [manifest["metadata"]["uid"] for manifest in store.items()] == ["u2"]
    assert kinds(store.put(thing(7, uid="u3"))) == [("ADDED", "u3", "7")]
    assert store.put(thing(9, uid="u4", namespace="crew", name="bob")) == []


def test_a_namespace_that_is_not_followed_is_not_kept() -> None:
    store = ObjectStore(namespaces=["team"])
    assert store.put(thing(7, namespace="crew")) == []
    assert store.forget(thing(7, namespace="crew")) == []


def test_a_bookmark_tells_that_older_answers_are_about_the_past() -> None:
    store = ObjectStore()
    store.listed([], 5)
    store.bookmark(9)
    assert store.put(thing(8)) == []
    assert kinds(store.put(thing(10))) == [("ADDED", "u1", "10")]


def test_an_end_says_nothing_of_another_object_of_that_name() -> None:
    store = ObjectStore()
    store.listed([thing(9, uid="u2")], 9)
    assert store.watched("DELETED", thing(11)) == []
    assert store.get("team", "ada") == thing(9, uid="u2")


def test_what_a_server_that_lost_history_still_has_as_it_was_has_not_changed() -> None:
    store = ObjectStore()
    store.listed([thing(3), thing(40, name="bob", uid="u2")], 50)
    assert kinds(store.listed([thing(3)], 5)) == [("DELETED", "u2", "40")]


def test_what_a_server_that_was_set_back_does_not_know_was_not_deleted_by_anybody() -> None:
    store = ObjectStore()
    store.listed([thing(3)], 50)
    assert store.listed([], 9) == [CacheChange("DELETED", thing(3), thing(3), is_lost=True)]
