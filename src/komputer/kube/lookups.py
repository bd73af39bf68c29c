"""Requests for objects that a cache does not have, at a limited rate.

aiolimiter could limit the rate. It neither shares a request among callers nor bounds the queue, which is most of this
module.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

from komputer.domain.errors import Unavailable

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

PER_SECOND: Final = 50
"""Number of lookups of one cache that start per second; further ones wait. A guess: kube-apiserver accepts many more
from one client (the default for kubelets is 50 too), and people cause far fewer."""
BURST: Final = 50
"""Lookups that may start at the same time after an idle period."""
SAME_KEY_INTERVAL_S: Final = 0.05
"""Minimum interval in seconds between two lookups of the same object. All callers in this interval share the second
one."""
MAX_WAITING: Final = 256
"""Maximum number of lookups that wait to start; a further one is refused. At `PER_SECOND` the last of them waits for
five seconds."""


class Lookups(Generic[K, V]):
    """Calls `fetch` for keys. Callers share a lookup that has not started yet, but never one that is running: the
    server may have answered that one before the object was created. So a call finds every object that was created
    before it."""

    def __init__(self, fetch: Callable[[K], Awaitable[V]]) -> None:
        self._fetch = fetch
        self._waiting: dict[K, asyncio.Task[V]] = {}
        """Lookups that have not started."""
        self._started_at: dict[K, float] = {}
        """Start times of the last `SAME_KEY_INTERVAL_S`, in order, by the loop's clock."""
        self._next_slot = 0.0

    async def get(self, key: K) -> V:
        """Return what `fetch` returns. Raises what it raises, and `Unavailable` (`too_many_lookups`) if too many
        lookups are waiting."""
        task = self._waiting.get(key)
        if task is None:
            if len(self._waiting) >= MAX_WAITING:
                raise Unavailable(
                    "too many objects that do not exist are requested; try again in a moment",
                    code="too_many_lookups",
                    retry_after_s=1,
                )
            task = self._waiting[key] = asyncio.create_task(self._look_up(key), name=f"lookup of {key}")
            # All callers may have been cancelled when it fails: retrieve the exception, so that asyncio does not warn.
            task.add_done_callback(lambda done: None if done.cancelled() else done.exception())
        return await asyncio.shield(task)

    async def _look_up(self, key: K) -> V:
        now = asyncio.get_running_loop().time
        try:
            # Slots are 1 / PER_SECOND apart. After an idle period they begin BURST slots in the past, so that as many
            # lookups start at once.
            self._next_slot = max(self._next_slot, now() - BURST / PER_SECOND) + 1 / PER_SECOND
            begin = max(self._next_slot, self._started_at.get(key, 0.0) + SAME_KEY_INTERVAL_S)
            if (pause := begin - now()) > 0:
                await asyncio.sleep(pause)
        finally:
            del self._waiting[key]
        while self._started_at and next(iter(self._started_at.values())) < now() - SAME_KEY_INTERVAL_S:
            del self._started_at[next(iter(self._started_at))]
        self._started_at.pop(key, None)
        self._started_at[key] = now()
        return await self._fetch(key)
