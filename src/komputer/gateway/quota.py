"""How much may be under way at once, so that no agent takes the place of all others."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from komputer.domain.errors import TooManyRequests
from komputer.gateway.errors import Overloaded

Take = Callable[[int], None]
"""Takes so much more. Raises `TooManyRequests` where the agent has too much, `Overloaded` where all have; then it took
none."""


class Quota:
    """Of one process `in_all`, of one agent `of_one`, and never more than is still free then: so agents that take all
    they can leave something to the next, however many they are. `what` is counted, in the plural."""

    def __init__(self, what: str, in_all: int, of_one: int) -> None:
        self._what = what
        self._of_one = of_one
        self._taken: dict[str, int] = {}
        self._free = in_all

    @contextmanager
    def held(self, uid: str, amount: int = 0) -> Iterator[Take]:
        """`amount` for the agent `uid`, and what is taken within; all of it until the end. Raises as `Take` does."""
        mine = 0

        def take(more: int) -> None:
            nonlocal mine
            self._take(uid, more)
            mine += more

        try:
            take(amount)
            yield take
        finally:
            self._give_back(uid, mine)

    def _take(self, uid: str, more: int) -> None:
        taken, free = self._taken.get(uid, 0) + more, self._free - more
        if taken > self._of_one:
            raise TooManyRequests(f"This agent has too many {self._what} under way; try again.")
        if taken > free:
            raise Overloaded(f"The platform's gateway has too many {self._what} under way; try again.")
        self._taken[uid], self._free = taken, free

    def _give_back(self, uid: str, amount: int) -> None:
        self._free += amount
        left = self._taken.pop(uid, 0) - amount
        if left:
            self._taken[uid] = left
