"""Checks whether enough memory is available."""

from pathlib import Path
from typing import Final

from komputer.doctor.laptop.machine import Machine
from komputer.doctor.report import Result, ok, skipped, warning

LOW_BYTES: Final = 1024**3
"""With less available memory the check warns: the platform takes about 500 MB, and an agent at work up to 500 MB. A
guess."""


async def examine(machine: Machine) -> Result:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available_bytes = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return skipped("this system does not report how much is available")
    message = f"{available_bytes / 1024**3:.1f} GiB available"
    if available_bytes < LOW_BYTES:
        return warning(message, "an agent at work takes up to 500 MB: close programs, or run fewer agents at once")
    return ok(message)
