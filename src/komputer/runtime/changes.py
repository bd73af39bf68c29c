"""Waits for a change without polling."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Changes:
    """Wakes all tasks that wait for a condition, so that they evaluate it again. A notification carries no data."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def until(self, holds: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Wait until `holds()` is true, at most `timeout_s` (None: without limit). Return whether it is."""
        deadline = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        while not holds():
            future = asyncio.get_running_loop().create_future()
            self._waiting.add(future)
            try:
                async with asyncio.timeout_at(deadline):
                    await future
            except TimeoutError:
                return holds()
            finally:
                self._waiting.discard(future)
        return True
