"""Detects a full disk, and reserves space so that deletions and a start work on one.

Space is reserved in two ways. First, blocks are allocated beyond the end of the files that grow with every write
(Valkey's append-only file, the database of objects and its log), so that no agent can use them. Second, a folder
`reserve/` occupies space and inodes, which `komputer up` frees when it starts on a full disk.
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
"""With less free space or fewer inodes, the disk is considered full: no agent is created and no container is started. A
task writes 8 MiB before it does anything useful (its ledger, its log, Claude's own files)."""
EVENTS_AHEAD_BYTES: Final = 16 * 1024 * 1024
"""Allocated beyond the end of Valkey's append-only file: space for about 16 000 events or deletions on a full disk."""
OBJECTS_AHEAD_BYTES: Final = 4 * 1024 * 1024
"""Allocated beyond the end of the database of objects, and of its write-ahead log."""
RESERVE_BYTES: Final = 4 * 1024 * 1024
RESERVE_INODES: Final = 32
"""The size of `reserve/`: enough for the files that a start creates (sockets, the database's log, pid files)."""
CHECK_S: Final = 1.0
"""Interval between two checks of the free space."""
FALLOC_FL_KEEP_SIZE: Final = 1


def shortage(path: Path) -> str | None:
    """Return a sentence if the file system of `path` is full, otherwise None. Inodes are ignored on a file system
    without a fixed number of them, which reports 0 of 0."""
    found = os.statvfs(path)
    free_bytes = found.f_bavail * found.f_frsize
    if free_bytes < MIN_FREE_BYTES:
        return f"the disk of {path} is full (less than {MIN_FREE_BYTES // 2**20} MiB free): delete agents or files"
    if found.f_files and found.f_favail < MIN_FREE_INODES:
        return f"the disk of {path} has too few inodes (fewer than {MIN_FREE_INODES} free): delete agents or files"
    return None


def allocate_ahead(path: Path, length: int) -> bool:
    """Allocate `length` bytes beyond the end of the file, without changing its size. Return False if the system or the
    file system does not support that, or has no space."""
    if sys.platform != "linux":
        return False
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        end, allocated = os.fstat(handle).st_size, os.fstat(handle).st_blocks * 512
        if allocated >= end + length // 2:  # half is left; an extension at every check would fragment the file
            return True
        offset, size = ctypes.c_int64(end), ctypes.c_int64(length)
        return bool(ctypes.CDLL(None).fallocate(handle, FALLOC_FL_KEEP_SIZE, offset, size) == 0)
    finally:
        os.close(handle)


def growing_files(data_dir: Path) -> dict[Path, int]:
    """Return the files that every write of the platform appends to, and the bytes to allocate beyond the end of
    each."""
    parts = sorted((data_dir / "valkey" / "appendonlydir").glob("*.incr.aof"), key=_sequence)
    objects = data_dir / "objects.db"
    found = {part: EVENTS_AHEAD_BYTES for part in parts[-1:]}
    return found | {objects: OBJECTS_AHEAD_BYTES, objects.with_name("objects.db-wal"): OBJECTS_AHEAD_BYTES}


def _sequence(part: Path) -> int:
    """Return the number in a file's name: 12 for `appendonly.aof.12.incr.aof`. Valkey writes to the file with the
    highest number."""
    number = part.name.split(".")[-3]
    return int(number) if number.isdecimal() else 0


async def keep_reserves(data_dir: Path) -> None:
    """Keep space reserved until cancelled. Raises `OSError` if the data directory does not exist any more."""
    while True:
        await asyncio.to_thread(_reserve, data_dir)
        await asyncio.sleep(CHECK_S)


def _reserve(data_dir: Path) -> None:
    if shortage(data_dir) is not None:
        return
    for path, length in growing_files(data_dir).items():
        allocate_ahead(path, length)
    with contextlib.suppress(OSError):
        fill_reserve(data_dir)


def fill_reserve(data_dir: Path) -> None:
    """Create `reserve/` unless it exists. Raises `OSError` if there is no space for it."""
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
    """Delete `reserve/` if the disk is full, before a start. Return a sentence about the full disk, or None."""
    full = shortage(data_dir)
    if full:
        shutil.rmtree(data_dir / "reserve", ignore_errors=True)
        shutil.rmtree(data_dir / "reserve.new", ignore_errors=True)
    return full
