"""Garbage collection of a server: its pauses must not grow with the libraries that it has imported."""

import gc
from typing import Final

THRESHOLDS: Final = (10_000, 20, 50)
"""Allocations until a young collection, young ones until a middle one, middle ones until a full one. CPython's 700, 10,
10 collect after some ten requests; most of what they look at is still in use."""


def freeze() -> None:
    """Take all that is alive now out of future collections: imported modules, routes, models. Call it when a process
    has loaded, and before it forks, so that its children also share the memory longer."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
