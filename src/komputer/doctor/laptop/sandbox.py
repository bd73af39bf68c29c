"""Checks whether agents run in a sandbox."""

from komputer.doctor.laptop.machine import Machine
from komputer.doctor.report import Result, ok, warning
from komputer.local.kubelet import why_no_sandbox


async def examine(machine: Machine) -> Result:
    if missing := why_no_sandbox():
        fix = "allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, or an AppArmor profile for bwrap)"
        return warning(f"agents can read and change whatever you can: {missing}", fix)
    return ok("bubblewrap contains agents")
