"""Whose turn it is: each key alone and in order, many keys at once, again after a while where that was asked for."""

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Hashable
from datetime import timedelta
from typing import Final, Generic, TypeVar

import structlog

from komputer.backoff import Backoff
from komputer.domain.errors import KomputerError
from komputer.operator import metrics

log = structlog.get_logger(__name__)

BACKOFF: Final = Backoff(0.2, 30.0, jitter=0.2)
"""Before a failed turn is tried again."""

K = TypeVar("K", bound=Hashable)


class Queue(Generic[K]):
    """A set of keys, each with the time at which it is due. Waking a key that waits only makes it earlier; one that is
    being worked on has another turn after it. `name` is its own in metrics."""

    def __init__(
        self,
        name: str,
        *,
        at_once: int = 32,
        backoff: Backoff = BACKOFF,
    ) -> None:
        self._at_once = at_once
        self._backoff = backoff
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = 0
        self._working: set[K] = set()
        self._failures: dict[K, int] = {}
        self._began: dict[K, float] = {}
        self._changed = asyncio.Event()
        self._name = name
        metrics.DEPTH.labels(name).set_function(self._depth)
        metrics.WORKERS.labels(name).set_function(lambda: len(self._working))

    def wake(self, key: K, after: timedelta = timedelta(0), *, at_most_every: timedelta | None = None) -> None:
        """`key` is due after a while, by default now; `at_most_every`: not before so long after its last turn began."""
        due = asyncio.get_running_loop().time() + after.total_seconds()
        if at_most_every and key in self._began:
            due = max(due, self._began[key] + at_most_every.total_seconds())
        if key in self._due and self._due[key] <= due:
            return
        self._due[key] = due
        if key not in self._working:
            self._push(key)

    def forget(self, key: K) -> None:
        """Nothing is remembered of a key that will hardly come again."""
        self._began.pop(key, None)
        self._failures.pop(key, None)

    async def run(self, work: Callable[[K], Awaitable[timedelta | None]]) -> None:
        """Work until cancelled. `work` answers after how long to look again, None for not at all. What it raises is
        logged, and tried again with back-off."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                while len(self._working) < self._at_once and (key := self._next()) is not None:
                    self._working.add(key)
                    group.create_task(self._turn(key, work))
                await self._wait()

    def _depth(self) -> float:
        """What is due and waits. Called by the loop's own thread: metrics are served there."""
        now = asyncio.get_running_loop().time()
        return sum(due <= now for due in self._due.values())

    def _push(self, key: K) -> None:
        self._order += 1
        heapq.heappush(self._heap, (self._due[key], self._order, key))
        self._changed.set()

    def _top(self) -> tuple[float, K] | None:
        """The earliest key that waits. What lies above it in the heap was woken earlier or is being worked on."""
        while self._heap:
            due, _, key = self._heap[0]
            if self._due.get(key) == due and key not in self._working:
                return due, key
            heapq.heappop(self._heap)
        return None

    def _next(self) -> K | None:
        """The key that is due."""
        top = self._top()
        if top is None or top[0] > asyncio.get_running_loop().time():
            return None
        heapq.heappop(self._heap)
        metrics.WAITED.labels(self._name).observe(asyncio.get_running_loop().time() - top[0])
        del self._due[top[1]]
        return top[1]

    async def _wait(self) -> None:
        """Until something changes, or the next key is due."""
        top = self._top() if len(self._working) < self._at_once else None
        timeout = max(0.0, top[0] - asyncio.get_running_loop().time()) if top else None
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _turn(self, key: K, work: Callable[[K], Awaitable[timedelta | None]]) -> None:
        self._began[key] = asyncio.get_running_loop().time()
        try:
            with metrics.SECONDS.labels(self._name).time():
                again = await work(key)
            metrics.RECONCILES.labels(self._name, "success" if again is None else "requeue_after").inc()
            self._failures.pop(key, None)
        except Exception as why:  # the border of every turn: one agent's trouble is not another's
            metrics.RECONCILES.labels(self._name, "error").inc()
            again = self._after_failure(key, why)
        finally:
            self._working.discard(key)
            if key in self._due:
                self._push(key)
            self._changed.set()
        if again is not None:
            self.wake(key, again)

    def _after_failure(self, key: K, why: Exception) -> timedelta:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = self._backoff.delay(failures)
        is_expected = isinstance(why, KomputerError)
        log.warning(
            "a turn failed",
            key="/".join(map(str, key)) if isinstance(key, tuple) else str(key),
            error=str(why),
            again_in_s=round(delay.total_seconds(), 1),
            exc_info=None if is_expected else why,
        )
        return delay
