"""Cursors over several logs, and the order in which their events are told. Pure.

Ids grow within one agent's log only: a batch of one agent runs ahead of the clock while another's event, written
later, gets a lower id. So a highest id alone would lose events. A `Cursor` says exactly which events were told: all up
to `base`, and of the agents in `ahead` all up to there.

What lets `base` rise: `append.lua` rings in the same step in which it writes, and gives no id below the millisecond of
the last ring. So once every log that rang up to a ring was read, nothing with a lower id can come any more (`settled`).
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Final, NamedTuple

from komputer.domain import names
from komputer.domain.errors import Invalid
from komputer.domain.event_ids import id_of, micros_of
from komputer.domain.ref import ObjectRef
from komputer.events.entries import EventRow

AHEAD_LIMIT: Final = 10_000
"""Agents in a mark that a client sends."""
ENDLESS: Final = 2**63


class Cursor(NamedTuple):
    """Which events were told: those with at most `base` microseconds, and those of an agent up to its `ahead`."""

    base: int
    ahead: Mapping[ObjectRef, int] = {}

    def reached(self, ref: ObjectRef) -> int:
        return max(self.base, self.ahead.get(ref, 0))

    def covers(self, ref: ObjectRef, micros: int) -> bool:
        return micros <= self.reached(ref)

    def includes(self, other: "Cursor") -> bool:
        """Whether all that `other` covers is covered."""
        return other.base <= self.base and all(self.covers(ref, micros) for ref, micros in other.ahead.items())

    def joined(self, other: "Cursor") -> "Cursor":
        """Covers what either covers."""
        refs = {**self.ahead, **other.ahead}
        return _trimmed(max(self.base, other.base), {ref: max(self.reached(ref), other.reached(ref)) for ref in refs})

    def within(self, base: int, last: Mapping[ObjectRef, int]) -> "Cursor":
        """Of a mark from outside what can be true: at most `base`, and of each agent at most its `last`."""
        ahead = {ref: min(micros, last[ref]) for ref, micros in self.ahead.items() if ref in last}
        return _trimmed(min(self.base, base), ahead)

    def only(self, namespaces: Set[str]) -> "Cursor":
        """Without the agents of other namespaces: what was told of them above `base` is not covered any more."""
        ahead = {ref: micros for ref, micros in self.ahead.items() if ref.namespace in namespaces}
        return self if len(ahead) == len(self.ahead) else Cursor(self.base, ahead)

    def to_text(self) -> str:
        """As clients get it: one word that a URL, a header and an SSE line can hold."""
        ahead = "".join(f"~{ns}/{name}:{id_of(micros)}" for (ns, name), micros in sorted(self.ahead.items()))
        return id_of(self.base) + ahead


def parse_cursor(text: str) -> Cursor:
    """Raises `Invalid` (`invalid_cursor`)."""
    base, *ahead = text.split("~")
    if len(ahead) > AHEAD_LIMIT:
        raise Invalid("the cursor names too many agents", code="invalid_cursor")
    found: dict[ObjectRef, int] = {}
    for part in ahead:
        where, _, event_id = part.partition(":")
        namespace, _, name = where.partition("/")
        if not (names.is_agent_name(namespace) and names.is_agent_name(name)):
            raise Invalid(f"{text[:64]!r} is not a cursor of this stream", code="invalid_cursor")
        found[ObjectRef(namespace, name)] = micros_of(event_id)
    return _trimmed(micros_of(base), found)


def settled(ring: str | None) -> int:
    """Up to where all is there once the logs that rang up to this ring were read."""
    return int(ring.partition("-")[0]) * 1000 - 1 if ring else 0


class Merged(NamedTuple):
    told: list[tuple[ObjectRef, EventRow, Cursor]]
    """In order; with each what is told after it."""
    cursor: Cursor
    left: dict[ObjectRef, list[EventRow]]
    """Read, but not to be told yet: before the unfinished logs were read on, or beyond what may be told at once."""


def merge(
    cursor: Cursor, pages: Mapping[ObjectRef, list[EventRow]], unfinished: Set[ObjectRef], safe: int, most: int
) -> Merged:
    """The events of `pages`, by id, at most so many. Of the `unfinished` logs more is to be read, `safe` is `settled`.

    It looks at what it tells and at one more event of each log, so many pages that wait cost little."""
    limit = min((micros_of(pages[ref][-1].id) for ref in unfinished), default=ENDLESS)
    told: list[tuple[ObjectRef, EventRow, Cursor]] = []
    taken: Counter[ObjectRef] = Counter()
    for micros, ref, row in heapq.merge(*(_timed(ref, rows) for ref, rows in pages.items())):
        if micros > limit or len(told) == most:
            limit = min(limit, micros - 1)
            break
        cursor = _trimmed(max(cursor.base, min(micros - 1, safe)), {**cursor.ahead, ref: micros})
        told.append((ref, row, cursor))
        taken[ref] += 1
    left = {ref: rows[taken[ref] :] for ref, rows in pages.items() if taken[ref] < len(rows)}
    return Merged(told, _trimmed(max(cursor.base, min(safe, limit)), cursor.ahead), left)


def _timed(ref: ObjectRef, rows: Iterable[EventRow]) -> Iterator[tuple[int, ObjectRef, EventRow]]:
    return ((micros_of(row.id), ref, row) for row in rows)


def _trimmed(base: int, ahead: Mapping[ObjectRef, int]) -> Cursor:
    return Cursor(base, {ref: micros for ref, micros in ahead.items() if micros > base})
