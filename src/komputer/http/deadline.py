"""One deadline of a connection on the event loop, cheap to move."""

import asyncio
from collections.abc import Callable


class Deadline:
    """The time by which the connection must leave its current state; `expired` is called when it has not.

    Almost every request moves the deadline later. A timer that fires too early is therefore set again when it fires,
    instead of being cancelled and created for each request, as `asyncio.timeout` does in `reschedule`: a busy
    connection creates one timer per deadline period."""

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[], None]) -> None:
        self._loop = loop
        self._expired: Callable[[], None] | None = expired
        self._at: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self.state = ""
        """The state for which the deadline was set; empty for none."""

    def set(self, seconds: float, state: str) -> None:
        """Replace the deadline by one in `seconds` for `state`."""
        self._at, self.state = self._loop.time() + seconds, state
        if self._timer is not None and self._timer_at > self._at:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._start_timer(self._at)

    def clear(self) -> None:
        """Remove the deadline; the timer may still fire and does nothing."""
        self._at, self.state = None, ""

    def close(self) -> None:
        """Cancel the timer for good, and break the reference cycle with the connection."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._expired = None

    def _start_timer(self, at: float) -> None:
        self._timer, self._timer_at = self._loop.call_at(at, self._fire), at

    def _fire(self) -> None:
        self._timer = None
        if self._at is None or self._expired is None:
            return
        if self._loop.time() < self._at:
            self._start_timer(self._at)
        else:
            self._expired()
