"""The process tree below the runtime. On Linux none of its processes outlives Claude, and Claude does not outlive the
runtime. On other systems Claude ends its own commands when it is stopped."""

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
"""How long to keep killing the processes that a task has left behind, before the runtime gives up."""
SWEEP_PAUSE_S: Final = 0.02
REAP_LIMIT_S: Final = 0.1
FORMER_WAIT_S: Final = 8.0
"""How long an earlier Claude process may take to exit; after SIGTERM it takes 2 to 4 s."""


def adopt_orphans() -> bool:
    """Make this process the parent of orphans below it (a child subreaper), so that `sweep` finds them. Return whether
    the system supports that."""
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def launcher() -> Path | None:
    """Return the script that starts the program in KOMPUTER_CLAUDE so that it gets SIGTERM when the runtime dies.
    Without it Claude would continue until the end of its turn. None if the system does not support that. The script is
    part of the package, so the agent cannot change it."""
    script = Path(__file__).with_name("claude.sh")
    can = sys.platform == "linux" and shutil.which("setpriv") is not None
    return script if can and os.access(script, os.X_OK) else None


def close_memory() -> None:
    """Protect the memory and environment of this process from other processes of its user, such as its children."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def children() -> list[int]:
    """Return the pids of this process's direct children, including zombies; empty without /proc."""
    me, found = os.getpid(), []
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):
            if name.isdigit() and _parent(name) == me:
                found.append(int(name))
    return found


def write_pid(pid: int | None, file: Path) -> None:
    """Write the pid and start time of the Claude process to a file, for `wait_for_former` of a later runtime."""
    if pid is not None and (started := _started_at_ticks(pid)):
        with contextlib.suppress(OSError):  # without the file a later runtime does not wait
            write_private(file, f"{pid} {started}")


async def wait_for_former(file: Path) -> None:
    """Wait until the Claude process of an earlier runtime has exited, since it may still write to the transcript. It
    got SIGTERM when that runtime died. If it still runs after `FORMER_WAIT_S`, kill it."""
    try:
        pid, started = (int(word) for word in read_small(file).split())
    except (OSError, ValueError):
        return
    if pid in (os.getpid(), os.getppid(), 1):
        return
    for _ in range(round(FORMER_WAIT_S / SWEEP_PAUSE_S)):
        if _started_at_ticks(pid) != started:
            break
        await asyncio.sleep(SWEEP_PAUSE_S)
    else:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        remove(file)


class StillRunning(Exception):
    """A process of a task cannot be killed: it forks faster than it is killed, or hangs in the kernel."""


async def sweep() -> None:
    """Kill and reap all processes below this one. Call it only when no child is needed any more.

    Raises `StillRunning` after `SWEEP_S`. The runtime must then exit: only the end of the container's PID namespace
    kills the rest.
    """
    deadline = time.monotonic() + SWEEP_S
    while _has_children():
        if time.monotonic() > deadline:
            raise StillRunning("processes of a task cannot be ended; this container ends, and with it they do")
        for pid in children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(SWEEP_PAUSE_S)


def _has_children() -> bool:
    """Whether this process has any child, after reaping dead ones. It uses waitpid, since a scan of /proc can miss a
    child that is forked during the scan."""
    if sys.platform != "linux":
        return False
    deadline = time.monotonic() + REAP_LIMIT_S
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return True
        except ChildProcessError:
            return False
    return True


def reap_orphans(wanted: int | None) -> None:
    """Reap dead children, except `wanted`: its exit status is read elsewhere."""
    for pid in children():
        if pid != wanted:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def resume_stopped(pid: int | None) -> None:
    """Continue a process that is stopped (SIGSTOP, SIGTSTP). A tool can stop Claude, which then reports nothing and is
    not considered stalled while the tool runs."""
    if pid is not None and (stat := _stat(str(pid))) and stat[0] == "T":
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _parent(pid: str) -> int:
    stat = _stat(pid)
    return int(stat[1]) if stat else -1


def _started_at_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None for a dead one. Pid and start time together
    identify a process, since pids are reused."""
    stat = _stat(str(pid))
    return int(stat[19]) if stat and stat[0] != "Z" else None


def _stat(pid: str) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on (the state, see proc(5)); empty if there is no such
    process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []
