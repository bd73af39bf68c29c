"""Finds and kills all processes of a container.

psutil could find them too, at the same speed (measured), but would be a dependency for one function.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

MARK = "KOMPUTER_POD_FOLDER"
"""The mark: an environment variable of every process of a container without a sandbox, and of bubblewrap itself for one
with a sandbox. Children inherit it, even through setsid and double forks. Its value is the pod's folder and not the
uid, because two installations on one machine may have pods with the same uid if one is a copy of the other."""
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def end_with_parent(number: int = signal.SIGKILL) -> None:
    """Request from Linux that it sends signal `number` to this process when its parent thread ends. Does nothing on
    other systems."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)


AGENT_OOM_SCORE, PLATFORM_OOM_SCORE = 800, -500
"""Values for oom_score_adj. When memory runs out, the kernel adds them to a process's score (0 to 1000 for 0 to 100 %
of the memory). So an agent is killed before any other process that uses less than 80 % of the memory. Negative values
need CAP_SYS_RESOURCE."""


def be_first_oom_victim() -> None:
    """Make this process and its children the first candidates of the kernel's OOM killer."""
    with contextlib.suppress(OSError, ValueError):
        score = Path("/proc/self/oom_score_adj")
        if int(score.read_text()) < AGENT_OOM_SCORE:
            score.write_text(str(AGENT_OOM_SCORE))


def be_last_oom_victim() -> None:
    """Make this process and its children the last candidates of the OOM killer, if permitted (root)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(PLATFORM_OOM_SCORE))


def children(pid: int) -> list[int]:
    """Return the pids of the direct children of `pid`; empty if it has ended or /proc does not list them."""
    with contextlib.suppress(OSError, ValueError):
        return [int(part) for part in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def marked(folder: Path) -> list[int]:
    """Return the pids of the processes with the mark of the pod with this folder, or of any pod with a folder below
    it."""
    mark = os.fsencode(f"{MARK}={folder}")
    found = []
    for entry in os.scandir("/proc") if sys.platform == "linux" else ():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            variables = Path(entry.path, "environ").read_bytes().split(b"\0")
            if any(v == mark or v.startswith(mark + b"/") for v in variables):
                found.append(int(entry.name))
    return found


def kill(pids: Iterable[int], number: int = signal.SIGKILL) -> None:
    """Send a signal to each process that still exists."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
