"""Checks whether a platform runs on the data directory."""

from komputer.doctor.laptop.machine import Machine
from komputer.doctor.report import Result, failed, ok, skipped


async def examine(machine: Machine) -> Result:
    if machine.settings() is None:
        return skipped("there is no data directory")
    if machine.is_running():
        return ok("it runs")
    return failed(f"no platform runs on {machine.data_dir}", "komputer up")
