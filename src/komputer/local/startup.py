"""The first steps of `komputer up`, before anything is imported that takes time."""

import contextlib
import os
import signal
import sys
from typing import Any

from komputer.local import credential


def begin() -> None:
    """Prepare the process: an end by Ctrl-C without a traceback, open standard streams, no credential in the
    environment. May replace the process by itself."""
    signal.signal(signal.SIGINT, _interrupted)
    _open_standard_streams()
    credential.leave_environment()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _interrupted(*_: Any) -> None:
    """Nothing has been started yet, so there is nothing to stop."""
    with contextlib.suppress(OSError):
        os.write(2, b"komputer: interrupted before anything was started\n")
    os._exit(130)


def _open_standard_streams() -> None:
    """A closed standard stream's number would go to the next file that is opened, and what is printed into that."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, "w", closefd=False))
