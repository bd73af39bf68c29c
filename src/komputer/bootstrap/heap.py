"""Configures Python's garbage collection for a server, so that pauses do not grow with the number of imported
libraries."""

import gc
from collections.abc import Callable
from typing import Final

THRESHOLDS: Final = (10_000, 20, 50)
"""The thresholds for `gc.set_threshold`: allocations per collection of the youngest generation, those collections per
collection of the middle one, and those per full collection. With CPython's defaults (700, 10, 10) a server collects
after about ten requests, when most of the objects that a collection visits are still in use."""


def freeze() -> None:
    """Exclude all objects that exist now (modules, routes, models) from future collections.

    Call it when a process has loaded its code, and before it forks. A collection writes into the objects that it
    visits. It does not visit frozen ones, so parent and children keep sharing their memory pages.
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
