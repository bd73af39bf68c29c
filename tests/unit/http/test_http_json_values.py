"""JSON values are counted before they are parsed."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from komputer.http.json_values import has_more_values

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='a,[{"\\]}\u2028é', max_size=8),
    lambda inner: (
        st.lists(inner, max_size=6) | st.dictionaries(st.text(alphabet='a,[{"\\', max_size=4), inner, max_size=6)
    ),
    max_leaves=60,
)


def marks(value: Any) -> int:
    """Commas and opening brackets outside of strings."""
    match value:
        case dict():
            return 1 + max(0, len(value) - 1) + sum(map(marks, value.values()))
        case list():
            return 1 + max(0, len(value) - 1) + sum(map(marks, value))
    return 0


@given(value=ANYTHING, ascii_only=st.booleans())
def test_exactly_those_outside_of_strings_count(value: Any, ascii_only: bool) -> None:
    raw = json.dumps(value, ensure_ascii=ascii_only).encode()
    count = marks(value)
    assert not has_more_values(raw, count)
    assert not count or has_more_values(raw, count - 1)


@given(raw=st.binary(max_size=200), limit=st.integers(0, 50))
def test_what_is_not_json_is_counted_without_a_fault(raw: bytes, limit: int) -> None:
    has_more_values(raw, limit)


@pytest.mark.parametrize("raw", [b"[" + b"{}," * 100_000 + b"{}]", b'["' + b'","' * 500_000 + b'"]'])
def test_a_body_that_is_made_to_be_expensive_has_too_many(raw: bytes) -> None:
    assert has_more_values(raw, 10_000)


def test_commas_in_a_text_are_no_values() -> None:
    assert not has_more_values(json.dumps({"content": 'a,"[{\\' * 100_000}).encode(), 10)
