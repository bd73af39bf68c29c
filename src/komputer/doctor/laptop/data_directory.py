"""Checks whether the data directory exists, can be used, and is private."""

import os
import stat

from komputer.doctor.laptop.machine import Machine
from komputer.doctor.report import Result, failed, ok, warning
from komputer.local.datadir import FORMAT


async def examine(machine: Machine) -> Result:
    path, file = machine.data_dir, machine.data_dir / "komputer.json"
    if not file.exists():
        return failed(f"no platform has run on {path}", "komputer up (--data-dir for another directory)")
    if not os.access(file, os.R_OK):
        return failed(f"{file} is not readable", f"chown -R $(id -un) {path}")
    settings = machine.settings()
    if settings is None:
        return failed(f"{file} is damaged", "komputer up: it says what it can do about it")
    if settings["format"] > FORMAT:
        message = f"{path} was written by a newer Komputer (format {settings['format']})"
        return failed(message, "install that version or a newer one")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return failed(f"{path} is not writable", f"chown -R $(id -un) {path}")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        return warning(f"others can read {path}", f"chmod 700 {path}")
    return ok(f"{path}, private")
