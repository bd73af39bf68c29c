"""Checks whether kubectl is installed, and says how to use it with the platform of this machine."""

import shutil

from komputer.doctor.laptop.machine import Machine
from komputer.doctor.report import Result, ok, skipped


async def examine(machine: Machine) -> Result:
    if shutil.which("kubectl") is None:
        return skipped("not installed; everything works without it, but you cannot inspect the resources")
    return ok(f"kubectl --kubeconfig {machine.data_dir / 'kubeconfig'} get komputeragents")
