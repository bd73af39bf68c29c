"""Waiting for what no event tells of: a file, another process, the garbage collector."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable

WITHIN_S = 40.0
"""Nothing here takes long; two cores shared with others may."""


async def eventually(holds: Callable[[], Awaitable[object] | object], within_s: float = WITHIN_S) -> None:
    """Returns as soon as `holds()` is truthy. Raises `TimeoutError`."""
    async with asyncio.timeout(within_s):
        while True:
            found = holds()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(0.02)
