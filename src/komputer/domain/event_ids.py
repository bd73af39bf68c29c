"""Ids of log entries, their timestamps, and positions in a log.

An id is `<milliseconds since 1970>-<microseconds within the millisecond>`, so the id and the timestamp of an event
express the same moment.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from komputer.domain.errors import Invalid

_ID = re.compile(r"([0-9]{1,14})-([0-9]{1,3})", re.ASCII)
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}):([0-9]{2})(?:\.([0-9]+))?([Zz]|[+ -][0-9]{2}:[0-9]{2})",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)


def micros_of(event_id: str) -> int:
    """Return the microseconds since 1970 of an event id. Raises `Invalid` (`invalid_cursor`) for any other text."""
    found = _ID.fullmatch(event_id)
    if not found:
        raise Invalid(f"{event_id[:64]!r} is not an event id", code="invalid_cursor")
    return int(found[1]) * 1000 + int(found[2])


def micros_near(entry_id: str) -> int:
    """Return the microseconds since 1970 of any id of a Redis stream. A sequence number over 999, which the log never
    assigns, is read as 999."""
    ms, _, rest = entry_id.partition("-")
    return min(int(ms), 10**14 - 1) * 1000 + min(int(rest), 999)


def id_of(micros: int) -> str:
    """Return the event id of a moment in microseconds since 1970."""
    return f"{micros // 1000}-{micros % 1000}"


@lru_cache(maxsize=1024)
def _second(seconds: str) -> str:
    return datetime.fromtimestamp(int(seconds or 0), UTC).strftime("%Y-%m-%dT%H:%M:%S")


def timestamp_of(event_id: str) -> str:
    """Return the timestamp of an event id: `YYYY-MM-DDTHH:MM:SS.ffffffZ`."""
    ms, _, us = event_id.partition("-")
    return f"{_second(ms[:-3])}.{ms[-3:]:0>3}{us:0>3}Z"


class Position(NamedTuple):
    """A position in a log, in microseconds since 1970. `low` and `high` are equal, unless the position is a time
    between two microseconds. `is_id`: the position was given as an event id, not as a time."""

    low: int
    high: int
    is_id: bool


def parse_position(text: str) -> Position:
    """Return the position of an event id or of an RFC 3339 time of any precision and offset. A space before the offset
    is read as `+`, because an unescaped `+` in a query string decodes to a space. Raises `Invalid`
    (`invalid_cursor`)."""
    if _ID.fullmatch(text):
        micros = micros_of(text)
        return Position(micros, micros, True)
    found = _TIME.fullmatch(text)
    if not found:
        raise _invalid(text)
    day, clock, seconds, fraction, offset = found.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}:00")
        east = _offset(offset)
    except ValueError as wrong:
        raise _invalid(text) from wrong
    if int(seconds) > 60:  # 60 is a leap second
        raise _invalid(text)
    digits = (fraction or "").ljust(6, "0")
    micros = (moment - _EPOCH) // _MICROSECOND + int(seconds) * 1_000_000 + int(digits[:6]) - east * 60_000_000
    is_between = any(digit != "0" for digit in digits[6:])
    return Position(max(0, micros), max(0, micros + is_between), False)


def _offset(text: str) -> int:
    """Return the offset in minutes east of UTC. Raises `ValueError`."""
    if text in "Zz":
        return 0
    hours, minutes = int(text[1:3]), int(text[4:6])
    if hours > 23 or minutes > 59:
        raise ValueError(text)
    return (hours * 60 + minutes) * (-1 if text[0] == "-" else 1)


def _invalid(text: str) -> Invalid:
    return Invalid(
        f"cursor {text[:64]!r} is neither an event id nor an RFC 3339 time such as 2026-01-31T12:00:00Z",
        code="invalid_cursor",
    )
