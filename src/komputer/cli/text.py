"""Formats text for people: without control sequences, wrapped to the terminal's width, with readable amounts and
times."""

import re
import unicodedata
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from rich.cells import cell_len

LINE_LIMIT: Final = 400
"""The number of characters after which a line is cut."""
_SEQUENCE: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b\n]{0,4096}(?:\x07|\x1b\\)")
"""Escape sequences for colours, cursor movements, titles and links. They contain no text, so they are removed."""
_WORD: Final = re.compile(r"\s*\S+\s*")
_KEPT: Final = frozenset("\n\t\u200c\u200d")
"""Control and format characters that are kept. The joiners are part of emoji and of Persian and Indic words."""
_LINE_SEPARATORS: Final = frozenset("\r\x85\u2028\u2029")


def clean(text: str) -> str:
    """Return `text` without control characters, escape sequences and marks that change the direction of text."""
    if text.isprintable():
        return text
    return "".join(map(_harmless, _SEQUENCE.sub("", text).replace("\r\n", "\n")))


def _harmless(char: str) -> str:
    if char in _KEPT or char.isprintable():
        return char
    if char in _LINE_SEPARATORS:
        return "\n"
    return " " if unicodedata.category(char) == "Zs" else "\N{REPLACEMENT CHARACTER}"


def one_line(value: Any) -> str:
    """Return the first line of a text, clean, at most `LINE_LIMIT` characters; `…` stands for the rest."""
    first, _, rest = clean(as_text(value)).strip().partition("\n")
    cut = " ".join(first.split("\t"))
    cut = cut if len(cut) <= LINE_LIMIT else cut[: LINE_LIMIT - 1] + "…"
    return f"{cut} …" if rest.strip() else cut


def excerpt(value: Any, head: int, tail: int = 0) -> str:
    """Return the first and last lines of a text, clean, with a line in between that says how many are left out.

    A text that is at most three lines longer is returned in full, and so is each line up to `LINE_LIMIT`.
    """
    lines = clean(as_text(value)).strip("\n").rstrip().split("\n")
    left_out = len(lines) - head - tail
    if left_out > 3:
        lines = [*lines[:head], f"… {left_out} more lines (-v shows all)", *lines[len(lines) - tail :]]
    return "\n".join(line if len(line) <= LINE_LIMIT else line[: LINE_LIMIT - 1] + "…" for line in lines)


def as_text(value: Any) -> str:
    """Return a JSON value as text; an empty one for null."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {as_text(each)}" for key, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(as_text, value))
    return str(value)


def at_spaces(line: str, width: int) -> list[str]:
    """Return a line as lines of at most `width` cells, broken at spaces only; a longer word has a line of its own."""
    if cell_len(line) <= width:
        return [line]
    lines, current, cells = list[str](), "", 0
    for word in _WORD.findall(line):
        wide = cell_len(word)
        if current.strip() and cells + cell_len(word.rstrip()) > width:
            lines.append(current.rstrip())
            current, cells = "", 0
        current, cells = current + word, cells + wide
    return [*lines, current.rstrip()]


def amount(value: Any) -> Decimal | None:
    """Return a number of the API, which may be a decimal string; None if the value is not a finite number."""
    if isinstance(value, bool):
        return None
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        return None
    return found if found.is_finite() else None


def money(value: Any) -> str:
    """Return US dollars as `$12.34`, `$0.0007` or `<$0.0001`; `""` if the value is not an amount."""
    found = amount(value)
    if found is None:
        return ""
    if 0 < found < Decimal("0.0001"):
        return "<$0.0001"
    return f"${found:,.2f}" if found >= 1 else f"${found:.4f}"


def duration(milliseconds: Any) -> str:
    """Return a duration as `35 ms`, `1.2 s`, `2 min 5 s` or `3 h 20 min`; `""` if the value is not a duration."""
    found = amount(milliseconds)
    if found is None or found < 0:
        return ""
    if found < 1000:
        return f"{found:.0f} ms"
    seconds = found / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def moment(value: Any) -> datetime | None:
    """Return a time of the API in this machine's time zone; None if the value is not a time."""
    try:
        return datetime.fromisoformat(value).astimezone()
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def clock(value: Any, now: datetime) -> str:
    """Return the time of day, with the date if that is not the date of `now`."""
    at = moment(value)
    if at is None:
        return "--:--:--"
    return f"{at:%H:%M:%S}" if at.date() == now.astimezone().date() else f"{at:%Y-%m-%d %H:%M:%S}"


def date_and_age(value: Any, now: datetime | None = None) -> str:
    """Return a time of the API as `2026-11-28 13:40:43 (2 min ago)`."""
    at = moment(value)
    if at is None:
        return one_line(value)
    seconds = int(((now or datetime.now(UTC)) - at).total_seconds())
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= length:
            return f"{at:%Y-%m-%d %H:%M:%S} ({seconds // length} {unit} ago)"
    return f"{at:%Y-%m-%d %H:%M:%S}"
