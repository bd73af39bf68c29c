"""Finds out what a pod of the gateway can reach: kubectl runs `komputer serve probe` in the pod."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
from typing import Any, Final

from komputer.doctor.cluster.installation import Installation
from komputer.doctor.report import Result, failed, skipped

TIMEOUT_S: Final = 90.0


async def probe(installation: Installation) -> dict[str, Any] | Result:
    """Return the JSON that the probe printed, or the result of the check if the probe could not run."""
    if not installation.has_parts:
        return skipped("no part was found")
    if shutil.which("kubectl") is None:
        return skipped("kubectl is not installed; it is needed to run a command in a pod")
    name = installation.deployments["gateway"]["metadata"]["name"]
    config = [f"--kubeconfig={installation.kubeconfig}"] if installation.kubeconfig else []
    command = ["kubectl", *config, "-n", installation.namespace, "exec", f"deployment/{name}", "--"]
    running = await asyncio.create_subprocess_exec(
        *command,
        *("python", "-I", "-m", "komputer.serve", "probe"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            output, errors = await running.communicate()
    except TimeoutError:
        fix = f"see whether this ends: {' '.join(command)} true; the API server must reach the kubelet of its node"
        return failed(f"a pod of deployment/{name} did not answer within {TIMEOUT_S:.0f} s", fix)
    finally:
        if running.returncode is None:
            # Kill the whole process group: the process that hangs, and holds kubectl's pipes open, may be a credential
            # plugin that kubectl started.
            os.killpg(running.pid, signal.SIGKILL)
            await running.wait()
    try:
        found: dict[str, Any] = json.loads(output)
    except ValueError:
        return skipped((errors.decode(errors="replace").strip().splitlines() or ["kubectl printed nothing"])[-1])
    return found
