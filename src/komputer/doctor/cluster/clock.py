"""Checks whether this machine's clock agrees with the API server's."""

from datetime import UTC, datetime
from typing import Final

from komputer.doctor.cluster.installation import Installation
from komputer.doctor.report import Result, ok, warning

MAX_SKEW_S: Final = 5.0
"""The largest difference that is accepted. The order of events does not depend on clocks, but the times that are shown
do. A guess."""


async def examine(installation: Installation) -> Result:
    _, server_time = await installation.cluster.server()
    skew_s = abs((datetime.now(UTC) - server_time).total_seconds())
    if skew_s > MAX_SKEW_S:
        return warning(f"this machine and the API server differ by {skew_s:.0f} s", "run NTP")
    return ok("this machine and the API server agree")
