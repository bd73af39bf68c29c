"""The ring buffer that the readers of one log share."""

from komputer.domain.ref import ObjectRef
from komputer.events.follow import ring_buffer
from komputer.events.follow.cursors import Cursor
from komputer.events.follow.ring_buffer import RING_LIMIT, RING_REST, RingBuffer
from komputer.events.follow.sources import Delivery


def told(micros: int, size: int = 1) -> Delivery:
    return Delivery(ObjectRef("team", "ada"), micros, "text", "x" * size, Cursor(micros), str(micros))


def micros(found: list[Delivery] | None) -> list[int] | None:
    return None if found is None else [each.micros for each in found]


def test_a_reader_takes_from_its_number_on() -> None:
    ring = RingBuffer(Cursor(0))
    ring.add([told(n) for n in range(1, 6)])
    assert micros(ring.after(0, 2)) == [1, 2]
    assert micros(ring.after(3, 10)) == [4, 5]
    assert micros(ring.after(5, 10)) == []


def test_events_are_dropped_before_a_slow_reader_takes_them_and_it_learns_that() -> None:
    ring = RingBuffer(Cursor(0))
    ring.add([told(n) for n in range(1, RING_LIMIT + 11)])
    assert (ring.first, ring.next, ring.start) == (10, RING_LIMIT + 10, Cursor(10))
    assert ring.after(9, 1) is None
    assert micros(ring.after(10, 1)) == [11]


def test_large_events_count_with_their_size() -> None:
    ring = RingBuffer(Cursor(0))
    ring.add([told(n, ring_buffer.RING_LIMIT_BYTES // 3) for n in range(1, 5)])
    assert ring.next - ring.first == 2


def test_events_that_every_reader_took_are_dropped_except_for_a_rest() -> None:
    ring = RingBuffer(Cursor(0))
    ring.add([told(n) for n in range(1, 1001)])
    ring.drop_before(1000)
    assert (ring.first, ring.start) == (1000 - RING_REST, Cursor(1000 - RING_REST))
