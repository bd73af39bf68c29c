"""Trees of processes: who belongs to a container, and how the whole of it ends."""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

MARK = "KOMPUTER_POD_FOLDER"
"""In the environment of every process of a container without a sandbox: what setsid or a double fork cannot shed. The
pod's folder, since two platforms on one machine may have pods of the same uid: one is a copy of the other."""
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def end_with_parent(number: int = signal.SIGKILL) -> None:
    """Asks Linux to send `number` to this process when its parent's thread ends. Elsewhere it does nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)


AGENT_OOM_SCORE, PLATFORM_OOM_SCORE = 800, -500
"""Added to what the kernel counts (0 to 1000 for no to all memory) when it looks for a process to kill: an agent that
uses nothing goes before anything else that uses less than four fifths of the memory. Below 0 needs CAP_SYS_RESOURCE."""


def end_first_without_memory() -> None:
    """This process and its children are the first that the kernel kills when memory runs out."""
    with contextlib.suppress(OSError, ValueError):
        score = Path("/proc/self/oom_score_adj")
        if int(score.read_text()) < AGENT_OOM_SCORE:
            score.write_text(str(AGENT_OOM_SCORE))


def end_last_without_memory() -> None:
    """This process and its children are among the last, where it may ask for that (root)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(PLATFORM_OOM_SCORE))


def children(pid: int) -> list[int]:
    """The direct children of `pid`; empty where it is gone or /proc does not tell."""
    with contextlib.suppress(OSError, ValueError):
        return [int(part) for part in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def marked(folder: Path) -> list[int]:
    """Processes of ours that carry the mark of the pod with this folder, or of one with a folder below it."""
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
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
