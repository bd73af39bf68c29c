"""A work queue: each key is worked on alone, many keys concurrently, and failed ones again after a delay."""

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
"""The delay before a failed turn is repeated."""
NO_DELAY: Final = timedelta(0)

K = TypeVar("K", bound=Hashable)


class Queue(Generic[K]):
    """A set of keys, each with the time at which it is due. Waking a key that waits can only make it due earlier. A key
    that is woken while it is being worked on has another turn afterwards. `name` identifies the queue in metrics.

    The model is client-go's workqueue. No maintained Python package has one for asyncio outside of a framework."""

    def __init__(
        self,
        name: str,
        *,
        concurrency: int = 32,
        min_interval: timedelta = NO_DELAY,
        backoff: Backoff = BACKOFF,
    ) -> None:
        """`min_interval` is the shortest time between the starts of two turns of the same key, unless the work itself
        asks for an earlier turn."""
        self._concurrency = concurrency
        self._min_interval = min_interval
        self._backoff = backoff
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = 0
        self._working: set[K] = set()
        self._failures: dict[K, int] = {}
        self._started_at: dict[K, float] = {}
        self._changed = asyncio.Event()
        self._name = name
        metrics.DEPTH.labels(name).set_function(self._depth)
        metrics.WORKERS.labels(name).set_function(lambda: len(self._working))

    def wake(self, key: K, after: timedelta = NO_DELAY, *, min_interval: timedelta = NO_DELAY) -> None:
        """Make `key` due after a delay, by default now, and not before `min_interval` after its last turn started."""
        due = asyncio.get_running_loop().time() + after.total_seconds()
        if key in self._started_at:
            due = max(due, self._started_at[key] + max(min_interval, self._min_interval).total_seconds())
        self._schedule(key, due)

    def forget(self, key: K) -> None:
        """Drop what is kept about a key whose object has been deleted."""
        self._started_at.pop(key, None)
        self._failures.pop(key, None)

    async def run(self, work: Callable[[K], Awaitable[timedelta | None]]) -> None:
        """Call `work` for each key that is due, until cancelled. `work` returns after how long to repeat the turn;
        None: not at all. Its exceptions are logged, and the turn is repeated with back-off."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                while len(self._working) < self._concurrency and (key := self._next()) is not None:
                    self._working.add(key)
                    group.create_task(self._turn(key, work))
                await self._wait()

    def _depth(self) -> float:
        """Return the number of keys that are due and wait. It needs no lock: metrics are served by the event loop that
        runs the queue."""
        now = asyncio.get_running_loop().time()
        return sum(due <= now for due in self._due.values())

    def _schedule(self, key: K, due: float) -> None:
        if key in self._due and self._due[key] <= due:
            return
        self._due[key] = due
        if key not in self._working:
            self._push(key)

    def _push(self, key: K) -> None:
        self._order += 1
        heapq.heappush(self._heap, (self._due[key], self._order, key))
        self._changed.set()

    def _top(self) -> tuple[float, K] | None:
        """Return the earliest key that waits, and drop outdated heap entries before it. An entry is outdated if its key
        was woken for an earlier time, or is being worked on: `_turn` pushes that key again."""
        while self._heap:
            due, _, key = self._heap[0]
            if self._due.get(key) == due and key not in self._working:
                return due, key
            heapq.heappop(self._heap)
        return None

    def _next(self) -> K | None:
        """Remove and return a key that is due."""
        top = self._top()
        if top is None or top[0] > asyncio.get_running_loop().time():
            return None
        heapq.heappop(self._heap)
        metrics.WAITED.labels(self._name).observe(asyncio.get_running_loop().time() - top[0])
        del self._due[top[1]]
        return top[1]

    async def _wait(self) -> None:
        """Wait until a key is woken, a turn ends, or the next key is due."""
        top = self._top() if len(self._working) < self._concurrency else None
        timeout = max(0.0, top[0] - asyncio.get_running_loop().time()) if top else None
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _turn(self, key: K, work: Callable[[K], Awaitable[timedelta | None]]) -> None:
        self._started_at[key] = asyncio.get_running_loop().time()
        try:
            with metrics.SECONDS.labels(self._name).time():
                requeue_after = await work(key)
            metrics.RECONCILES.labels(self._name, "success" if requeue_after is None else "requeue_after").inc()
            self._failures.pop(key, None)
        except Exception as error:  # boundary: one object's failure must not stop the others
            metrics.RECONCILES.labels(self._name, "error").inc()
            requeue_after = self._delay_after(key, error)
        finally:
            self._working.discard(key)
            if key in self._due:
                self._push(key)
            self._changed.set()
        if requeue_after is not None:
            self._schedule(key, asyncio.get_running_loop().time() + requeue_after.total_seconds())

    def _delay_after(self, key: K, error: Exception) -> timedelta:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = self._backoff.delay(failures)
        is_expected = isinstance(error, KomputerError)
        log.warning(
            "reconcile failed",
            key="/".join(map(str, key)) if isinstance(key, tuple) else str(key),
            error=str(error),
            retry_in_s=round(delay.total_seconds(), 1),
            exc_info=None if is_expected else error,
        )
        return delay
