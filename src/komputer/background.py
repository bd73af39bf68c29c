"""Supervision of background work: every loop and job that a program runs besides its requests.

`Background` logs each failure with its reason, retries after a growing pause, and keeps the reason in `failing` until
the work succeeds again. Retry libraries (stamina, tenacity) repeat a call but do not expose the present reason of a
failure, which readiness probes and conditions need; aiojobs and anyio's task groups do not restart failed work.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self, TypeVar

from komputer.backoff import Backoff
from komputer.domain.errors import KomputerError

log = logging.getLogger(__name__)

BACKOFF: Final = Backoff(0.1, 10.0)
"""The delay between attempts. It is ten seconds at most, because work that failed for lack of disk space or memory
should resume soon after there is some, and an attempt every ten seconds costs nothing."""
RECOVERED_AFTER_S: Final = 30.0
"""A loop that has run this long without a failure has recovered: its failure is cleared, and its next delay is the
first one again."""

T = TypeVar("T")
Report = Callable[[str | None], None]
"""Called with the reason when work begins to fail or fails for another reason, and with None when it has recovered."""


class LoopEnded(KomputerError):
    """A loop that must run forever has returned."""

    code = "background_ended"


class Background:
    """The background work of one program. Leaving the context (`async with`) or closing it cancels all of it."""

    def __init__(self, backoff: Backoff = BACKOFF) -> None:
        self._backoff = backoff
        self._tasks: set[asyncio.Task[None]] = set()
        self.failing: dict[str, str] = {}
        """The reason of each failure, by the name of the work; empty while everything works."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def run_forever(
        self, name: str, loop: Callable[[], Awaitable[None]], report: Report | None = None
    ) -> asyncio.Task[None]:
        """Start a loop that must never end. It is restarted whenever it raises or returns."""

        async def checked_loop() -> None:
            await loop()
            raise LoopEnded(f"{name} ended unexpectedly")

        return self.run(name, checked_loop, report)

    def run(self, name: str, job: Callable[[], Awaitable[None]], report: Report | None = None) -> asyncio.Task[None]:
        """Start a job that ends. It is restarted whenever it raises."""

        def report_change(reason: str | None) -> None:
            if reason is None:
                self.failing.pop(name, None)
            else:
                self.failing[name] = reason
            if report:
                report(reason)

        task = asyncio.get_running_loop().create_task(retry(name, job, report_change, self._backoff), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: self.failing.pop(name, None))
        return task

    async def close(self) -> None:
        """Cancel all work and wait until it has ended."""
        while self._tasks:
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.wait(tuple(self._tasks))

    @property
    def problem(self) -> str | None:
        """Return one sentence about everything that fails now, or None."""
        failed = "; ".join(f"{name}: {reason}" for name, reason in sorted(self.failing.items()))
        return f"background work fails and is retried: {failed}" if failed else None


async def retry(
    name: str,
    work: Callable[[], Awaitable[T]],
    report: Report = lambda reason: None,
    backoff: Backoff = BACKOFF,
) -> T:
    """Return what `work` returns. An exception is logged once per reason, and `work` is called again after a pause.
    Only the cancellation of the calling task ends the retries early."""
    loop = asyncio.get_running_loop()
    reason: str | None = None
    failures = 0

    def recovered() -> None:
        nonlocal reason, failures
        failures = 0
        if reason is not None:
            reason = None
            log.info("background work recovered: %s", name)
            report(None)

    async def attempt() -> T:
        return await work()

    while True:
        steady = loop.call_later(RECOVERED_AFTER_S, recovered)
        try:
            # `work` runs in its own task. On Python 3.11 a TaskGroup that fails leaves the cancellation count of its
            # task above zero. If `work` ran in the present task, this could not be distinguished from a real
            # cancellation.
            result = await loop.create_task(attempt(), name=name)
        except (Exception, asyncio.CancelledError) as error:  # boundary: no failure ends background work
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError from error
            steady.cancel()
            new_reason = reason_of(error)
            if new_reason != reason:
                reason = new_reason
                known = isinstance(_first(error), KomputerError | OSError)
                log.warning("background work failed: %s: %s", name, reason, exc_info=None if known else error)
                report(reason)
            failures += 1
            await asyncio.sleep(backoff.delay_s(failures))
        else:
            recovered()
            return result
        finally:
            steady.cancel()


def reason_of(error: BaseException) -> str:
    """Return the reason of a failure in one line: the message of our own errors and of system errors, and the type and
    text of any other exception. The reason of an exception group is that of its first exception."""
    first = _first(error)
    if isinstance(first, KomputerError):
        return first.message
    if isinstance(first, OSError) and first.strerror:
        return f"{first.strerror}: {first.filename}" if first.filename else first.strerror
    return f"{type(first).__name__}: {first}" if str(first) else type(first).__name__


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
