"""The store: order, history, and the state after a crash."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from komputer.local.apiserver.store import FIRST_REVISION, ObjectDatabase, Stored

WRITER = """
import sys
from pathlib import Path
from komputer.local.apiserver.store import ObjectDatabase
store = ObjectDatabase(Path(sys.argv[1]), history_length=10)
number = 0
while True:
    name = f"w{number % 50}"
    before = store.get("widgets", "team", name)
    if before and number % 7 == 0:
        store.remove(before)
    else:
        meta = {"name": name, "namespace": "team", "uid": f"u{number}"}
        store.put("widgets", {"metadata": meta, "number": number})
    print(number, flush=True)
    number += 1
"""


def written(count: int) -> dict[str, int]:
    """Return the objects after the writer's first `count` writes: the number in each one."""
    there: dict[str, int] = {}
    for number in range(count):
        name = f"w{number % 50}"
        if name in there and number % 7 == 0:
            del there[name]
        else:
            there[name] = number
    return there


def opened(folder: Path, history_length: int = 10) -> ObjectDatabase:
    return ObjectDatabase(folder / "objects.db", history_length=history_length)


def put(store: ObjectDatabase, name: str, **more: Any) -> Stored:
    metadata = {"name": name, "namespace": "team", "uid": f"uid-{name}", **more}
    return store.put("widgets", {"metadata": metadata})


def names(store: ObjectDatabase, namespace: str | None = None) -> list[str]:
    return [stored.address[2] for stored in store.all("widgets", namespace)]


def test_every_acknowledged_write_survives_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "objects.db"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout
        acknowledged = [next(writer.stdout) for _ in range(500)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += list(writer.stdout)
    answered = len(acknowledged)
    store = opened(tmp_path)
    found = {stored.address[2]: stored.object["number"] for stored in store.all("widgets")}
    assert (found, store.revision - FIRST_REVISION) in (
        (written(answered), answered),
        (written(answered + 1), answered + 1),
    ), "only a write that was not yet answered may be there or not"
    store.close()


def test_revisions_continue_after_a_restart_also_after_a_deletion(tmp_path: Path) -> None:
    store = opened(tmp_path)
    assert store.revision == FIRST_REVISION
    last = store.remove(put(store, "ada"))
    store.close()
    store = opened(tmp_path)
    assert store.revision == last.revision == FIRST_REVISION + 2
    assert put(store, "bob").revision == last.revision + 1
    store.close()


def test_objects_are_listed_by_namespace_and_name(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for name in ("c", "a", "b"):
        put(store, name)
    put(store, "z", namespace="alpha")
    assert names(store) == ["z", "a", "b", "c"]
    assert names(store, "team") == ["a", "b", "c"]
    assert names(store, "nowhere") == []
    store.close()


def test_a_watch_resumes_from_any_revision_in_the_history(tmp_path: Path) -> None:
    store = opened(tmp_path, history_length=3)
    first = put(store, "a")
    history = store.history("widgets")
    second, third = put(store, "a"), store.remove(put(store, "b"))
    changes = history.since(second.revision)
    assert changes is not None
    assert [change.type for change in changes] == ["ADDED", "DELETED"]
    assert history.since(third.revision) == []
    assert history.since(first.revision - 1) is None, "four changes were made, three are kept"
    store.compact()
    assert history.since(second.revision) is None
    assert history.since(third.revision) == []
    store.close()


def test_a_quiet_resource_is_not_compacted_by_a_busy_one(tmp_path: Path) -> None:
    store = opened(tmp_path, history_length=2)
    quiet = put(store, "a")
    for number in range(5):
        store.put("gadgets", {"metadata": {"name": f"g{number}", "uid": f"g{number}"}})
    assert store.history("widgets").since(quiet.revision) == []
    store.close()


def test_dependents_are_found_until_they_are_deleted(tmp_path: Path) -> None:
    store = opened(tmp_path)
    owner = put(store, "owner")
    child = put(store, "child", ownerReferences=[{"uid": "uid-owner"}])
    assert [one.address for one in store.dependents("uid-owner")] == [child.address]
    store.close()
    store = opened(tmp_path)
    assert [one.address for one in store.dependents("uid-owner")] == [child.address]
    found = store.by_uid("uid-owner")
    assert found
    assert found.address == owner.address
    put(store, "child")
    assert store.dependents("uid-owner") == []
    store.close()


def test_a_new_schema_changes_served_objects_but_not_stored_ones(tmp_path: Path) -> None:
    store = opened(tmp_path)
    before = put(store, "a")
    store.rewrite("widgets", lambda body: {**body, "spec": {"size": 3}})
    served = store.get("widgets", "team", "a")
    assert served
    assert (served.object["spec"], served.revision) == ({"size": 3}, before.revision)
    store.close()
    store = opened(tmp_path)
    assert "spec" not in store.all("widgets")[0].object
    store.close()
