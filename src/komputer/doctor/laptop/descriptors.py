"""Checks whether a process may open enough files."""

import resource
from typing import Final

from komputer.doctor.laptop.machine import Machine
from komputer.doctor.report import Result, ok, warning

MIN_DESCRIPTORS: Final = 4096
"""The smallest accepted limit of open files. Each follower of events and each agent takes several descriptors, so a few
hundred of them use up 1024. A guess."""


async def examine(machine: Machine) -> Result:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < MIN_DESCRIPTORS:
        fix = f"raise the limit before `komputer up`: ulimit -n {MIN_DESCRIPTORS} (limits.conf, or LimitNOFILE=)"
        return warning(f"a process may open {hard} files", fix)
    return ok("unlimited" if hard == resource.RLIM_INFINITY else f"up to {hard} for each process")
