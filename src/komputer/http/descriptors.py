"""File descriptors of this process: its limit, how many are in use, and the reserve that connections may not take."""

import logging
import os
import resource
from typing import Final

log = logging.getLogger(__name__)

WANTED: Final = 65_536
"""The soft limit that a process raises itself to, where the hard limit lets it."""


def raise_limit() -> int:
    """Raise the soft RLIMIT_NOFILE to `WANTED` or the hard limit. Returns the soft limit; logs one that stays low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft_limit()
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as error:
        log.warning("descriptor limit not raised: %s stays %d", error, soft)
    return soft_limit()


def note() -> None:
    """Log how many there are, once at the start of a server."""
    log.info("file descriptors: %d of %d are in use", in_use(), soft_limit())


def soft_limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 if soft == resource.RLIM_INFINITY else soft


def in_use() -> int:
    """How many are open now; 0 where the system does not tell."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return len(os.listdir(folder)) - 1  # without the one that lists
        except OSError:
            continue
    return 0


def reserve(limit: int) -> int:
    """Descriptors that inbound connections leave free, for files, Redis, the Kubernetes API and model connections."""
    return min(1024, max(64, limit // 8))
