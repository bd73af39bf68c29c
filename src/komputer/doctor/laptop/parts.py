"""Checks whether all parts of a running platform are ready."""

import aiohttp

from komputer.doctor.laptop.machine import Machine
from komputer.doctor.report import Result, failed, ok, skipped


async def examine(machine: Machine) -> Result:
    if not machine.is_running():
        return skipped("the platform does not run")
    try:
        status, body = await machine.get(f"{machine.api}/readyz")
    except (aiohttp.ClientError, TimeoutError, ValueError):
        fix = "set KOMPUTER_API to the address that `komputer up` printed after `ready:`"
        return failed(f"the API does not answer at {machine.api}", fix)
    if status == 200:
        return ok(f"all are ready, the API at {machine.api}")
    why = body.get("error", f"HTTP {status}") if isinstance(body, dict) else "no JSON"
    return failed(str(why), f"see the end of the part's log in {machine.data_dir / 'logs'}")
