"""Finds damage in the SQLite database of the objects before it is served, and rescues what can be read.

SQLite finds damage only where it reads. It also takes an unreadable frame of its write-ahead log (WAL) for the end of
the log, and would silently drop everything that was written after that.
"""

import contextlib
import os
import shutil
import sqlite3
import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from komputer.local.datadir import aside_path, require_regular_files

WAL_HEADER, FRAME_HEADER = 32, 24
WAL_MAGIC = (0x377F0682, 0x377F0683)
BACKUP = "objects.db.backup"
"""A copy of the objects as they were at the last start."""
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS objects (resource TEXT, namespace TEXT, name TEXT, object BLOB,"
    " PRIMARY KEY (resource, namespace, name)) WITHOUT ROWID",
)
REVISIONS_SKIPPED = 1_000_000
"""The number that a repair adds to the revision, so that no resourceVersion that a client may have is used again."""
Row = tuple[Any, ...]


@dataclass(frozen=True)
class DatabaseDamage:
    file: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}"


# ---- damage --------------------------------------------------------------------------------------------
def find_damage(database: Path) -> DatabaseDamage | None:
    """Return the first damage; None if everything can be read or nothing was written yet. Nothing is changed, except
    that SQLite moves the content of an undamaged WAL into the database. Raises `Unusable` if a directory, a pipe or a
    device has the name of the database."""
    require_regular_files(database, wal_path(database))
    if not database.exists() or database.stat().st_size == 0:
        wal = wal_path(database)
        if wal.exists() and wal.stat().st_size > WAL_HEADER and database.exists():
            return find_wal_damage(wal)
        return None
    if damage := find_wal_damage(wal_path(database)):
        return damage
    try:
        with contextlib.closing(sqlite3.connect(database)) as connection:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                return DatabaseDamage(database, found.splitlines()[-1])
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            if "objects" in tables:
                for row in connection.execute("SELECT resource, namespace, name, object FROM objects"):
                    if not is_sound(row):
                        return DatabaseDamage(database, f"the object {'/'.join(map(str, row[:3]))} cannot be read")
    except sqlite3.OperationalError as wrong:
        if wrong.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
            raise  # a problem of the disk, which may pass
        return DatabaseDamage(database, str(wrong))
    except sqlite3.DatabaseError as wrong:
        return DatabaseDamage(database, str(wrong))
    return None


def is_sound(row: Row) -> bool:
    """Return whether a row of `objects` contains an object of the row's name, with a uid and a resourceVersion."""
    try:
        resource, namespace, name, raw = row
        metadata = orjson.loads(raw)["metadata"]
        int(metadata["resourceVersion"])
        is_named = (metadata.get("namespace", ""), metadata["name"]) == (namespace, name)
        return bool(resource and metadata["uid"]) and is_named
    except (ValueError, TypeError, LookupError):
        return False


def wal_path(database: Path) -> Path:
    return database.with_name(f"{database.name}-wal")


def find_wal_damage(wal: Path) -> DatabaseDamage | None:
    """Return damage in the WAL if frames with the same salts follow it: SQLite would drop them. An unreadable end of
    the WAL is not damage: its frames were not committed when the power failed."""
    data = wal.read_bytes() if wal.exists() else b""
    if len(data) < WAL_HEADER + FRAME_HEADER:
        return None
    magic, _, page_size, _, *salts, first, second = struct.unpack(">8I", data[:WAL_HEADER])
    if not any(data[WAL_HEADER:]):
        return None  # allocated, but never written
    if magic not in WAL_MAGIC or page_size < 512 or page_size & (page_size - 1) or page_size > 65536:
        return DatabaseDamage(wal, "the header of the write-ahead log cannot be read")
    order: bool = bool(magic & 1)
    if _checksum(data[:24], order, (0, 0)) != (first, second):
        return DatabaseDamage(wal, "the header of the write-ahead log cannot be read")
    running, length, is_broken = (first, second), FRAME_HEADER + page_size, False
    for at in range(WAL_HEADER, len(data) - length + 1, length):
        head = struct.unpack(">6I", data[at : at + FRAME_HEADER])
        is_of_this_run = list(head[2:4]) == salts
        if is_broken:
            if is_of_this_run:
                return DatabaseDamage(
                    wal, f"the write-ahead log is unreadable before byte {at}, and continues after it"
                )
            continue
        running = _checksum(data[at : at + 8], order, running)
        running = _checksum(data[at + FRAME_HEADER : at + length], order, running)
        is_broken = not is_of_this_run or running != head[4:6]
    return None


def _checksum(data: bytes, is_big_endian: bool, start: tuple[int, int]) -> tuple[int, int]:
    """Return SQLite's checksum over words of 32 bits."""
    words = array("I", data)
    if is_big_endian != (sys.byteorder == "big"):
        words.byteswap()
    first, second = start
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second


