"""Texts, amounts and times as people read them."""

import unicodedata
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from komputer.cli import text
from tests.unit.cli.jsons import JSONS

HARMFUL = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(st.text(st.characters()) | st.text(st.sampled_from("\x1b[]0;m\x07\\\r\n\x9b\u202e\u2066\ufeffa")))
def test_a_clean_text_has_nothing_that_a_terminal_obeys(given_text: str) -> None:
    shown = text.clean(given_text)
    kept = set("\n\t\u200c\u200d")
    assert not [char for char in shown if unicodedata.category(char) in HARMFUL and char not in kept]
    assert text.clean(shown) == shown


def test_colours_and_titles_go_without_a_trace_and_words_stay() -> None:
    assert text.clean("\x1b[1;31mred\x1b[0m \x1b]0;title\x07\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\") == "red link"
    assert text.clean("50%\r100%\r\ndone") == "50%\n100%\ndone"
    assert text.clean("a\u2028event: end") == "a\nevent: end"
    assert text.clean("\u00a0x\u202eevil") == " x\N{REPLACEMENT CHARACTER}evil"


@given(JSONS)
def test_any_json_becomes_text(value: Any) -> None:
    assert "\n" not in text.one_line(value)
    assert isinstance(text.excerpt(value, 3, 2), str)
    assert isinstance(text.money(value) + text.duration(value), str)
    assert isinstance(text.date_and_age(value) + text.clock(value, datetime.now(UTC)), str)


def test_a_short_text_is_whole_and_of_a_long_one_both_ends_are_shown() -> None:
    assert text.excerpt("1\n2\n3\n4\n5\n6\n", 2, 1).split("\n") == list("123456")
    assert text.excerpt("\n".join(map(str, range(100))), 2, 1) == "0\n1\n… 97 more lines (-v shows all)\n99"
    assert text.excerpt("x" * 500, 2) == "x" * 399 + "…"


@pytest.mark.parametrize("width", [20, 60, 80])
@given(st.text(st.sampled_from("ab \u3042\U0001f600")))
def test_lines_break_at_spaces_only(width: int, line: str) -> None:
    lines = text.at_spaces(line, width)
    assert " ".join(lines).split() == line.split(), "no word is broken or lost"
    assert all(cell_len(each) <= width or len(each.split()) == 1 for each in lines)


def test_amounts_and_times_have_units() -> None:
    assert [text.money(each) for each in ("0.000924", "12.3", 0.00001, "0", None, "x", "NaN", 1e308)][:7] == [
        "$0.0009",
        "$12.30",
        "<$0.0001",
        "$0.0000",
        "",
        "",
        "",
    ]
    assert [text.duration(each) for each in (35, 1234, 125_000, 12_000_000, -1, "soon")] == [
        "35 ms",
        "1.2 s",
        "2 min 5 s",
        "3 h 20 min",
        "",
        "",
    ]
    now = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
    assert text.date_and_age("2026-11-28T11:58:00Z", now).endswith(" (2 min ago)")
    assert text.date_and_age("2026-11-29T11:58:00Z", now)[-8:].count(":") == 2, "a clock that is ahead is no age"
