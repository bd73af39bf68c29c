"""The stored objects: in memory for reads, in SQLite for durability.

A write is committed before it becomes visible to any reader or watch. SQLite runs in WAL mode with synchronous=NORMAL:
an acknowledged write survives a crash of the process, but a power failure may lose the last writes (synchronous=FULL
costs 3.6 ms per write, measured).

Every write increments the revision, which becomes the object's resourceVersion. Each resource keeps a bounded history
of its changes, from which watches resume. Key-value libraries over SQLite (diskcache, sqlitedict) have neither
revisions nor a history.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

Object = dict[str, Any]
Address = tuple[str, str, str]
"""(resource, namespace, name); the namespace of a cluster-scoped object is ''."""

FIRST_REVISION = 100
"""The first resourceVersion. So resourceVersion 1 is always too old, as on a cluster that has been used for some time.
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored object. `object` must not be changed, since readers share it."""

    address: Address
    revision: int
    object: Object
    raw: bytes


@dataclass(frozen=True, slots=True)
class ObjectChange:
    """One change, as watches receive it. `before` is the version that was replaced or deleted."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    stored: Stored
    before: Stored | None


class WatchHistory:
    """The recent changes of one resource. A watch can resume from any revision not older than `compacted`."""

    def __init__(self, compacted: int, length: int) -> None:
        self.compacted = compacted
        self.length = length
        self.changes: deque[ObjectChange] = deque()
        self.wake_events: set[asyncio.Event] = set()

    def append(self, change: ObjectChange) -> None:
        self.changes.append(change)
        while len(self.changes) > self.length:
            self.compacted = self.changes.popleft().stored.revision
        for event in self.wake_events:
            event.set()

    def since(self, revision: int) -> list[ObjectChange] | None:
        """Return the changes after `revision`, oldest first; None if some of them are no longer kept."""
        if revision < self.compacted:
            return None
        newer = []
        for change in reversed(self.changes):
            if change.stored.revision <= revision:
                break
            newer.append(change)
        newer.reverse()
        return newer


