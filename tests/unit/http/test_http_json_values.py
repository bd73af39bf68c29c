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


def separators(value: Any) -> int:
    """Return the number of commas and opening brackets outside of strings."""
    match value:
        case dict():
            return 1 + max(0, len(value) - 1) + sum(map(separators, value.values()))
        case list():
            return 1 + max(0, len(value) - 1) + sum(map(separators, value))
    return 0


@given(value=ANYTHING, ascii_only=st.booleans())
def test_only_separators_outside_of_strings_count(value: Any, ascii_only: bool) -> None:
    raw = json.dumps(value, ensure_ascii=ascii_only).encode()
    count = separators(value)
    assert not has_more_values(raw, count)
    assert not count or has_more_values(raw, count - 1)


@given(raw=st.binary(max_size=200), limit=st.integers(0, 50))
def test_text_that_is_not_json_is_counted_without_an_error(raw: bytes, limit: int) -> None:
    has_more_values(raw, limit)


@pytest.mark.parametrize("raw", [b"[" + b"{}," * 100_000 + b"{}]", b'["' + b'","' * 500_000 + b'"]'])
def test_a_body_crafted_to_be_expensive_has_too_many_values(raw: bytes) -> None:
    assert has_more_values(raw, 10_000)


def test_commas_in_a_string_do_not_count() -> None:
    assert not has_more_values(json.dumps({"content": 'a,"[{\\' * 100_000}).encode(), 10)
