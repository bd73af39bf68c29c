"""The ledger on the workspace: SQLite, owned by one runtime at a time."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Final

from komputer.resources import door
from komputer.runtime.ledger import Ledger, OpenTask, Outgoing, Told

FORMAT_VERSION: Final = 1
LOCK_WAIT_S: Final = 8.0
"""How long to wait for a runtime that is just leaving. Below the grace of a pod that is being replaced; a guess."""

_SCALARS: Final = ("uid", "term", "n", "generation", "session_id")
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (
    n INTEGER PRIMARY KEY, task_id TEXT NOT NULL, type TEXT NOT NULL, payload TEXT NOT NULL, generation INTEGER
);
"""


class Held(Exception):
    """Another runtime has this workspace, or a newer release has written on it. The message says which."""


class Store:
    """`ledger` is what is written down; `save` replaces it.

    A durable save survives the loss of power, and so does everything saved before it; any other survives the loss of
    this process.
    """

    def __init__(self, path: Path, changed: Callable[[], None] = lambda: None) -> None:
        """Open or create. A file that is not a ledger is set aside: what it knew is lost, and the log will say so."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._changed = changed
        try:
            self._db = _open(path)
            self.ledger = _read(self._db)
        except sqlite3.OperationalError as error:
            raise Held(f"The ledger {path} cannot be opened: {error}.") from error
        except (sqlite3.DatabaseError, ValueError, KeyError, TypeError):
            if hasattr(self, "_db"):
                self._db.close()
            for suffix in ("", "-wal"):
                if os.path.exists(f"{path}{suffix}"):
                    os.replace(f"{path}{suffix}", f"{path}{suffix}.unreadable")
            self._db = _open(path)
            self.ledger = _read(self._db)
            self.was_unreadable = True
        else:
            self.was_unreadable = False

    def save(self, ledger: Ledger, *, durable: bool = False) -> None:
        """Write what differs from the present one, in one transaction, then tell who waits for changes."""
        old, self.ledger = self.ledger, ledger
        self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._write_facts(_facts(old), _facts(ledger))
            self._write_outbox(old.outbox, ledger.outbox)
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            self.ledger = old
            raise
        self._changed()

    def update_task(self, *, durable: bool = False, **changes: Any) -> None:
        """Save the open task with some of its fields changed."""
        if self.ledger.task is None:
            raise ValueError("no task is open")
        self.save(replace(self.ledger, task=replace(self.ledger.task, **changes)), durable=durable)

    def close(self) -> None:
        self._db.close()

    def _write_facts(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        changed = [(name, json.dumps(value)) for name, value in new.items() if name not in old or old[name] != value]
        if changed:
            self._db.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", changed)
        if gone := [(name,) for name in old if name not in new]:
            self._db.executemany("DELETE FROM facts WHERE name = ?", gone)

    def _write_outbox(self, old: tuple[Outgoing, ...], new: tuple[Outgoing, ...]) -> None:
        """Numbers only grow and leave from the front, except where a hello gave all of them anew."""
        if old is new:
            return
        keeps = _is_continued(old, new)
        if not keeps:
            self._db.execute("DELETE FROM outbox")
        elif old and (not new or new[0].n > old[0].n):
            self._db.execute("DELETE FROM outbox WHERE n < ?", (new[0].n if new else old[-1].n + 1,))
        last = old[-1].n if keeps and old else 0
        first_new = last + 1 - new[0].n if new else 0
        rows = [(e.n, e.task_id, e.type, json.dumps(e.payload), e.generation) for e in new[max(0, first_new) :]]
        self._db.executemany("INSERT INTO outbox VALUES (?, ?, ?, ?, ?)", rows)


def _is_continued(old: tuple[Outgoing, ...], new: tuple[Outgoing, ...]) -> bool:
    """`new` is `old` without some of its first entries and with some behind its last."""
    if not old or not new:
        return True
    if not old[0].n <= new[0].n <= old[-1].n + 1 or new[-1].n < old[-1].n:
        return False
    kept = old[new[0].n - old[0].n :]
    return not kept or (kept[0] is new[0] and kept[-1] is new[len(kept) - 1])


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=LOCK_WAIT_S, isolation_level=None)
    try:
        os.chmod(path, 0o600)
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("BEGIN IMMEDIATE")
        db.execute("COMMIT")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > FORMAT_VERSION:
            raise Held(f"The ledger {path} is of format {version}; this release reads up to {FORMAT_VERSION}.")
        db.executescript(_TABLES)
        db.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
    except BaseException:
        db.close()
        raise
    return db


def _facts(ledger: Ledger) -> dict[str, Any]:
    facts: dict[str, Any] = {name: getattr(ledger, name) for name in _SCALARS}
    facts["closed"] = ledger.closed
    facts["owed"] = ledger.owed
    if ledger.task:
        facts |= {f"task.{field.name}": getattr(ledger.task, field.name) for field in fields(ledger.task)}
        facts["task.settings"] = ledger.task.settings.to_wire()
    return facts


def _read(db: sqlite3.Connection) -> Ledger:
    facts = {name: json.loads(value) for name, value in db.execute("SELECT name, value FROM facts")}
    known = {field.name for field in fields(OpenTask)}
    task = {name[5:]: value for name, value in facts.items() if name.startswith("task.") and name[5:] in known}
    if task:
        task["settings"] = door.TaskSettings.model_validate(task["settings"])
        task["messages"] = tuple(Told(*each) for each in task.get("messages", ()))
    empty = asdict(Ledger())
    return Ledger(
        **{name: facts.get(name, empty[name]) for name in _SCALARS},
        closed=tuple(facts.get("closed", ())),
        owed={task_id: Outgoing(*entry) for task_id, entry in facts.get("owed", {}).items()},
        task=OpenTask(**task) if task else None,
        outbox=tuple(
            Outgoing(n, task_id, kind, json.loads(payload), generation)
            for n, task_id, kind, payload, generation in db.execute("SELECT * FROM outbox ORDER BY n")
        ),
    )
