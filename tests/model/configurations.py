"""How much happens: what is exhausted within seconds, within minutes, and what shows each rule's worth."""

from typing import Any, Final

Configuration = dict[str, Any]


def _of(posts: int, edits: int, cancels: int, faults: int, **more: Any) -> Configuration:
    return {"posts": posts, "edits": edits, "cancels": cancels, "faults": faults, **more}


SMALL: Final[list[Configuration]] = [
    _of(1, 1, 0, 0, created="api"),
    _of(0, 1, 0, 1),
    _of(2, 0, 0, 1),
    _of(1, 1, 1, 0),
    _of(1, 1, 0, 0, lag=True),
    _of(0, 0, 0, 1, recreations=1),
    _of(0, 0, 0, 2),
    _of(0, 0, 1, 1, messages=2),
    _of(1, 0, 0, 1, hangs=True),
    _of(0, 0, 0, 2, hangs=True),
]
"""Exhausted in a few seconds together."""

LARGE: Final[list[Configuration]] = [
    *SMALL,
    _of(3, 0, 0, 1),
    _of(1, 2, 0, 0, lag=True),
    _of(1, 0, 0, 2),
    _of(0, 1, 0, 2),
    _of(1, 2, 0, 1),
    _of(2, 0, 1, 1),
    _of(2, 1, 1, 0, lag=True),
    _of(1, 1, 1, 1, created="api"),
    _of(1, 1, 1, 1),
    _of(1, 0, 1, 2),
    _of(1, 0, 0, 1, recreations=1),
    _of(0, 0, 1, 2, recreations=1),
    _of(0, 0, 0, 2, recreations=2),
    _of(1, 0, 0, 2),
    _of(1, 0, 1, 1, messages=2),
    _of(0, 0, 0, 2, messages=2),
    _of(1, 0, 0, 2, hangs=True),
    _of(0, 1, 0, 2, hangs=True),
    _of(0, 0, 0, 3, hangs=True),
]

EVERYTHING: Final = _of(3, 2, 1, 3, lag=True, recreations=1, messages=2, hangs=True)
"""For random walks: too much to be exhausted."""

SHOWS: Final[dict[str, Configuration]] = {
    "sticky": _of(1, 1, 0, 0, created="api"),
    "create": _of(1, 1, 0, 0, created="api"),
    "test_mt": _of(1, 2, 0, 0, lag=True),
    "open": _of(1, 1, 1, 0),
    "guard": _of(1, 2, 0, 0, lag=True),
    "memory": _of(1, 1, 0, 0, created="api"),
    "wait_start": _of(0, 1, 0, 1),
    "exact": _of(1, 0, 0, 2),
    "owe": _of(1, 0, 0, 2),
    "adopt": _of(0, 1, 0, 1),
    "fence": _of(0, 1, 0, 2),
    "heard": _of(0, 0, 0, 0, messages=1),
    "wanted": _of(0, 0, 0, 0),
    "silence": _of(0, 0, 0, 1, hangs=True),
    "alive": _of(0, 0, 0, 1, hangs=True),
    "uid": _of(0, 0, 0, 0, recreations=1),
}
"""Where a rule that is switched off is missed soonest."""
