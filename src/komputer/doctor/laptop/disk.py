"""Checks whether the disk of the data directory has enough space."""

import os
import shutil
from typing import Final

from komputer.doctor.laptop.machine import Machine
from komputer.doctor.report import Result, failed, ok, warning

MIN_FREE_BYTES: Final = 256 * 1024**2
"""With less free space the check fails: the platform would not work for long."""
LOW_FREE_BYTES: Final = 2 * 1024**3
"""With less free space the check warns: an agent takes 50 to 500 MB, so a few agents fill the disk. Both limits are
guesses."""
LOW_FREE_INODES: Final = 50_000
"""With fewer free inodes the check warns: one checkout with its dependencies has as many files."""


async def examine(machine: Machine) -> Result:
    path = machine.data_dir
    existing = next(each for each in (path, *path.parents) if each.exists())
    free_bytes, inodes = shutil.disk_usage(existing).free, os.statvfs(existing)
    message = f"{free_bytes / 1024**3:.1f} GiB free for {path}"
    fix = "delete agents that you do not need (komputer delete), or move the data directory (--data-dir)"
    if free_bytes < MIN_FREE_BYTES:
        return failed(message, fix)
    if free_bytes < LOW_FREE_BYTES:
        return warning(message, fix)
    if inodes.f_files and inodes.f_favail < LOW_FREE_INODES:
        return warning(f"{inodes.f_favail} inodes free for {path}", fix)
    return ok(message)
