"""The parent of all parts: starts each, sees it fail, starts it again, and ends them in order.

Each part is a fork of this process, which has imported everything and opened the sockets: a part that is started again
is there in milliseconds and takes over the connections that wait. The parent runs no event loop and no thread.
"""

import contextlib
import mmap
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from komputer.bootstrap import heap
from komputer.domain.errors import KomputerError
from komputer.http import descriptors
from komputer.local.kubelet.processes import end_with_parent

RESTART_PAUSE_MAX_S = 30.0
"""Between two attempts to start a part that fails again and again."""
ATTEMPTS = 5
"""Failures in a row after which a part's last log lines are printed. A part that was never ready ends the platform
then, about 4 s after the first failure; one that was ready is tried again every `RESTART_PAUSE_MAX_S`."""
FATAL_EXIT = 78
"""Exit code of a part that cannot run before a person has acted (`Fatal`): the platform stops. EX_CONFIG."""
WATCH_S = 2.0
"""Between two calls of `watch`."""
SLOW_START_S = 30.0
"""After which a person who waits for the start is told for which parts, and again each time."""
UNREADY_STOP_S = 3.0
"""How long a part that is still starting may take to stop: it has nothing to finish, and may wait for another part."""
SLOW_STOP_S = 3.0
"""After which a person who waits for the end is told for which part."""
FORGIVEN_AFTER_S = 60.0
"""A part that ran for so long failed for another reason than the last time: it is started again at once."""


class Fatal(KomputerError):
    """Raised by a part that would fail in the same way again: the message is printed and the platform stops."""

    code = "fatal"


