"""A cache of the Kubernetes API's answers, so that not every request causes a call of the API.

cachetools bounds the number of answers. Its own TTLCache and TLRUCache drop an expired answer, which is needed here
while the API is down, and its decorators do not merge concurrent asyncio calls. This module adds both.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from cachetools import LRUCache

from komputer.domain.errors import Unavailable

K = TypeVar("K")
V = TypeVar("V")

STALE_IF_ERROR_S: Final = 300.0
"""How long an expired answer is still used while the API is `Unavailable`, in seconds, so that callers do not notice a
short outage."""


@dataclass(frozen=True, slots=True)
class _Answer(Generic[V]):
    value: V
    expires_at: float


class TTLCache(Generic[K, V]):
    """Holds at most `limit` answers of each `kind`, and drops the least recently used of the same kind: many invalid
    tokens cannot displace the valid ones. `ttl_s` returns the seconds for which an answer is fresh.

    Concurrent calls for the same key share one request. Its failure is raised in all of them, and not cached.
    """

    def __init__(self, ttl_s: Callable[[V], float], limit: int, kind: Callable[[V], Hashable] = lambda _: None) -> None:
        self._ttl_s = ttl_s
        self._kind = kind
        self._answers: defaultdict[Hashable, LRUCache[K, _Answer[V]]] = defaultdict(lambda: LRUCache(limit))
        self._requests: dict[K, asyncio.Task[V]] = {}

    def last(self, key: K) -> V | None:
        """Return the last answer, even if it has expired."""
        found = self._find(key)
        return found.value if found else None

    async def get(self, key: K, fetch: Callable[[], Awaitable[V]]) -> V:
        """Return the cached answer if it is fresh, else the result of `fetch`. If `fetch` raises `Unavailable`, return
        an answer that expired less than `STALE_IF_ERROR_S` ago, or raise the error if there is none."""
        found = self._find(key)
        if found and found.expires_at > time.monotonic():
            return found.value
        request = self._requests.get(key)
        if request is None:
            request = self._requests[key] = asyncio.create_task(self._fetch(key, fetch))
            request.add_done_callback(lambda _: self._requests.pop(key, None))
        try:
            # The request is shared: cancelling one caller must not cancel it for the others.
            return await asyncio.shield(request)
        except Unavailable:
            if found and found.expires_at + STALE_IF_ERROR_S > time.monotonic():
                return found.value
            raise

    def _find(self, key: K) -> _Answer[V] | None:
        return next((answers[key] for answers in self._answers.values() if key in answers), None)

    async def _fetch(self, key: K, fetch: Callable[[], Awaitable[V]]) -> V:
        value = await fetch()
        for answers in self._answers.values():
            answers.pop(key, None)
        self._answers[self._kind(value)][key] = _Answer(value, time.monotonic() + self._ttl_s(value))
        return value