# ---- backup and repair ---------------------------------------------------------------------------------------------
def back_up(database: Path) -> None:
    """Copy an undamaged database, for `repair`. If the disk has no space for the copy, that is not an error."""
    if not database.exists() or not database.stat().st_size:
        return
    backup = database.with_name(BACKUP)
    new = backup.with_name(f"{BACKUP}.new")
    try:
        new.unlink(missing_ok=True)
        with (
            contextlib.closing(sqlite3.connect(database)) as source,
            contextlib.closing(sqlite3.connect(new)) as target,
        ):
            source.backup(target)
        new.replace(backup)
    except (sqlite3.Error, OSError):
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)


def keep_backup_of_lost(database: Path) -> Path | None:
    """If the database is missing or empty and a copy exists, rename the copy, so that no later start overwrites it.
    Return its new path, or None."""
    backup = database.with_name(BACKUP)
    if (database.exists() and database.stat().st_size) or not backup.exists():
        return None
    kept = aside_path(backup)
    backup.rename(kept)
    return kept


@dataclass(frozen=True)
class Repaired:
    """The result of a repair. `read` objects were read from the damaged file, `restored` objects from the copy of the
    last start. `copy` is the folder with the damaged files."""

    copy: Path
    read: int
    restored: int


def repair(database: Path) -> Repaired:
    """Move the damaged files away, and write a new database with everything that can be read. Objects in unreadable
    places are restored from the copy of the last start, if that has them."""
    copy = aside_path(database)
    copy.mkdir(mode=0o700)
    for path in (database, wal_path(database), database.with_name(f"{database.name}-shm")):
        if path.exists():
            shutil.copy2(path, copy / path.name)
    work = copy / "work"
    work.mkdir(mode=0o700)
    for path in (database, wal_path(database)):
        if path.exists():
            shutil.copy2(path, work / path.name)
    found, lost = _read_all(work / database.name, "objects", 3)
    states, _ = _read_all(work / database.name, "state", 1)
    shutil.rmtree(work)
    backup = database.with_name(BACKUP)
    old, _ = _read_all(backup, "objects", 3) if backup.exists() else ({}, [])
    old_states, _ = _read_all(backup, "state", 1) if backup.exists() else ({}, [])
    found = {key: row for key, row in found.items() if is_sound(row)}
    restored = {
        key: row
        for key, row in old.items()
        if key not in found
        and is_sound(row)
        and any(low <= key and (high is None or key <= high) for low, high in lost)
    }
    states = {**old_states, **states}
    revisions = [int(orjson.loads(row[3])["metadata"]["resourceVersion"]) for row in (found | restored).values()]
    known = states.get(("revision",), ("", 0))[1]
    revisions.append(known if isinstance(known, int) else 0)
    states["revision",] = ("revision", max(revisions) + REVISIONS_SKIPPED)
    new = database.with_name(f"{database.name}.new")
    new.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(new)) as target, target:
        for statement in SCHEMA:
            target.execute(statement)
        target.executemany("INSERT INTO objects VALUES (?, ?, ?, ?)", (found | restored).values())
        target.executemany("INSERT INTO state VALUES (?, ?)", states.values())
    with new.open("rb") as file:
        os.fsync(file.fileno())
    for suffix in ("-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    new.replace(database)
    return Repaired(copy, len(found), len(restored))


Key = tuple[Any, ...]
Gap = tuple[Key, Key | None]
"""A range of primary keys whose rows could not be read. None as its end: up to the last row."""


def _read_all(database: Path, table: str, keys: int) -> tuple[dict[Key, Row], list[Gap]]:
    """Return the rows of a table by primary key, and the ranges where some may be missing. The table is read from the
    beginning up to the first unreadable place, and from the end down to the last one."""
    columns = {"objects": "resource, namespace, name", "state": "name"}[table]
    rows: dict[Key, Row] = {}
    before: Key = ()
    after: Key | None = None
    is_whole = True
    for direction in ("ASC", "DESC"):
        order = ", ".join(f"{column.strip()} {direction}" for column in columns.split(","))
        last: Key | None = None
        try:
            for row in _rows(database, f"SELECT * FROM {table} ORDER BY {order}"):
                last = tuple(row[:keys])
                rows[last] = row
        except (sqlite3.Error, OverflowError):
            is_whole = False
        if direction == "ASC":
            if is_whole:
                break
            before = last or ()
        else:
            after = last
    return rows, [] if is_whole else [(before, after)]


def _rows(database: Path, statement: str) -> Iterator[Row]:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        yield from connection.execute(statement)
