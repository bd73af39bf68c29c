"""Reports the versions of Komputer and Python."""

import sys

from komputer import __version__
from komputer.doctor.laptop.machine import Machine
from komputer.doctor.report import Result, ok


async def examine(machine: Machine) -> Result:
    python = ".".join(map(str, sys.version_info[:3]))
    return ok(f"komputer {__version__}, Python {python} on {sys.platform}")
