"""Cursors over several logs, and the order in which the events of several logs are delivered. Pure.

Ids increase within one agent's log only: a batch of one agent can run ahead of the clock while an event of another
agent, written later, gets a lower id. A highest id alone would lose events. So a `Cursor` says exactly which events
were delivered: all up to `base`, and for each agent in `ahead` all up to a position of its own.

`base` may increase because `append.lua` notifies in the same step in which it writes, and gives no event an id below
the millisecond of the last notification. Once every log with a notification up to some point has been read, no event
with a lower id can appear any more (`settled`).
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
"""Maximum number of agents in a cursor that a client sends."""
NO_LIMIT: Final = 2**63


class Cursor(NamedTuple):
    """The set of delivered events: all up to the position `base`, and those of each agent in `ahead` up to its position
    there. Positions are microseconds since 1970."""

    base: int
    ahead: Mapping[ObjectRef, int] = {}

    def reached(self, ref: ObjectRef) -> int:
        """Return the position up to which the events of this agent were delivered."""
        return max(self.base, self.ahead.get(ref, 0))

    def covers(self, ref: ObjectRef, micros: int) -> bool:
        return micros <= self.reached(ref)

    def includes(self, other: "Cursor") -> bool:
        """Return whether this cursor covers everything that `other` covers."""
        return other.base <= self.base and all(self.covers(ref, micros) for ref, micros in other.ahead.items())

    def joined(self, other: "Cursor") -> "Cursor":
        """Return the cursor that covers every event which one of the two covers."""
        refs = {**self.ahead, **other.ahead}
        return _trimmed(max(self.base, other.base), {ref: max(self.reached(ref), other.reached(ref)) for ref in refs})

    def within(self, base: int, last: Mapping[ObjectRef, int]) -> "Cursor":
        """Return a client's cursor without positions that cannot exist: at most `base`, and for each agent at most its
        position in `last`."""
        ahead = {ref: min(micros, last[ref]) for ref, micros in self.ahead.items() if ref in last}
        return _trimmed(min(self.base, base), ahead)

    def only(self, namespaces: Set[str]) -> "Cursor":
        """Return the cursor without agents of other namespaces. Their events above `base` are no longer covered."""
        ahead = {ref: micros for ref, micros in self.ahead.items() if ref.namespace in namespaces}
        return self if len(ahead) == len(self.ahead) else Cursor(self.base, ahead)

    def to_text(self) -> str:
        """Return the cursor as clients get it: one word that fits into a URL, a header and a line of SSE."""
        ahead = "".join(f"~{ns}/{name}:{id_of(micros)}" for (ns, name), micros in sorted(self.ahead.items()))
        return id_of(self.base) + ahead


def parse_cursor(text: str) -> Cursor:
    """Return the cursor that `Cursor.to_text` wrote. Raises `Invalid` (`invalid_cursor`)."""
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


def settled(notification: str | None) -> int:
    """Return the position up to which no event can appear any more, once every log with a notification up to this one
    has been read; 0 without a notification."""
    return int(notification.partition("-")[0]) * 1000 - 1 if notification else 0


class Merged(NamedTuple):
    """The result of `merge`."""

    rows: list[tuple[ObjectRef, EventRow, Cursor]]
    """The events to deliver, in order, each with the cursor after it."""
    cursor: Cursor
    remaining: dict[ObjectRef, list[EventRow]]
    """Events to deliver later: once more of the unfinished logs has been read, or because they exceed `most`."""


def merge(
    cursor: Cursor, pages: Mapping[ObjectRef, list[EventRow]], unfinished: Set[ObjectRef], safe: int, most: int
) -> Merged:
    """Merge the events of `pages` by id, at most `most` of them. The `unfinished` logs have more events to read; `safe`
    is `settled`.

    Only the events that are delivered and one more of each log are inspected, so pages that wait cost little."""
    # Beyond the last event that was read of an unfinished log, the unread events of this log may come first.
    limit = min((micros_of(pages[ref][-1].id) for ref in unfinished), default=NO_LIMIT)
    merged: list[tuple[ObjectRef, EventRow, Cursor]] = []
    taken: Counter[ObjectRef] = Counter()
    for micros, ref, row in heapq.merge(*(_timed(ref, rows) for ref, rows in pages.items())):
        if micros > limit or len(merged) == most:
            limit = min(limit, micros - 1)
            break
        cursor = _trimmed(max(cursor.base, min(micros - 1, safe)), {**cursor.ahead, ref: micros})
        merged.append((ref, row, cursor))
        taken[ref] += 1
    remaining = {ref: rows[taken[ref] :] for ref, rows in pages.items() if taken[ref] < len(rows)}
    return Merged(merged, _trimmed(max(cursor.base, min(safe, limit)), cursor.ahead), remaining)


def _timed(ref: ObjectRef, rows: Iterable[EventRow]) -> Iterator[tuple[int, ObjectRef, EventRow]]:
    return ((micros_of(row.id), ref, row) for row in rows)


def _trimmed(base: int, ahead: Mapping[ObjectRef, int]) -> Cursor:
    """Return the cursor without the agents that `base` covers already."""
    return Cursor(base, {ref: micros for ref, micros in ahead.items() if micros > base})
