"""The process tree below the runtime: nothing of it outlives Claude, and Claude does not outlive us. Linux; elsewhere
the tree is left to Claude, which ends its own commands when it is asked to stop."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Final

from komputer.runtime.workspace import read_small, remove, write_private

_PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 4, 36
SWEEP_S: Final = 5.0
"""How long what a task has left is killed before the runtime gives up."""
SWEEP_PAUSE_S: Final = 0.02
REAP_ROUND_S: Final = 0.1
FORMER_S: Final = 8.0
"""Claude takes 2 to 4 s to leave after SIGTERM."""


def adopt_orphans() -> bool:
    """Processes whose parent dies below us become our children, so that `sweep` finds them. False where the system
    cannot."""
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def launcher() -> Path | None:
    """A command that runs the program named by KOMPUTER_CLAUDE and gets SIGTERM when we die: Claude alone would work on
    until its turn is over. None where the system cannot. It is part of the package: the agent cannot change it."""
    script = Path(__file__).with_name("claude.sh")
    can = sys.platform == "linux" and shutil.which("setpriv") is not None
    return script if can and os.access(script, os.X_OK) else None


def close_memory() -> None:
    """Nobody of our user may read or change our memory, or be shown our environment, as our own children could."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def children() -> list[int]:
    """Pids of our direct children, zombies included; empty where /proc is not there."""
    me, found = os.getpid(), []
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):
            if name.isdigit() and _parent(name) == me:
                found.append(int(name))
    return found


def remember(pid: int | None, file: Path) -> None:
    """Write down which process Claude is, for a later runtime."""
    if pid is not None and (born := _born(pid)):
        with contextlib.suppress(OSError):  # without it a later runtime waits for nobody
            write_private(file, f"{pid} {born}")


async def outwait(file: Path) -> None:
    """Wait until the Claude of an earlier runtime has left, who may still write into the transcript; in the end kill
    it. It got SIGTERM when that runtime died."""
    try:
        pid, born = (int(word) for word in read_small(file).split())
    except (OSError, ValueError):
        return
    if pid in (os.getpid(), os.getppid(), 1):
        return
    for _ in range(round(FORMER_S / SWEEP_PAUSE_S)):
        if _born(pid) != born:
            break
        await asyncio.sleep(SWEEP_PAUSE_S)
    else:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        remove(file)


class StillRunning(Exception):
    """Something of a task's cannot be ended: it forks faster than it is killed, or hangs in the kernel."""


async def sweep() -> None:
    """Kill and reap everything below us. Only when no child of ours is wanted any more. Raises `StillRunning` after
    `SWEEP_S`: then only the end of the container, with its process namespace, ends the rest."""
    deadline = time.monotonic() + SWEEP_S
    while _has_children():
        if time.monotonic() > deadline:
            raise StillRunning("processes of a task cannot be ended; this container ends, and with it they do")
        for pid in children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(SWEEP_PAUSE_S)


def _has_children() -> bool:
    """Whether we have any child, after reaping dead ones. The kernel's word: a look at /proc misses a child that is
    forked meanwhile."""
    if sys.platform != "linux":
        return False
    deadline = time.monotonic() + REAP_ROUND_S
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return True
        except ChildProcessError:
            return False
    return True


def reap_orphans(wanted: int | None) -> None:
    """Take the exit status of dead children other than `wanted`, for whose status somebody else waits."""
    for pid in children():
        if pid != wanted:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _parent(pid: str) -> int:
    stat = _stat(pid)
    return int(stat[1]) if stat else -1


def _born(pid: int) -> int | None:
    """In the system's ticks since it started: with the pid, that names a process. None for one that is dead."""
    stat = _stat(str(pid))
    return int(stat[19]) if stat and stat[0] != "Z" else None


def _stat(pid: str) -> list[str]:
    """Fields of /proc/PID/stat from the state on (proc(5): the third); empty where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []
