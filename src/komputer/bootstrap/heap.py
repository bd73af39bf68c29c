"""Garbage collection of a server process: pauses must not grow with the number of imported libraries."""

import gc
from collections.abc import Callable
from typing import Final

THRESHOLDS: Final = (10_000, 20, 50)
"""Allocations before a collection of the youngest generation, collections of the youngest before one of the middle,
of the middle before a full one. With CPython's defaults (700, 10, 10) a server collects after about ten requests, and
most of the objects that a collection visits are still in use."""


def freeze() -> None:
    """Exclude all objects that exist now (modules, routes, models) from future collections.

    Call it when a process has loaded its code, and before it forks: a collection writes into the objects that it
    visits, so frozen objects keep sharing their memory pages with the child processes.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


def freeze_before(ready: Callable[[], None]) -> Callable[[], None]:
    """Return a function that freezes the heap and then calls `ready`."""

    def frozen() -> None:
        freeze()
        ready()

    return frozen
