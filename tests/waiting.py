"""Waiting for what no event tells of: a file, another process, the garbage collector."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable

WITHIN_S = 40.0
"""Nothing here takes long; two cores shared with others may."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.01, 0.1
"""Between two looks. Some looks are expensive, such as one at all processes."""


async def eventually(holds: Callable[[], Awaitable[object] | object], within_s: float = WITHIN_S) -> None:
    """Returns as soon as `holds()` is truthy. Raises `TimeoutError`."""
    pause_s = FIRST_PAUSE_S
    async with asyncio.timeout(within_s):
        while True:
            found = holds()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)
