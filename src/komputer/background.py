"""Background work that never ends silently.

Every loop and every job that a part runs beside its requests is started through `Background`. What fails is logged with
its reason, is tried again after a growing pause, and can be read in `failing` until it works again.
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
"""Between attempts. The limit is short, so that work which failed for want of disk space or memory continues soon after
there is some; until then an attempt costs nothing."""
STEADY_S: Final = 30.0
"""A loop that has run for this many seconds counts as recovered: its failure is no longer shown, and the delays start
from the first again."""

T = TypeVar("T")
Report = Callable[[str | None], None]
"""Called with the reason when work begins to fail and when the reason changes, with None when it works again."""


class LoopEnded(KomputerError):
    """A loop that must not end has returned."""

    code = "background_ended"


class Background:
    """The background work of one part: what it started is cancelled when it is left (`async with`) or closed."""

    def __init__(self, backoff: Backoff = BACKOFF) -> None:
        self._backoff = backoff
        self._tasks: set[asyncio.Task[None]] = set()
        self.failing: dict[str, str] = {}
        """Why work fails now, by its name; empty while all of it works."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def keep(self, name: str, loop: Callable[[], Awaitable[None]], report: Report | None = None) -> asyncio.Task[None]:
        """Starts a loop that must never end. It is started again when it raises or returns."""

        async def endless() -> None:
            await loop()
            raise LoopEnded(f"{name} ended, and must not")

        return self.run(name, endless, report)

    def run(self, name: str, job: Callable[[], Awaitable[None]], report: Report | None = None) -> asyncio.Task[None]:
        """Starts a job that ends. It is started again when it raises."""

        def changed(reason: str | None) -> None:
            if reason is None:
                self.failing.pop(name, None)
            else:
                self.failing[name] = reason
            if report:
                report(reason)

        task = asyncio.get_running_loop().create_task(retried(name, job, changed, self._backoff), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: self.failing.pop(name, None))
        return task

    async def close(self) -> None:
        """Cancels everything and waits for its end."""
        while self._tasks:
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.wait(tuple(self._tasks))

    @property
    def problem(self) -> str | None:
        """One sentence for people, or None while all work runs."""
        failed = "; ".join(f"{name}: {reason}" for name, reason in sorted(self.failing.items()))
        return f"background work fails and is tried again: {failed}" if failed else None


async def retried(
    name: str,
    work: Callable[[], Awaitable[T]],
    report: Report = lambda reason: None,
    backoff: Backoff = BACKOFF,
) -> T:
    """Returns what `work` returns; what it raises is logged once per reason, and `work` is called again after a pause.
    Only cancellation of the caller's task ends it early."""
    loop = asyncio.get_running_loop()
    reason: str | None = None
    failures = 0

    def recovered() -> None:
        nonlocal reason, failures
        failures = 0
        if reason is not None:
            reason = None
            log.info("background work goes on: %s", name)
            report(None)

    async def attempt() -> T:
        return await work()

    while True:
        steady = loop.call_later(STEADY_S, recovered)
        try:
            # In a task of its own: a TaskGroup that fails leaves its task counted as cancelled (Python 3.11), and then
            # nobody could tell a failure from our own cancellation.
            result = await loop.create_task(attempt(), name=name)
        except (Exception, asyncio.CancelledError) as error:  # border: no failure of background work ends it
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError from error
            steady.cancel()
            found = reason_of(error)
            if found != reason:
                reason = found
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
    """Why something failed, in one line: our own and the system's errors by their message, others with their type."""
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
