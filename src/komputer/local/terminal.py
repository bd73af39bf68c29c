"""Prints lines of `komputer up` and its parts for the person who started them."""

import contextlib
import os
import select
import sys


def tell(line: str) -> None:
    """Print a line to standard output. Never raises, and waits for at most one second: a line that cannot be written (a
    closed pipe, a full disk, a paused terminal) is dropped, so that it does not stop the platform."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    with contextlib.suppress(OSError, ValueError):
        data = (line + "\n").encode(encoding, "backslashreplace")
        if select.select([], [1], [], 1.0)[1]:
            os.write(1, data)
