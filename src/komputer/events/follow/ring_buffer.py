"""A ring buffer of the newest deliveries of one feed, which all of its readers share."""

import sys
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Final

from komputer.events.follow.cursors import Cursor
from komputer.events.follow.sources import Delivery

RING_LIMIT: Final = 2048
"""Maximum number of events in one ring."""
RING_LIMIT_BYTES: Final = 4 * 1024 * 1024
"""Maximum memory of these events in bytes. Text outside of Latin-1 takes two or four bytes a character."""
RING_REST: Final = 64
"""Number of events that are kept although every reader has taken them, for a reader that is about to join."""
TAKE_LIMIT_BYTES: Final = 256 * 1024
"""Maximum memory in bytes of the events that a reader takes at once. A larger event is taken alone."""


class RingBuffer:
    """The newest events of one feed, numbered from `first` to below `next`. `start` is the cursor before the oldest of
    them."""

    def __init__(self, start: Cursor) -> None:
        self.start = start
        self.first = 0
        self.next = 0
        self._kept: deque[Delivery] = deque()
        self._bytes = 0

    def add(self, deliveries: Sequence[Delivery]) -> None:
        """Append events. The oldest are dropped beyond the limits."""
        self._kept.extend(deliveries)
        self.next += len(deliveries)
        self._bytes += sum(map(_size, deliveries))
        while self._kept and (len(self._kept) > RING_LIMIT or self._bytes > RING_LIMIT_BYTES):
            self._drop()

    def drop_before(self, number: int) -> None:
        """Drop events before this number, except for the last `RING_REST` of them."""
        while self._kept and self.first < number - RING_REST:
            self._drop()

    def _drop(self) -> None:
        oldest = self._kept.popleft()
        self.start, self.first = oldest.cursor, self.first + 1
        self._bytes -= _size(oldest)

    def after(self, number: int, count: int) -> list[Delivery] | None:
        """Return at most `count` events from this number on, within `TAKE_LIMIT_BYTES`; None if they were dropped."""
        if number < self.first:
            return None
        found: list[Delivery] = []
        room = TAKE_LIMIT_BYTES
        for each in islice(self._kept, number - self.first, number - self.first + count):
            room -= _size(each)
            if found and room < 0:
                break
            found.append(each)
        return found


def _size(deliveries: Delivery) -> int:
    return sys.getsizeof(deliveries.text) + sys.getsizeof(deliveries.cursor_text)
