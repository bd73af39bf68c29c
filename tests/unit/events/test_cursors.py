"""A cursor over several logs loses nothing and repeats nothing, however their ids interleave."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from komputer.domain.errors import Invalid
from komputer.domain.event_ids import id_of, micros_of
from komputer.domain.ref import ObjectRef
from komputer.events.entries import EventRow
from komputer.events.follow.cursors import Cursor, merge, parse_cursor, settled

A, B, C = ObjectRef("team", "ada"), ObjectRef("team", "bob"), ObjectRef("other", "ada")


def row(micros: int) -> EventRow:
    return EventRow(id_of(micros), "text", b"{}")


def test_a_cursor_covers_everything_up_to_its_base_and_more_of_some_agents() -> None:
    cursor = Cursor(10, {A: 15})
    assert [cursor.covers(A, 15), cursor.covers(A, 16), cursor.covers(B, 10), cursor.covers(B, 11)] == [
        True,
        False,
        True,
        False,
    ]
    assert cursor.includes(Cursor(9, {B: 10}))
    assert not cursor.includes(Cursor(9, {B: 11}))
    assert cursor.joined(Cursor(12, {B: 20})) == Cursor(12, {A: 15, B: 20})


def test_a_cursor_for_some_namespaces_names_no_agent_of_others() -> None:
    cursor = Cursor(10, {A: 15, C: 20})
    assert cursor.only({"team"}) == Cursor(10, {A: 15})
    assert cursor.only({"other", "team"}) is cursor
    assert cursor.only(set()) == Cursor(10)


@pytest.mark.parametrize("cursor", [Cursor(0), Cursor(1795575071908179), Cursor(5, {A: 7, C: 1795575071908179})])
def test_a_cursor_can_be_read_from_its_text(cursor: Cursor) -> None:
    assert parse_cursor(cursor.to_text()) == cursor


@pytest.mark.parametrize("text", ["", "x", "1-1~", "1-1~a:1-1", "1-1~a/b", "1-1~a/B:1-1", "1-1~a/b:x", "~a/b:1-1"])
def test_invalid_text_is_no_cursor(text: str) -> None:
    with pytest.raises(Invalid):
        parse_cursor(text)


def test_a_client_s_cursor_is_cut_to_what_can_be_true() -> None:
    assert Cursor(99, {A: 200, B: 150, C: 120}).within(50, {A: 60, B: 300}) == Cursor(50, {A: 60, B: 150})


def test_events_of_one_microsecond_are_each_delivered_once() -> None:
    first = merge(Cursor(0), {A: [row(5)], B: [row(5)]}, set(), 10, 9).rows[0]
    assert (first[0], first[2]) == (B if first[0] == B else A, Cursor(4, {first[0]: 5}))


def test_what_lies_beyond_an_unfinished_log_waits() -> None:
    merged = merge(Cursor(0), {A: [row(5)], B: [row(7)]}, {A}, 10, 9)
    assert [ref for ref, _, _ in merged.rows] == [A]
    assert (merged.remaining, merged.cursor) == ({B: [row(7)]}, Cursor(5))


def test_a_merge_returns_at_most_its_limit_and_the_cursor_stays_below_what_waits() -> None:
    pages = {A: [row(5), row(7), row(9)], B: [row(7)]}
    first = merge(Cursor(0), pages, set(), 20, 2)
    assert [(ref, micros_of(each.id)) for ref, each, _ in first.rows] == [(A, 5), (A, 7)]
    assert (first.remaining, first.cursor) == ({A: [row(9)], B: [row(7)]}, Cursor(6, {A: 7}))
    rest = merge(first.cursor, first.remaining, set(), 20, 2)
    assert [(ref, micros_of(each.id)) for ref, each, _ in rest.rows] == [(B, 7), (A, 9)]
    assert (rest.remaining, rest.cursor) == ({}, Cursor(20))


@dataclass
class World:
    """A log server: a clock in microseconds, logs and notifications; and readers that come and go."""

    now: int = 5000
    logs: dict[ObjectRef, list[int]] = field(default_factory=lambda: {A: [], B: [], C: []})
    rings: list[tuple[str, ObjectRef]] = field(default_factory=list)

    def append(self, ref: ObjectRef, count: int) -> None:
        """As `append.lua` does."""
        floor = int(self.rings[-1][0].split("-")[0]) * 1000 if self.rings else 0
        for _ in range(count):
            last = self.logs[ref][-1] if self.logs[ref] else 0
            self.logs[ref].append(max(self.now, floor, last + 1))
        ms = max(self.now // 1000, floor // 1000)
        self.rings.append((f"{ms}-{len(self.rings)}", ref))


def one_round(
    world: World, cursor: Cursor, seen: int, page: int, told: list[tuple[ObjectRef, int, Cursor]]
) -> tuple[Cursor, int]:
    """Read like `AllAgents`: the logs with notifications since `seen`, page by page."""
    upto = len(world.rings)
    safe = settled(world.rings[-1][0] if world.rings else None)
    unfinished = {ref for _, ref in world.rings[seen:upto]}
    pages: dict[ObjectRef, list[EventRow]] = {}
    while True:
        for ref in sorted(unfinished if unfinished - pages.keys() else ()):
            held = pages.get(ref, [])
            if 2 * len(held) >= page:
                continue
            low = micros_of(held[-1].id) if held else cursor.reached(ref)
            new = [row(micros) for micros in world.logs[ref] if micros > low][:page]
            if new:
                pages[ref] = held + new
            if len(new) < page:
                unfinished.discard(ref)
        merged = merge(cursor, pages, unfinished, safe, page)
        assert len(merged.rows) <= page
        assert sum(map(len, merged.remaining.values())) <= len(world.logs) * 2 * page
        told += [(ref, micros_of(each.id), after) for ref, each, after in merged.rows]
        cursor, pages = merged.cursor, merged.remaining
        if not unfinished and not pages:
            return cursor, upto


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.sampled_from([A, B, C]), st.integers(1, 5)),
        st.tuples(st.just("clock"), st.just(A), st.integers(-3000, 3000)),
        st.tuples(st.just("read"), st.just(A), st.integers(1, 3)),
        st.tuples(st.just("cut"), st.just(A), st.integers(0, 30)),
    ),
    max_size=40,
)


@pytest.mark.parametrize("sees", [{"team", "other"}, {"team"}])
@settings(deadline=None, max_examples=500)
@given(steps=STEPS)
def test_no_event_is_lost_or_delivered_twice_whenever_a_reader_is_disconnected(
    sees: set[str], steps: list[tuple[str, ObjectRef, int]]
) -> None:
    world, cursor, seen = World(), Cursor(0), 0
    got: list[tuple[ObjectRef, int]] = []
    for kind, ref, number in [*steps, ("read", A, 2)]:
        if kind == "append":
            world.append(ref, number)
        elif kind == "clock":
            world.now = max(1, world.now + number)
        else:
            told: list[tuple[ObjectRef, int, Cursor]] = []
            before = cursor
            cursor, seen = one_round(world, cursor, seen, max(1, number), told)
            told = [each for each in told if each[0][0] in sees]
            if kind == "cut":  # the client got only so many, and comes back with the cursor of the last
                told = told[:number]
                cursor, seen = parse_cursor((told[-1][2] if told else before).only(sees).to_text()), 0
            got += [(ref, micros) for ref, micros, _ in told]
    for ref, log in world.logs.items():
        assert [micros for where, micros in got if where == ref] == (log if ref[0] in sees else [])
