"""Reports the versions of Komputer and Kubernetes."""

from typing import Final

from komputer import __version__
from komputer.doctor.cluster.installation import Installation
from komputer.doctor.report import Result, failed, ok

OLDEST_KUBERNETES: Final = (1, 28)


async def examine(installation: Installation) -> Result:
    version, _ = await installation.cluster.server()
    # Some providers append a sign to the number: `28+`.
    major, minor = (int("".join(filter(str.isdigit, version[part])) or 0) for part in ("major", "minor"))
    message = f"komputer {__version__}, Kubernetes {version['gitVersion']}"
    if (major, minor) < OLDEST_KUBERNETES:
        return failed(message, f"use Kubernetes {'.'.join(map(str, OLDEST_KUBERNETES))} or newer")
    return ok(message)