def tell(line: str) -> None:
    """Print a line to standard output. Never raises and never waits for long: what cannot be written within a second
    (a closed pipe, a full disk, a terminal that is paused) is dropped, since the platform is worth more than the line.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    with contextlib.suppress(OSError, ValueError):
        data = (line + "\n").encode(encoding, "backslashreplace")
        if select.select([], [1], [], 1.0)[1]:
            os.write(1, data)


@dataclass
class Part:
    """`run(ready)` is called in a process of its own and returns or exits when told to stop by SIGTERM."""

    name: str
    run: Callable[[Callable[[], None]], None]
    stop_s: float = 30.0
    """How long it may take to stop before it is killed: a part needs 3 s at most, and ten times that under load."""
    after: tuple[str, ...] = ()
    """Parts that must have been ready once before this one is started."""
    pid: int | None = None
    slot: int = 0
    started: float = 0.0
    failures: int = 0
    due: float = field(default=0.0)
    is_degraded: bool = False
    """It failed `ATTEMPTS` times in a row and the person was told."""


def restart_pause(failures: int) -> float:
    """Seconds before the next attempt, after so many failures in a row."""
    if failures >= ATTEMPTS:
        return RESTART_PAUSE_MAX_S
    return 0.0 if failures == 1 else 0.5 * 2.0 ** (failures - 2)


class Supervisor:
    """`tell(line)` prints to the person who started us and never raises. `watch()` is called every `WATCH_S`; what it
    returns is the reason to stop. `problem()` is asked as often; it is told when it comes and when it goes.
    `last_lines(part)` are the last lines of a part's log."""

    def __init__(
        self,
        parts: list[Part],
        tell: Callable[[str], None],
        *,
        watch: Callable[[], str | None] = lambda: None,
        problem: Callable[[], str | None] = lambda: None,
        last_lines: Callable[[str], list[str]] = lambda part: [],
    ) -> None:
        self.parts = parts
        self._tell = tell
        self._watch = watch
        self._watch_due = 0.0
        self._problem = problem
        self._has_problem = False
        self._last_lines = last_lines
        self._failed = False
        self._ready = mmap.mmap(-1, mmap.PAGESIZE)
        for slot, part in enumerate(parts):
            part.slot = slot
        self._told: set[str] = set()
        self._stopping = 0

    def unready(self) -> list[str]:
        """Names of the parts that are not ready now. Any process may ask."""
        return [part.name for part in self.parts if self._ready[part.slot] != 1]

    def run(self, on_ready: Callable[[], None]) -> int:
        """Until SIGINT or SIGTERM, or until the platform cannot go on. Returns the exit code: 0, or 1 where a part
        could not be started, or not be stopped gracefully."""
        descriptors.raise_limit()
        heap.freeze()
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        self._wake = (reader, writer)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._asked_to_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        announced, patience = False, time.monotonic() + SLOW_START_S
        while not self._stopping:
            self._reap()
            if self._stopping:
                break
            self._start_what_is_due()
            for part in self.parts:
                if self._ready[part.slot] != 1:
                    continue
                if part.name not in self._told:
                    self._told.add(part.name)
                    self._tell(f"  {part.name:<11} started in {time.monotonic() - part.started:.1f} s")
                elif part.is_degraded:
                    part.is_degraded = False
                    self._tell(f"  {part.name:<11} is ready again")
            self._look_around()
            if not announced and not self.unready():
                announced = True
                on_ready()
            if not announced and time.monotonic() > patience:
                patience += SLOW_START_S
                self._tell(f"still waiting for {', '.join(self.unready())}")
            # Readiness of a part is a byte in shared memory, which wakes nobody: looked at often until all are there.
            select.select([reader], [], [], 0.01 if not announced else self._pause())
            self._drain(reader)
        return max(self._stop(), int(self._failed))

    def _give_up(self, why: str) -> None:
        self._tell(why)
        self._failed = True
        self._stopping += 1

    def _look_around(self) -> None:
        if time.monotonic() < self._watch_due:
            return
        self._watch_due = time.monotonic() + WATCH_S
        if why := self._watch():
            self._give_up(why)
        self._tell_problem()

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
        return max(0.0, min([*due, self._watch_due]) - time.monotonic())

    def _start_what_is_due(self) -> None:
        for part in self.parts:
            if part.pid is None and time.monotonic() >= part.due and self._told.issuperset(part.after):
                self._start(part)

    def _start(self, part: Part) -> None:
        self._ready[part.slot] = 0
        part.started = time.monotonic()
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as wrong:  # no memory or no process left: both pass
            part.due = time.monotonic() + 1
            self._tell(f"  {part.name:<11} could not be started ({wrong.strerror}); it is tried again in 1 s")
            return
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
        except Fatal as refused:
            self._tell(f"  {part.name:<11} {refused.message}")
            code = FATAL_EXIT
        except BaseException:
            with contextlib.suppress(Exception):
                traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
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
            pause = restart_pause(part.failures)
            part.pid, part.due = None, now + pause
            self._ready[part.slot] = 0
            if not self._stopping:
                self._judge(part, os.waitstatus_to_exitcode(status), pause)

    def _judge(self, part: Part, code: int, pause: float) -> None:
        """Says how a part ended, and stops the platform where another attempt is of no use."""
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        if code == FATAL_EXIT:
            self._give_up(f"komputer: {part.name} cannot run; the reason is above")
        elif part.failures < ATTEMPTS:
            self._tell(f"  {part.name:<11} {how}; it is started again{f' in {pause:.0f} s' if pause >= 1 else ''}")
        elif part.name not in self._told:
            self._tell_failures(part, how)
            self._give_up(f"komputer: {part.name} does not start; its log is above")
        elif not part.is_degraded:
            part.is_degraded = True
            self._tell_failures(part, how)
            self._tell(f"  {part.name:<11} is tried again every {RESTART_PAUSE_MAX_S:.0f} s; the rest goes on")

    def _tell_failures(self, part: Part, how: str) -> None:
        self._tell(f"  {part.name:<11} {how}; it failed {part.failures} times in a row. The last lines of its log:")
        for line in self._last_lines(part.name):
            self._tell(f"    {line}")

    def _stop(self) -> int:
        """In the reverse order of start: each part can still speak to those that it needs."""
        code = 0
        for part in reversed(self.parts):
            was_ready = self._ready[part.slot] == 1
            self._ready[part.slot] = 0
            if part.pid is None:
                continue
            os.kill(part.pid, signal.SIGTERM)
            begun, is_told = time.monotonic(), False
            deadline = begun + (part.stop_s if was_ready else UNREADY_STOP_S)
            while not self._has_ended(part):
                if time.monotonic() > deadline or self._stopping > 1:
                    os.kill(part.pid, signal.SIGKILL)
                    os.waitpid(part.pid, 0)
                    if was_ready:
                        self._tell(f"  {part.name:<11} did not stop in time and was killed")
                        code = 1
                    break
                if not is_told and time.monotonic() > begun + SLOW_STOP_S:
                    is_told = True
                    self._tell(f"  {part.name:<11} is still stopping (Ctrl-C again ends it at once)")
                select.select([self._wake[0]], [], [], 0.05)
                self._drain(self._wake[0])
            part.pid = None
        return code

    @staticmethod
    def _has_ended(part: Part) -> bool:
        assert part.pid is not None
        return os.waitpid(part.pid, os.WNOHANG)[0] != 0
