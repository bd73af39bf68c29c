"""The parent of all parts: starts them, restarts those that fail, and stops all of them in order.

Each part is a fork of this process, which has imported all modules and opened the sockets. So a part that restarts is
ready in milliseconds, and accepts the connections that wait. The parent runs neither an event loop nor threads, which
makes the forks safe.
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

from komputer.backoff import Backoff
from komputer.bootstrap import heap
from komputer.domain.errors import KomputerError
from komputer.http import descriptors
from komputer.local.kubelet.processes import end_with_parent

RESTART_PAUSE_MAX_S = 30.0
"""The longest pause between two attempts to start a part that fails repeatedly."""
BACKOFF = Backoff(0.5, RESTART_PAUSE_MAX_S)
"""The pauses up to the failure number `ATTEMPTS`. The first restart is immediate."""
ATTEMPTS = 5
"""Consecutive failures of a part after which the end of its log is printed. If the part was never ready, the platform
then stops, about 4 s after the first failure. A part that was ready before is restarted every `RESTART_PAUSE_MAX_S`."""
FATAL_EXIT = 78
"""The exit code of a part that raised `Fatal`; EX_CONFIG of sysexits.h. The platform stops, since a restart would not
help before a person has acted."""
WATCH_S = 2.0
"""Interval between two calls of `watch`."""
SLOW_START_S = 30.0
"""Seconds between two reports of a slow start, which name the parts that are not ready."""
UNREADY_STOP_S = 3.0
"""How long a part that is still starting may take to stop. It has no work to finish, and may be waiting for another
part."""
SLOW_STOP_S = 3.0
"""Seconds after which a slow stop is reported, with the name of the part that is still running."""
FAILURES_RESET_AFTER_S = 60.0
"""The time that a part must run before its failures are counted from one again: the next failure is then considered to
have another reason."""


class Fatal(KomputerError):
    """A part cannot run, and another attempt would fail in the same way. The message is printed and the platform
    stops."""

    code = "fatal"


@dataclass
class Part:
    """A process of the platform. `run(ready)` is called in the child process. It must call `ready` when it serves, and
    return or exit after SIGTERM."""

    name: str
    run: Callable[[Callable[[], None]], None]
    stop_s: float = 30.0
    """How long the part may take to stop before it is killed. A part needs at most 3 s; this is ten times as much, for
    a busy machine."""
    after: tuple[str, ...] = ()
    """Names of parts that must have been ready once before this one starts."""
    pid: int | None = None
    slot: int = 0
    started: float = 0.0
    failures: int = 0
    due: float = field(default=0.0)
    is_degraded: bool = False
    """Whether the part has failed `ATTEMPTS` times in a row and this was reported."""


def restart_pause(failures: int) -> float:
    """Return the seconds before the next attempt after this number of consecutive failures."""
    return RESTART_PAUSE_MAX_S if failures >= ATTEMPTS else BACKOFF.delay_s(failures - 1)


class Supervisor:
    """Runs the parts. `tell(line)` prints a line and never raises. `last_lines(part)` returns the end of a part's log.

    `watch()` and `problem()` are called every `WATCH_S`. `watch` returns why the platform must stop, or None. `problem`
    returns a temporary problem, or None; the problem is reported when it begins and when it ends.
    """

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
        self._once_ready: set[str] = set()
        self._stopping = 0

    def unready(self) -> list[str]:
        """Return the names of the parts that are not ready now. This works in the processes of the parts too, since the
        state is in shared memory."""
        return [part.name for part in self.parts if self._ready[part.slot] != 1]

    def run(self, on_ready: Callable[[], None]) -> int:
        """Run the parts until SIGINT or SIGTERM, or until the platform cannot continue. `on_ready` is called when all
        parts are ready for the first time. Return the exit code: 1 if a part could not be started, or had to be killed
        at the end, otherwise 0."""
        descriptors.raise_limit()
        heap.freeze()
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        self._wake = (reader, writer)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop_requested)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        announced, slow_start_at = False, time.monotonic() + SLOW_START_S
        while not self._stopping:
            self._reap()
            if self._stopping:
                break
            self._start_what_is_due()
            for part in self.parts:
                if self._ready[part.slot] != 1:
                    continue
                if part.name not in self._once_ready:
                    self._once_ready.add(part.name)
                    self._tell(f"  {part.name:<11} started in {time.monotonic() - part.started:.1f} s")
                elif part.is_degraded:
                    part.is_degraded = False
                    self._tell(f"  {part.name:<11} is ready again")
            self._call_watch()
            if not announced and not self.unready():
                announced = True
                on_ready()
            if not announced and time.monotonic() > slow_start_at:
                slow_start_at += SLOW_START_S
                self._tell(f"still waiting for {', '.join(self.unready())}")
            # Signals wake this `select` through the pipe. A part that becomes ready only writes a byte into shared
            # memory, which does not, so poll until all parts are ready.
            select.select([reader], [], [], 0.01 if not announced else self._pause())
            self._drain(reader)
        return max(self._stop(), int(self._failed))

    def _give_up(self, why: str) -> None:
        self._tell(why)
        self._failed = True
        self._stopping += 1

    def _call_watch(self) -> None:
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

    def _stop_requested(self, *_: object) -> None:
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
            if part.pid is None and time.monotonic() >= part.due and self._once_ready.issuperset(part.after):
                self._start(part)

    def _start(self, part: Part) -> None:
        """Fork a process that runs the part. The child restores the parent's signal handling and never returns from
        this function: it exits with `os._exit`, so that no code of the parent runs in it."""
        self._ready[part.slot] = 0
        part.started = time.monotonic()
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as wrong:  # out of memory or processes, which may pass
            part.due = time.monotonic() + 1
            self._tell(f"  {part.name:<11} could not be started ({wrong.strerror}); retrying in 1 s")
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
            if os.getppid() == parent:  # else the parent ended before `end_with_parent`, and no signal would come
                part.run(lambda: self._ready.__setitem__(part.slot, 1))
                code = 0
        except SystemExit as exited:
            code = exited.code if isinstance(exited.code, int) else 1
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
        """Reap the parts that have exited. Each is due again after a pause that grows with its failures."""
        for part in self.parts:
            if part.pid is None:
                continue
            pid, status = os.waitpid(part.pid, os.WNOHANG)
            if not pid:
                continue
            now = time.monotonic()
            part.failures = 1 if now - part.started > FAILURES_RESET_AFTER_S else part.failures + 1
            pause = restart_pause(part.failures)
            part.pid, part.due = None, now + pause
            self._ready[part.slot] = 0
            if not self._stopping:
                self._report_end(part, os.waitstatus_to_exitcode(status), pause)

    def _report_end(self, part: Part, code: int, pause: float) -> None:
        """Report how a part ended, and stop the platform if another attempt would be useless."""
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        if code == FATAL_EXIT:
            self._give_up(f"komputer: {part.name} cannot run; the reason is above")
        elif part.failures < ATTEMPTS:
            self._tell(f"  {part.name:<11} {how}; restarting{f' in {pause:.0f} s' if pause >= 1 else ''}")
        elif part.name not in self._once_ready:
            self._tell_failures(part, how)
            self._give_up(f"komputer: {part.name} does not start; its log is above")
        elif not part.is_degraded:
            part.is_degraded = True
            self._tell_failures(part, how)
            self._tell(f"  {part.name:<11} is retried every {RESTART_PAUSE_MAX_S:.0f} s; the other parts keep running")

    def _tell_failures(self, part: Part, how: str) -> None:
        self._tell(f"  {part.name:<11} {how}; it failed {part.failures} times in a row. The last lines of its log:")
        for line in self._last_lines(part.name):
            self._tell(f"    {line}")

    def _stop(self) -> int:
        """Stop the parts in the reverse order of their start, so that each can still reach the parts that it depends
        on. Return 1 if a part that was ready had to be killed, otherwise 0."""
        code = 0
        for part in reversed(self.parts):
            was_ready = self._ready[part.slot] == 1
            self._ready[part.slot] = 0
            if part.pid is None:
                continue
            os.kill(part.pid, signal.SIGTERM)
            begun, is_reported = time.monotonic(), False
            deadline = begun + (part.stop_s if was_ready else UNREADY_STOP_S)
            while not self._has_ended(part):
                if time.monotonic() > deadline or self._stopping > 1:
                    os.kill(part.pid, signal.SIGKILL)
                    os.waitpid(part.pid, 0)
                    if was_ready:
                        self._tell(f"  {part.name:<11} did not stop in time and was killed")
                        code = 1
                    break
                if not is_reported and time.monotonic() > begun + SLOW_STOP_S:
                    is_reported = True
                    self._tell(f"  {part.name:<11} is still stopping (Ctrl-C again ends it at once)")
                select.select([self._wake[0]], [], [], 0.05)
                self._drain(self._wake[0])
            part.pid = None
        return code

    @staticmethod
    def _has_ended(part: Part) -> bool:
        assert part.pid is not None
        return os.waitpid(part.pid, os.WNOHANG)[0] != 0