class ObjectDatabase:
    """The objects in one database file, which one process opens. Every method is synchronous and takes well under a
    millisecond."""

    def __init__(self, database: Path, *, history_length: int) -> None:
        self._history_length = history_length
        self._histories: dict[str, WatchHistory] = {}
        self._objects: dict[str, dict[str, dict[str, Stored]]] = {}
        self._by_uid: dict[str, Address] = {}
        self._dependents: dict[str, set[Address]] = {}
        self.on_change: Callable[[ObjectChange], None] = lambda change: None
        self._database = sqlite3.connect(database, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.execute("CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value) WITHOUT ROWID")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS objects (resource TEXT, namespace TEXT, name TEXT, object BLOB,"
            " PRIMARY KEY (resource, namespace, name)) WITHOUT ROWID"
        )
        self.revision = int(self.state("revision") or FIRST_REVISION)
        for resource, namespace, name, raw in self._database.execute("SELECT * FROM objects"):
            self._index(_stored((resource, namespace, name), orjson.loads(raw), raw))

    def close(self) -> None:
        self._database.close()

    def state(self, name: str) -> Any:
        """Return a value stored by `set_state`, or None."""
        row = self._database.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def set_state(self, name: str, value: str | bytes | int) -> None:
        self._database.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (name, value))

    def get(self, resource: str, namespace: str, name: str) -> Stored | None:
        return self._objects.get(resource, {}).get(namespace, {}).get(name)

    def all(self, resource: str, namespace: str | None = None) -> list[Stored]:
        """Return the objects of a namespace (None: of all namespaces), ordered by namespace and name."""
        spaces = self._objects.get(resource, {})
        chosen = sorted(spaces) if namespace is None else [namespace]
        return [stored for space in chosen for _, stored in sorted(spaces.get(space, {}).items())]

    def all_objects(self) -> Iterator[Stored]:
        for spaces in self._objects.values():
            for objects in spaces.values():
                yield from objects.values()

    def in_namespace(self, namespace: str) -> list[Stored]:
        return [stored for spaces in self._objects.values() for stored in spaces.get(namespace, {}).values()]

    def by_uid(self, uid: str) -> Stored | None:
        address = self._by_uid.get(uid)
        return self.get(*address) if address else None

    def dependents(self, uid: str) -> list[Stored]:
        """Return the objects that name `uid` as an owner."""
        return [stored for address in self._dependents.get(uid, ()) if (stored := self.get(*address))]

    def put(self, resource: str, body: Object) -> Stored:
        """Create or replace an object, with the next resourceVersion. The store owns `body` from now on."""
        metadata = body["metadata"]
        address = (resource, metadata.get("namespace", ""), metadata["name"])
        before = self.get(*address)
        metadata["resourceVersion"] = str(self.revision + 1)
        stored = _stored(address, body)
        self._commit("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", (*address, stored.raw))
        if before:
            self._unindex(before)
        self._index(stored)
        self._publish(ObjectChange("MODIFIED" if before else "ADDED", stored, before))
        return stored

    def remove(self, before: Stored, last: Object | None = None) -> Stored:
        """Delete an object. Return its final version (`last` if given), with the resourceVersion of the deletion."""
        body = last or before.object
        body = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.revision + 1)}}
        stored = _stored(before.address, body)
        self._commit("DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?", before.address)
        self._unindex(before)
        self._publish(ObjectChange("DELETED", stored, before))
        return stored

    def history(self, resource: str) -> WatchHistory:
        if resource not in self._histories:
            self._histories[resource] = WatchHistory(self.revision, self._history_length)
        return self._histories[resource]

    def drop_history(self, resource: str) -> None:
        """Drop the history of a resource that is no longer served. Its watches end with 410."""
        if history := self._histories.pop(resource, None):
            history.compacted = self.revision + 1
            for event in history.wake_events:
                event.set()

    def wake_watchers(self) -> None:
        """Wake every watch, so that it checks whether the server is stopping."""
        for history in self._histories.values():
            for event in history.wake_events:
                event.set()

    def compact(self) -> None:
        """Drop all history. A watch from an older revision than the current one is then answered with 410."""
        for history in self._histories.values():
            history.changes.clear()
            history.compacted = self.revision

    def rewrite(self, resource: str, change: Callable[[Object], Object]) -> None:
        """Replace every object of `resource` in memory by the result of `change`, without writing it to the database.
        This applies the defaults of a new schema."""
        for stored in self.all(resource):
            _, namespace, name = stored.address
            self._objects[resource][namespace][name] = _stored(stored.address, change(stored.object))

    def _commit(self, statement: str, values: tuple[Any, ...]) -> None:
        self._database.execute("BEGIN")
        try:
            self._database.execute(statement, values)
            self._database.execute("INSERT OR REPLACE INTO state VALUES ('revision', ?)", (self.revision + 1,))
            self._database.execute("COMMIT")
        except sqlite3.Error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise
        self.revision += 1

    def _publish(self, change: ObjectChange) -> None:
        resource = change.stored.address[0]
        if resource not in self._histories:
            self._histories[resource] = WatchHistory(self.revision - 1, self._history_length)
        self._histories[resource].append(change)
        self.on_change(change)

    def _index(self, stored: Stored) -> None:
        resource, namespace, name = stored.address
        self._objects.setdefault(resource, {}).setdefault(namespace, {})[name] = stored
        self._by_uid[stored.object["metadata"]["uid"]] = stored.address
        for uid in owner_uids(stored.object):
            self._dependents.setdefault(uid, set()).add(stored.address)

    def _unindex(self, stored: Stored) -> None:
        resource, namespace, name = stored.address
        space = self._objects[resource][namespace]
        del space[name]
        if not space:
            del self._objects[resource][namespace]
        self._by_uid.pop(stored.object["metadata"]["uid"], None)
        for uid in owner_uids(stored.object):
            addresses = self._dependents[uid]
            addresses.discard(stored.address)
            if not addresses:
                del self._dependents[uid]


def owner_uids(body: Object) -> set[str]:
    return {reference["uid"] for reference in body["metadata"].get("ownerReferences", ())}


def _stored(address: Address, body: Object, raw: bytes | None = None) -> Stored:
    return Stored(address, int(body["metadata"]["resourceVersion"]), body, raw or orjson.dumps(body))
