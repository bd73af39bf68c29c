"""The ledger on the workspace: SQLite, owned by one runtime at a time."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import sqlite3
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from komputer.runtime import workspace
from komputer.runtime.ledger.ledger import Ledger, OpenTask, Outgoing

log = logging.getLogger(__name__)

FORMAT_VERSION: Final = 1
LOCK_WAIT_S: Final = 8.0
"""How long to wait for a runtime that is just leaving. Below the grace of a pod that is being replaced; a guess."""
SPACE_WAIT_S: Final = 60.0
"""How long a runtime that starts waits for a full disk before it leaves with the reason; its container is started
again."""
SPACE_LOOK_S: Final = 0.5
LEDGER_LIMIT_BYTES: Final = 2**30
"""A larger file is no ledger: its events alone would not fit into the runtime's memory."""

_SUFFIXES: Final = ("", "-wal", "-shm", "-journal")
_NAME: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
"""Ids of tasks, sessions and messages: never a path, an option or a pattern."""
_SCALARS: Final = ("uid", "term", "n", "generation", "session_id")
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (
    n INTEGER PRIMARY KEY, task_id TEXT NOT NULL, type TEXT NOT NULL, payload TEXT NOT NULL, generation INTEGER
);
"""


class Held(Exception):
    """Another runtime has this workspace, or a newer release has written on it. The message says which."""


class LedgerStore:
    """`ledger` is what is written down; `save` replaces it.

    A durable save survives the loss of power, and so does everything saved before it; any other survives the loss of
    this process. While the disk takes nothing the ledger in memory goes on, `is_behind` is true, and `catch_up` writes
    all of it as soon as that works again; a crash before that loses what was not written.
    """

    def __init__(self, path: Path, changed: Callable[[], None] = lambda: None) -> None:
        """Open or create. A file that is not a ledger is set aside: what it knew is lost, and the log will say so.
        Waits up to `LOCK_WAIT_S` for another runtime's lock and up to `SPACE_WAIT_S` for a full disk, then raises
        `Held`. Where the folder cannot be used at all the ledger begins empty, in memory, and `trouble` says why."""
        self._changed = changed
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._identity: tuple[int, ...] = ()
        self.ledger = Ledger()
        self.is_behind = False
        self.was_unreadable = False
        self.trouble = ""
        """Why the last attempt to write failed; empty where it did not."""
        deadline = time.monotonic() + SPACE_WAIT_S
        while True:
            try:
                self._load()
            except (sqlite3.Error, OSError) as error:
                if _is_held(error):
                    raise Held(f"The ledger {path} cannot be opened: {error}.") from error
                if not _is_full(error, path.parent):
                    self._fell_behind(error)
                elif time.monotonic() < deadline:
                    time.sleep(SPACE_LOOK_S)
                    continue
                else:
                    raise Held(f"The ledger {path} cannot be opened: the disk is full.") from error
            return

    def _load(self) -> None:
        try:
            self._open()
            assert self._db is not None
            self.ledger = _read(self._db)
        except (sqlite3.DatabaseError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self._close()
            if isinstance(error, sqlite3.OperationalError) and not _is_damage(error):
                raise
            self._set_aside()
            self._open()
            self.was_unreadable = True

    def _open(self) -> None:
        workspace.own_folder(self._path.parent)
        for suffix in _SUFFIXES:
            workspace.own_file(Path(f"{self._path}{suffix}"))
        if self._path.exists() and self._path.stat().st_size > LEDGER_LIMIT_BYTES:
            self._set_aside()
        self._db = _open(self._path)
        self._identity = self._present_identity()

    def _set_aside(self) -> None:
        for suffix in _SUFFIXES:
            workspace.set_aside(Path(f"{self._path}{suffix}"))

    def _present_identity(self) -> tuple[int, ...]:
        found = os.lstat(self._path)
        return found.st_dev, found.st_ino

    def save(self, ledger: Ledger, *, durable: bool = False) -> None:
        """Write what differs from the present one, in one transaction, then tell who waits for changes."""
        old, self.ledger = self.ledger, ledger
        if self.is_behind:
            self.catch_up()
        else:
            try:
                self._write(old, ledger, durable=durable)
            except (sqlite3.Error, OSError) as error:
                self._fell_behind(error)
        self._changed()

    def catch_up(self) -> bool:
        """Write the whole ledger, in a new file where the old one is gone or damaged. Whether nothing is left to do."""
        if not self.is_behind and self._is_in_place():
            return True
        was_behind = self.is_behind
        try:
            if not self._is_in_place():
                self._close()
                self._open()
            self._write(None, self.ledger, durable=True)
        except (sqlite3.Error, OSError) as error:
            self._fell_behind(error)
            if isinstance(error, sqlite3.Error) and _is_damage(error):
                self._close()
                with contextlib.suppress(OSError):
                    self._set_aside()
            return False
        self.is_behind, self.trouble = False, ""
        log.warning("the ledger is written again" if was_behind else "the ledger was gone and is written anew")
        self._changed()
        return True

    def _is_in_place(self) -> bool:
        """The open file is still the one at our path."""
        try:
            return self._db is not None and self._present_identity() == self._identity
        except OSError:
            return False

    def _fell_behind(self, error: Exception) -> None:
        if not self.is_behind:
            log.error("the ledger cannot be written", extra={"path": str(self._path), "error": str(error)})
        self.is_behind, self.trouble = True, str(error)

    def _write(self, old: Ledger | None, new: Ledger, *, durable: bool) -> None:
        """What differs from `old`, or everything."""
        if self._db is None:
            raise OSError(f"{self._path} is not open")
        self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            if old is None:
                self._db.execute("DELETE FROM facts")
                self._db.execute("DELETE FROM outbox")
            self._write_facts(_facts(old) if old else {}, _facts(new))
            self._write_outbox(old.outbox if old else (), new.outbox)
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    def update_task(self, *, durable: bool = False, **changes: Any) -> None:
        """Save the open task with some of its fields changed."""
        if self.ledger.task is None:
            raise ValueError("no task is open")
        self.save(replace(self.ledger, task=replace(self.ledger.task, **changes)), durable=durable)

    def close(self) -> None:
        self._close()

    def _close(self) -> None:
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    def _write_facts(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        assert self._db is not None
        changed = [(name, json.dumps(value)) for name, value in new.items() if name not in old or old[name] != value]
        if changed:
            self._db.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", changed)
        if gone := [(name,) for name in old if name not in new]:
            self._db.executemany("DELETE FROM facts WHERE name = ?", gone)

    def _write_outbox(self, old: tuple[Outgoing, ...], new: tuple[Outgoing, ...]) -> None:
        """Numbers only grow and leave from the front, except where a hello gave all of them anew."""
        assert self._db is not None
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
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("BEGIN IMMEDIATE")
        db.execute("COMMIT")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > FORMAT_VERSION:
            raise Held(f"The ledger {path} is of format {version}; this release reads up to {FORMAT_VERSION}.")
        db.executescript(_TABLES)
        if set(db.execute("SELECT type, name FROM sqlite_master")) != {("table", "facts"), ("table", "outbox")}:
            raise ValueError("more stands in the ledger's file than a ledger")
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
    """The ledger. Raises `ValueError` for what no runtime has written: the agent can write this file too."""
    facts = {name: json.loads(value) for name, value in db.execute("SELECT name, value FROM facts")}
    known = {field.name for field in fields(OpenTask)}
    task = {name[5:]: value for name, value in facts.items() if name.startswith("task.") and name[5:] in known}
    values: dict[str, Any] = {name: facts[name] for name in (*_SCALARS, "closed", "owed") if name in facts}
    outbox = [
        (n, task_id, kind, json.loads(payload), generation)
        for n, task_id, kind, payload, generation in db.execute("SELECT * FROM outbox ORDER BY n")
    ]
    ledger = _LEDGER.validate_python(values | {"task": task or None, "outbox": outbox})
    if wrong := _wrong(ledger):
        raise ValueError(f"the ledger has a value that cannot be: {wrong}")
    return ledger


def _wrong(ledger: Ledger) -> str:
    """The first value that would harm who uses it; empty where there is none."""
    task = ledger.task
    counts = [ledger.term, ledger.n, ledger.generation, *(entry.n for entry in ledger.outbox)]
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


def _code(error: Exception) -> int:
    """SQLite's primary result code; 0 for other errors."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def _is_held(error: Exception) -> bool:
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _is_damage(error: Exception) -> bool:
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, 0)


def _is_full(error: Exception, folder: Path) -> bool:
    """The error means that a block or an inode is missing; SQLite cannot always tell that it was that."""
    if _code(error) == sqlite3.SQLITE_FULL or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return True
    if _code(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR):
        return False
    with contextlib.suppress(OSError):
        room = os.statvfs(folder)
        return room.f_bavail == 0 or (room.f_files > 0 and room.f_favail == 0)
    return False
