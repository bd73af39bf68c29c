"""The ledger's file: its SQLite tables, and the functions that write a ledger to them and read it back.

The agent can write this file too. So all values are checked when they are read, and a file with other tables, triggers
or views is not accepted as a ledger.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from komputer.runtime.ledger.ledger import Ledger, OpenTask, Outgoing

FORMAT_VERSION: Final = 2
LOCK_WAIT_S: Final = 8.0
"""How long to wait for the lock of a runtime that is about to exit. It is shorter than the grace period of a pod that
is being replaced. A guess, unmeasured."""

_NAME: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
"""The accepted ids of tasks, sessions and messages. None of them can be a path, an option or a pattern."""
_SCALARS: Final = ("uid", "term", "seq", "generation", "session_id")
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (
    seq INTEGER PRIMARY KEY, task_id TEXT NOT NULL, type TEXT NOT NULL, payload TEXT NOT NULL, generation INTEGER
);
"""
_FROM_FORMAT_1: Final = (
    "ALTER TABLE outbox RENAME COLUMN n TO seq",
    "UPDATE OR REPLACE facts SET name = 'seq' WHERE name = 'n'",
    "UPDATE OR REPLACE facts SET name = 'task.acked_message_id' WHERE name = 'task.heard'",
)
"""The statements that convert a file of format 1 to format 2. They can be removed when no workspace has a ledger from
before 0.1."""


class Held(Exception):
    """Another runtime holds this workspace, or a newer release has written to it. The message says which."""


def open_file(path: Path) -> sqlite3.Connection:
    """Open or create the file and lock it. A file of an older format is converted.

    Raises `Held` for a newer format, `ValueError` for a file that is no ledger, and `sqlite3.Error`.
    """
    db = sqlite3.connect(path, timeout=LOCK_WAIT_S, isolation_level=None)
    try:
        os.chmod(path, 0o600)
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("BEGIN IMMEDIATE")
        db.execute("COMMIT")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > FORMAT_VERSION:
            raise Held(f"The ledger {path} is of format {version}; this release reads up to {FORMAT_VERSION}.")
        db.executescript(_TABLES)
        # A trigger, a view or another table could react to our writes, so this check comes before the first write.
        if set(db.execute("SELECT type, name FROM sqlite_master")) != {("table", "facts"), ("table", "outbox")}:
            raise ValueError("the ledger's file holds more than a ledger")
        _convert(db)
    except BaseException:
        db.close()
        raise
    return db


def _convert(db: sqlite3.Connection) -> None:
    """Convert the file to the current format, in one transaction."""
    columns = {row[1] for row in db.execute("PRAGMA table_info(outbox)")}
    db.execute("BEGIN IMMEDIATE")
    for statement in _FROM_FORMAT_1 if "n" in columns else ():
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
    db.execute("COMMIT")


def write(db: sqlite3.Connection, old: Ledger | None, new: Ledger) -> None:
    """Write what differs from `old`, or everything if `old` is None. The caller begins and ends the transaction."""
    if old is None:
        db.execute("DELETE FROM facts")
        db.execute("DELETE FROM outbox")
    _write_facts(db, _facts(old) if old else {}, _facts(new))
    _write_outbox(db, old.outbox if old else (), new.outbox)


def read(db: sqlite3.Connection) -> Ledger:
    """Return the ledger. Raises `ValueError` for values that no runtime has written."""
    facts = {name: json.loads(value) for name, value in db.execute("SELECT name, value FROM facts")}
    known = {field.name for field in fields(OpenTask)}
    task = {name[5:]: value for name, value in facts.items() if name.startswith("task.") and name[5:] in known}
    values: dict[str, Any] = {name: facts[name] for name in (*_SCALARS, "closed", "owed") if name in facts}
    outbox = [
        (seq, task_id, kind, json.loads(payload), generation)
        for seq, task_id, kind, payload, generation in db.execute("SELECT * FROM outbox ORDER BY seq")
    ]
    ledger = _LEDGER.validate_python(values | {"task": task or None, "outbox": outbox})
    if wrong := _impossible(ledger):
        raise ValueError(f"the ledger has an impossible value: {wrong}")
    return ledger


def _facts(ledger: Ledger) -> dict[str, Any]:
    facts: dict[str, Any] = {name: getattr(ledger, name) for name in _SCALARS}
    facts["closed"] = ledger.closed
    facts["owed"] = ledger.owed
    if ledger.task:
        facts |= {f"task.{field.name}": getattr(ledger.task, field.name) for field in fields(ledger.task)}
        facts["task.settings"] = ledger.task.settings.to_wire()
    return facts


def _write_facts(db: sqlite3.Connection, old: dict[str, Any], new: dict[str, Any]) -> None:
    changed = [(name, json.dumps(value)) for name, value in new.items() if name not in old or old[name] != value]
    if changed:
        db.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", changed)
    if removed := [(name,) for name in old if name not in new]:
        db.executemany("DELETE FROM facts WHERE name = ?", removed)


def _write_outbox(db: sqlite3.Connection, old: tuple[Outgoing, ...], new: tuple[Outgoing, ...]) -> None:
    """Write the outbox. Entries are added at the end and removed at the front, except after a hello, which numbers all
    of them again."""
    if old is new:
        return
    is_continued = _is_continued(old, new)
    if not is_continued:
        db.execute("DELETE FROM outbox")
    elif old and (not new or new[0].seq > old[0].seq):
        db.execute("DELETE FROM outbox WHERE seq < ?", (new[0].seq if new else old[-1].seq + 1,))
    last = old[-1].seq if is_continued and old else 0
    first_added = last + 1 - new[0].seq if new else 0
    rows = [(e.seq, e.task_id, e.type, json.dumps(e.payload), e.generation) for e in new[max(0, first_added) :]]
    db.executemany("INSERT INTO outbox VALUES (?, ?, ?, ?, ?)", rows)


def _is_continued(old: tuple[Outgoing, ...], new: tuple[Outgoing, ...]) -> bool:
    """Whether `new` is `old` without some of its first entries and with some added at the end."""
    if not old or not new:
        return True
    if not old[0].seq <= new[0].seq <= old[-1].seq + 1 or new[-1].seq < old[-1].seq:
        return False
    kept = old[new[0].seq - old[0].seq :]
    return not kept or (kept[0] is new[0] and kept[-1] is new[len(kept) - 1])


def _impossible(ledger: Ledger) -> str:
    """Return a sentence about the first value that would be dangerous to use; empty if there is none."""
    task = ledger.task
    counts = [ledger.term, ledger.seq, ledger.generation, *(entry.seq for entry in ledger.outbox)]
    names = [ledger.session_id, *ledger.owed, *ledger.closed, *(entry.task_id for entry in ledger.outbox)]
    amounts: list[float | None] = []
    if task:
        counts += [task.generation, task.attempt, task.barren, task.crashes]
        names += [task.id, task.session_id, task.prompt_uuid, *(each.id for each in task.messages)]
        amounts = [task.spent_usd, task.baseline_usd, task.attempt_usd, task.started_at]
    for name in names:
        if name is not None and not _NAME.fullmatch(name):
            return repr(name)[:100]
    for number in counts:
        if not 0 <= number < 2**53:
            return repr(number)[:100]
    for amount in amounts:
        if amount is not None and not 0 <= amount < 1e12:
            return repr(amount)[:100]
    return ""


_LEDGER: Final = TypeAdapter(Ledger)
