"""Checks whether the model accepts the credential, or the offline model answers."""

import os

import aiohttp

from komputer.doctor.laptop.machine import Machine
from komputer.doctor.report import Result, failed, ok, skipped
from komputer.gateway import ModelCredential, always
from komputer.local import credential
from komputer.serve import probe


async def examine(machine: Machine) -> Result:
    if access := credential.from_environment(os.environ):
        key = ModelCredential(kind=access.kind, value=access.value)
        found = await probe.model(access.base_url, None, always(key))
        if found["state"] == "ok":
            return ok(found["message"])
        fix = "correct ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN or ANTHROPIC_BASE_URL, and restart `komputer up`"
        return failed(found["message"], fix)
    if not machine.is_running():
        return skipped("no credential in the environment: `komputer up` would use the offline model")
    if await _offline_model_answers(machine):
        return ok("the offline model answers; start `komputer up` with ANTHROPIC_API_KEY for Claude")
    return skipped("not checked: set the credential of `komputer up` for `komputer doctor` too")


async def _offline_model_answers(machine: Machine) -> bool:
    """Return whether the offline model answers. Its socket is open even when Claude is used, but then no process
    accepts connections on it."""
    settings = machine.settings() or {}
    try:
        await machine.get(f"http://127.0.0.1:{int(settings['ports']['model'])}/")
    except (aiohttp.ClientError, TimeoutError, KeyError, TypeError, ValueError):
        return False
    return True
