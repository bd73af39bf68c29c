from hypothesis import given
from hypothesis import strategies as st

from komputer.domain.errors import Invalid
from komputer.domain.event_ids import id_of, micros_of, parse_position, timestamp_of

MOMENTS = st.integers(min_value=0, max_value=4_102_444_800_000_000)  # until 2100


@given(MOMENTS)
def test_an_id_and_its_timestamp_name_one_place(micros: int) -> None:
    event_id = id_of(micros)
    assert micros_of(event_id) == micros
    assert parse_position(event_id) == (micros, micros, True)
    assert parse_position(timestamp_of(event_id)) == (micros, micros, False)


@given(MOMENTS, MOMENTS)
def test_timestamps_sort_as_text_like_their_ids(one: int, other: int) -> None:
    stamps = timestamp_of(id_of(one)), timestamp_of(id_of(other))
    assert (one < other) == (stamps[0] < stamps[1])
    assert {len(stamp) for stamp in stamps} == {27}


@given(st.text(max_size=40))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    try:
        low, high, _ = parse_position(text)
    except Invalid:
        return
    assert 0 <= low <= high


def test_a_plus_that_was_not_escaped_in_a_query_is_one() -> None:
    for text in ("2026-11-28T10:00:00+01:30", "2026-11-28T10:00:00.25+00:00"):
        assert parse_position(text.replace("+", " ")) == parse_position(text)
