"""Answers of the Kubernetes API that count for a while, so that it is not asked at each request."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

from komputer.domain.errors import Unavailable

K = TypeVar("K")
V = TypeVar("V")


WITHOUT_ANSWER_S: Final = 300.0
"""How much longer an answer counts while the API is `Unavailable`: an outage of its must not be one of ours."""


class TTLCache(Generic[K, V]):
    """At most `limit` answers of each `kind`, the oldest of its kind forgotten first. `lasts_s` says for how many
    seconds an answer counts; while there is no new one, `WITHOUT_ANSWER_S` more. Of many who ask for the same at once
    one asks; a failure is told to all of them and not remembered."""

    def __init__(
        self, lasts_s: Callable[[V], float], limit: int, kind: Callable[[V], Hashable] = lambda _: None
    ) -> None:
        self._lasts_s = lasts_s
        self._limit = limit
        self._kind = kind
        self._known: dict[Hashable, dict[K, tuple[float, V]]] = {}
        self._asking: dict[K, asyncio.Task[V]] = {}

    def last(self, key: K) -> V | None:
        """The last answer, be it one that counts no longer."""
        known = self._of(key)
        return known[1] if known else None

    def _of(self, key: K) -> tuple[float, V] | None:
        return next((answers[key] for answers in self._known.values() if key in answers), None)

    async def get(self, key: K, ask: Callable[[], Awaitable[V]]) -> V:
        known = self._of(key)
        if known and known[0] > time.monotonic():
            return known[1]
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._ask(key, ask))
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        try:
            return await asyncio.shield(task)
        except Unavailable:
            if known and known[0] + WITHOUT_ANSWER_S > time.monotonic():
                return known[1]
            raise

    async def _ask(self, key: K, ask: Callable[[], Awaitable[V]]) -> V:
        answer = await ask()
        for answers in self._known.values():
            answers.pop(key, None)
        kept = self._known.setdefault(self._kind(answer), {})
        while len(kept) >= self._limit:
            del kept[next(iter(kept))]
        kept[key] = (time.monotonic() + self._lasts_s(answer), answer)
        return answer
