"""The parent of all parts: starts each, sees it fail, starts it again, and ends them in order.

Each part is a fork of this process, which has imported everything and opened the sockets: a part that is started again
is there in milliseconds and takes over the connections that wait. The parent runs no event loop and no thread.
"""

import mmap
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from komputer.local.kubelet.processes import end_with_parent

RESTART_PAUSE_MAX_S = 30.0
FORGIVEN_AFTER_S = 60.0
"""A part that ran for so long failed for another reason than the last time: it is started again at once."""


@dataclass
class Part:
    """`run(ready)` is called in a process of its own and returns or exits when told to stop by SIGTERM."""

    name: str
    run: Callable[[Callable[[], None]], None]
    stop_s: float = 5.0
    """How long it may take to stop before it is killed."""
    after: tuple[str, ...] = ()
    """Parts that must have been ready once before this one is started."""
    pid: int | None = None
    slot: int = 0
    started: float = 0.0
    failures: int = 0
    due: float = field(default=0.0)


class Supervisor:
    """`tell(line)` prints to the person who started us; `problem()` is looked at every few seconds, and told when it
    comes and when it goes."""

    def __init__(
        self, parts: list[Part], tell: Callable[[str], None], problem: Callable[[], str | None] = lambda: None
    ) -> None:
        self.parts = parts
        self._tell = tell
        self._problem = problem
        self._has_problem = False
        self._ready = mmap.mmap(-1, mmap.PAGESIZE)
        for slot, part in enumerate(parts):
            part.slot = slot
        self._told: set[str] = set()
        self._stopping = 0

    def unready(self) -> list[str]:
        """Names of the parts that are not ready now. Any process may ask."""
        return [part.name for part in self.parts if self._ready[part.slot] != 1]

    def run(self, on_ready: Callable[[], None]) -> int:
        """Until SIGINT or SIGTERM. Returns the exit code: 0, or 1 where a part could not be stopped gracefully."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        self._wake = (reader, writer)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._asked_to_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        announced = False
        while not self._stopping:
            self._reap()
            self._start_what_is_due()
            self._tell_problem()
            for part in self.parts:
                if part.name not in self._told and self._ready[part.slot] == 1:
                    self._told.add(part.name)
                    self._tell(f"  {part.name:<11} started in {time.monotonic() - part.started:.1f} s")
            if not announced and not self.unready():
                announced = True
                on_ready()
            # Readiness of a part is a byte in shared memory, which wakes nobody: looked at often until all are there.
            select.select([reader], [], [], 0.01 if not announced else self._pause())
            self._drain(reader)
        return self._stop()

    def _tell_problem(self) -> None:
        found = self._problem()
        if (found is not None) != self._has_problem:
            self._has_problem = found is not None
            self._tell(f"  {found}" if found else "  the disk has space again")

    def _asked_to_stop(self, *_: object) -> None:
        self._stopping += 1

    @staticmethod
    def _drain(reader: int) -> None:
        try:
            os.read(reader, 4096)
        except BlockingIOError:
            return

    def _pause(self) -> float:
        due = [part.due for part in self.parts if part.pid is None]
        return max(0.0, min([*due, time.monotonic() + 5.0]) - time.monotonic())

    def _start_what_is_due(self) -> None:
        for part in self.parts:
            if part.pid is None and time.monotonic() >= part.due and self._told.issuperset(part.after):
                self._start(part)

    def _start(self, part: Part) -> None:
        self._ready[part.slot] = 0
        part.started = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        pid = os.fork()
        if pid:
            part.pid = pid
            return
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for reader in self._wake:
                os.close(reader)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            end_with_parent()
            if os.getppid() == parent:
                part.run(lambda: self._ready.__setitem__(part.slot, 1))
                code = 0
        except SystemExit as wanted:
            code = wanted.code if isinstance(wanted.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        """Notes which parts have ended; each is due again after a pause that grows with its failures."""
        for part in self.parts:
            if part.pid is None:
                continue
            pid, status = os.waitpid(part.pid, os.WNOHANG)
            if not pid:
                continue
            now = time.monotonic()
            part.failures = 1 if now - part.started > FORGIVEN_AFTER_S else part.failures + 1
            pause = 0.0 if part.failures == 1 else min(0.5 * 2 ** (part.failures - 2), RESTART_PAUSE_MAX_S)
            part.pid, part.due = None, now + pause
            self._ready[part.slot] = 0
            if not self._stopping:
                code = os.waitstatus_to_exitcode(status)
                how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
                self._tell(f"  {part.name:<11} {how}; it is started again{f' in {pause:.0f} s' if pause >= 1 else ''}")

    def _stop(self) -> int:
        """In the reverse order of start: each part can still speak to those that it needs."""
        code = 0
        for part in reversed(self.parts):
            self._ready[part.slot] = 0
            if part.pid is None:
                continue
            os.kill(part.pid, signal.SIGTERM)
            deadline = time.monotonic() + part.stop_s
            while not self._has_ended(part):
                if time.monotonic() > deadline or self._stopping > 1:
                    self._tell(f"  {part.name:<11} did not stop in time and was killed")
                    os.kill(part.pid, signal.SIGKILL)
                    os.waitpid(part.pid, 0)
                    code = 1
                    break
                select.select([self._wake[0]], [], [], 0.05)
                self._drain(self._wake[0])
            part.pid = None
        return code

    @staticmethod
    def _has_ended(part: Part) -> bool:
        assert part.pid is not None
        return os.waitpid(part.pid, os.WNOHANG)[0] != 0
