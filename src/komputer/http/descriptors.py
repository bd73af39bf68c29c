"""File descriptors of this process: the limit, the number in use, and the reserve that inbound connections may not use.

psutil counts them the same way, but is no dependency of the runtime.
"""

import logging
import os
import resource
from typing import Final

log = logging.getLogger(__name__)

TARGET_LIMIT: Final = 65_536
"""The soft limit to ask for; the hard limit may allow less."""


def raise_limit() -> int:
    """Raise the soft RLIMIT_NOFILE to `TARGET_LIMIT` or the hard limit, whichever is lower, and return the soft limit.
    A failure is logged, not raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = TARGET_LIMIT if hard == resource.RLIM_INFINITY else min(TARGET_LIMIT, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft_limit()
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as error:
        log.warning("descriptor limit not raised: %s stays %d", error, soft)
    return soft_limit()


def log_usage() -> None:
    """Log the number of descriptors in use and the limit; called once when a server starts."""
    log.info("file descriptors: %d of %d are in use", in_use(), soft_limit())


def soft_limit() -> int:
    """Return the soft limit; 2**31 for "unlimited"."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 if soft == resource.RLIM_INFINITY else soft


def in_use() -> int:
    """Return the number of open descriptors; 0 if the system does not report it."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return len(os.listdir(folder)) - 1  # minus the descriptor of the listing itself
        except OSError:
            continue
    return 0


def reserve(limit: int) -> int:
    """Return how many of `limit` descriptors inbound connections must leave free for files, Redis, the Kubernetes API
    and connections to the model."""
    return min(1024, max(64, limit // 8))
