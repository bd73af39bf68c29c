"""Keeps the ledger on the agent's disk, which one runtime locks; in memory while the disk cannot be written."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from komputer.runtime import workspace
from komputer.runtime.ledger import file_format
from komputer.runtime.ledger.file_format import Held
from komputer.runtime.ledger.ledger import Ledger

log = logging.getLogger(__name__)

SPACE_WAIT_S: Final = 60.0
"""How long to wait for space on a full disk. After that, a runtime that starts exits with the reason, and its container
is restarted; a task whose files cannot be written ends."""
SPACE_POLL_S: Final = 0.5
LEDGER_LIMIT_BYTES: Final = 2**30
"""The largest file that is accepted as a ledger. The events of a larger one would not fit into the runtime's memory."""

_SUFFIXES: Final = ("", "-wal", "-shm", "-journal")


class LedgerStore:
    """The current ledger and its copy on the disk. `ledger` is the current one, `save` replaces it.

    A durable save survives a power failure, together with everything saved before it. Any other save survives the death
    of this process. While the disk cannot be written, the ledger in memory keeps changing and `is_behind` is true.
    `catch_up` writes all of it when writing works again; a crash before that loses what was not written.
    """

    def __init__(self, path: Path, changed: Callable[[], None] = lambda: None) -> None:
        """Open or create the file at `path`; `changed` is called after each save.

        A file that is not a ledger is renamed, and the ledger starts empty; the next hello shows what the log has of
        it. Waits up to `file_format.LOCK_WAIT_S` for another runtime's lock and up to `SPACE_WAIT_S` for space on a
        full disk, then raises `Held`. If the folder cannot be used at all, the ledger starts empty, in memory, and
        `problem` says why.
        """
        self._changed = changed
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._file_id: tuple[int, ...] = ()
        self.ledger = Ledger()
        self.is_behind = False
        self.was_unreadable = False
        self.problem = ""
        """The reason why the last attempt to write failed; empty if it succeeded."""
        deadline = time.monotonic() + SPACE_WAIT_S
        while True:
            try:
                self._load()
            except (sqlite3.Error, OSError) as error:
                if _is_locked(error):
                    raise Held(f"The ledger {path} cannot be opened: {error}.") from error
                if not _is_full(error, path.parent):
                    self._fall_behind(error)
                elif time.monotonic() < deadline:
                    time.sleep(SPACE_POLL_S)
                    continue
                else:
                    raise Held(f"The ledger {path} cannot be opened: the disk is full.") from error
            return

    def save(self, ledger: Ledger, *, durable: bool = False) -> None:
        """Make `ledger` the current one, write what differs in one transaction, and call `changed`."""
        old, self.ledger = self.ledger, ledger
        if self.is_behind:
            self.catch_up()
        else:
            try:
                self._write(old, ledger, durable=durable)
            except (sqlite3.Error, OSError) as error:
                self._fall_behind(error)
        self._changed()

    def update_task(self, *, durable: bool = False, **changes: Any) -> None:
        """Save the open task with some of its fields changed."""
        if self.ledger.task is None:
            raise ValueError("no task is open")
        self.save(replace(self.ledger, task=replace(self.ledger.task, **changes)), durable=durable)

    def catch_up(self) -> bool:
        """Write the whole ledger if the disk does not have all of it; to a new file if the old one is missing or
        damaged. Return whether the disk has all of it now."""
        if not self.is_behind and self._is_in_place():
            return True
        was_behind = self.is_behind
        try:
            if not self._is_in_place():
                self.close()
                self._open()
            self._write(None, self.ledger, durable=True)
        except (sqlite3.Error, OSError) as error:
            self._fall_behind(error)
            if isinstance(error, sqlite3.Error) and _is_damage(error):
                self.close()
                with contextlib.suppress(OSError):
                    self._set_aside()
            return False
        self.is_behind, self.problem = False, ""
        log.warning("ledger can be written again" if was_behind else "ledger file was removed and is written again")
        self._changed()
        return True

    def close(self) -> None:
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    def _load(self) -> None:
        try:
            self._open()
            assert self._db is not None
            self.ledger = file_format.read(self._db)
        except (sqlite3.DatabaseError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self.close()
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
        self._db = file_format.open_file(self._path)
        self._file_id = self._present_file_id()

    def _set_aside(self) -> None:
        for suffix in _SUFFIXES:
            workspace.set_aside(Path(f"{self._path}{suffix}"))

    def _present_file_id(self) -> tuple[int, ...]:
        found = os.lstat(self._path)
        return found.st_dev, found.st_ino

    def _is_in_place(self) -> bool:
        """Whether the open file is still the one at its path: the agent may have removed or replaced it."""
        try:
            return self._db is not None and self._present_file_id() == self._file_id
        except OSError:
            return False

    def _fall_behind(self, error: Exception) -> None:
        if not self.is_behind:
            log.error("ledger cannot be written", extra={"path": str(self._path), "error": str(error)})
        self.is_behind, self.problem = True, str(error)

    def _write(self, old: Ledger | None, new: Ledger, *, durable: bool) -> None:
        if self._db is None:
            raise OSError(f"{self._path} is not open")
        self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            file_format.write(self._db, old, new)
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise


def _code(error: Exception) -> int:
    """Return SQLite's primary result code; 0 for other errors."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def _is_locked(error: Exception) -> bool:
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _is_damage(error: Exception) -> bool:
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, 0)


def _is_full(error: Exception, folder: Path) -> bool:
    """Whether the error means that no block or inode is free. SQLite does not always report that as such."""
    if _code(error) == sqlite3.SQLITE_FULL or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return True
    if _code(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR):
        return False
    with contextlib.suppress(OSError):
        room = os.statvfs(folder)
        return room.f_bavail == 0 or (room.f_files > 0 and room.f_favail == 0)
    return False
