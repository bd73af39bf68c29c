"""What the platform does when the disk is full: it notices, it says so, and it can still delete.

Space is set aside in two ways. Behind the end of the files that grow with every write (Valkey's append-only file, the
database of objects and its log) blocks are allocated that no agent can take. And a folder `reserve/` holds space and
inodes that `komputer up` frees when it starts on a full disk.
"""

import asyncio
import contextlib
import ctypes
import os
import shutil
import sys
from pathlib import Path
from typing import Final

MIN_FREE_BYTES: Final = 8 * 1024 * 1024
MIN_FREE_INODES: Final = 64
"""With less the disk counts as full: no agent is made and no container started. Eight MiB is what a start writes before
it does anything useful (its ledger, its log, Claude's own files)."""
EVENTS_AHEAD_BYTES: Final = 16 * 1024 * 1024
"""Allocated behind the end of Valkey's append-only file: some 16 000 events or deletions on a full disk."""
OBJECTS_AHEAD_BYTES: Final = 4 * 1024 * 1024
"""Allocated behind the end of the database of objects, and of its write-ahead log."""
RESERVE_BYTES: Final = 4 * 1024 * 1024
RESERVE_INODES: Final = 32
"""What `reserve/` holds: enough for the files that a start makes anew (sockets, the database's log, pid files)."""
CHECK_S: Final = 1.0
"""How often free space is looked at."""
FALLOC_FL_KEEP_SIZE: Final = 1


def shortage(path: Path) -> str | None:
    """One sentence where the file system of `path` is full, None where it is not. File systems without a fixed number
    of inodes report 0 of 0."""
    found = os.statvfs(path)
    free_bytes = found.f_bavail * found.f_frsize
    if free_bytes < MIN_FREE_BYTES:
        return f"the disk of {path} is full (less than {MIN_FREE_BYTES // 2**20} MiB free): delete agents or files"
    if found.f_files and found.f_favail < MIN_FREE_INODES:
        return f"the disk of {path} has too few inodes (fewer than {MIN_FREE_INODES} free): delete agents or files"
    return None


def allocate_ahead(path: Path, length: int) -> bool:
    """Makes sure that the next `length` bytes written at the end of the file need no free space; its size stays. False
    where the system or the file system cannot, or has no space for it."""
    if sys.platform != "linux":
        return False
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        end, allocated = os.fstat(handle).st_size, os.fstat(handle).st_blocks * 512
        if allocated >= end + length // 2:  # half of it is left: extending on every look would fragment the file
            return True
        offset, size = ctypes.c_int64(end), ctypes.c_int64(length)
        return bool(ctypes.CDLL(None).fallocate(handle, FALLOC_FL_KEEP_SIZE, offset, size) == 0)
    finally:
        os.close(handle)


def growing_files(data_dir: Path) -> dict[Path, int]:
    """The files that every write of the platform appends to, and how much is allocated behind each."""
    parts = sorted((data_dir / "valkey" / "appendonlydir").glob("*.incr.aof"), key=_sequence)
    objects = data_dir / "objects.db"
    found = {part: EVENTS_AHEAD_BYTES for part in parts[-1:]}
    return found | {objects: OBJECTS_AHEAD_BYTES, objects.with_name("objects.db-wal"): OBJECTS_AHEAD_BYTES}


def _sequence(part: Path) -> int:
    """`appendonly.aof.12.incr.aof`: Valkey writes into the one with the highest number."""
    number = part.name.split(".")[-3]
    return int(number) if number.isdecimal() else 0


async def keep_reserves(data_dir: Path) -> None:
    """Sets space aside while there is some. For ever; raises `OSError` where the data directory is gone."""
    while True:
        await asyncio.to_thread(_set_aside, data_dir)
        await asyncio.sleep(CHECK_S)


def _set_aside(data_dir: Path) -> None:
    if shortage(data_dir) is not None:
        return
    for path, length in growing_files(data_dir).items():
        allocate_ahead(path, length)
    with contextlib.suppress(OSError):
        fill_reserve(data_dir)


def fill_reserve(data_dir: Path) -> None:
    """Makes `reserve/` where it is not there. Raises `OSError` where there is no space for it."""
    folder, new = data_dir / "reserve", data_dir / "reserve.new"
    if folder.exists():
        return
    shutil.rmtree(new, ignore_errors=True)
    try:
        new.mkdir(mode=0o700)
        for number in range(RESERVE_INODES):
            (new / str(number)).touch()
        with (new / "0").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
        new.replace(folder)
    except OSError:
        shutil.rmtree(new, ignore_errors=True)
        raise


def open_reserve(data_dir: Path) -> str | None:
    """Before a start: frees `reserve/` where the disk is full. Returns what is wrong with the disk, or None."""
    full = shortage(data_dir)
    if full:
        shutil.rmtree(data_dir / "reserve", ignore_errors=True)
        shutil.rmtree(data_dir / "reserve.new", ignore_errors=True)
    return full
