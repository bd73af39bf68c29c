"""The first steps of `komputer up`, before any import that takes long."""

import contextlib
import os
import signal
import sys
from typing import Any

from komputer.local import credential


def begin() -> None:
    """Prepare the process: Ctrl-C ends it without a traceback, the standard streams are open, and the environment has
    no credential. This may replace the process (see `credential.leave_environment`)."""
    signal.signal(signal.SIGINT, _interrupted)
    _open_standard_streams()
    credential.leave_environment()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _interrupted(*_: Any) -> None:
    """Exit at once: nothing has been started yet, so there is nothing to stop."""
    with contextlib.suppress(OSError):
        os.write(2, b"komputer: interrupted before anything was started\n")
    os._exit(130)


def _open_standard_streams() -> None:
    """Open /dev/null for each standard stream that is closed. Otherwise the next file that is opened would get the
    stream's descriptor, and printed lines would be written into that file."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, "w", closefd=False))
