"""Asking the server for an object that a cache does not hold, at a bounded rate."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

from komputer.domain.errors import Unavailable

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

PER_SECOND: Final = 50
"""Lookups of one cache that begin in a second; more wait. A guess: small beside what kube-apiserver takes of one client
(its default for kubelets is 50 too), and far more than people's own misses."""
BURST: Final = 50
"""Lookups that may begin at once after a quiet time."""
SAME_AGAIN_S: Final = 0.05
"""Pause between two lookups of the same object: whoever asks within it gets the second one's answer."""
WAITING: Final = 256
"""Objects whose lookups wait to begin; one more is refused. At `PER_SECOND` the last of them waits five seconds."""


class Lookups(Generic[K, V]):
    """Runs `ask` for keys. Callers share a lookup that has not begun yet, and never one that has: an answer is never
    older than the question, so what was made before a caller asked is found."""

    def __init__(self, ask: Callable[[K], Awaitable[V]]) -> None:
        self._ask = ask
        self._waiting: dict[K, asyncio.Task[V]] = {}
        """Lookups that have not begun."""
        self._began: dict[K, float] = {}
        """Loop times of the last `SAME_AGAIN_S`, in order."""
        self._next_slot = 0.0

    async def get(self, key: K) -> V:
        """What `ask` answers or raises. Raises `Unavailable` (`too_many_lookups`) where too many wait already."""
        task = self._waiting.get(key)
        if task is None:
            if len(self._waiting) >= WAITING:
                raise Unavailable(
                    "too many objects that are not there are being asked for; try again in a moment",
                    code="too_many_lookups",
                    retry_after_s=1,
                )
            task = self._waiting[key] = asyncio.create_task(self._look(key), name=f"lookup of {key}")
            # All callers may be gone when it fails: then nobody else takes its exception.
            task.add_done_callback(lambda done: None if done.cancelled() else done.exception())
        return await asyncio.shield(task)

    async def _look(self, key: K) -> V:
        now = asyncio.get_running_loop().time
        try:
            self._next_slot = max(self._next_slot, now() - BURST / PER_SECOND) + 1 / PER_SECOND
            begin = max(self._next_slot, self._began.get(key, 0.0) + SAME_AGAIN_S)
            if (pause := begin - now()) > 0:
                await asyncio.sleep(pause)
        finally:
            del self._waiting[key]
        while self._began and next(iter(self._began.values())) < now() - SAME_AGAIN_S:
            del self._began[next(iter(self._began))]
        self._began.pop(key, None)
        self._began[key] = now()
        return await self._ask(key)
