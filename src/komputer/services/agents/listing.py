"""Filters and orders for lists of agents. Pure.

The values that filters compare are computed once per change of an agent, not once per request: see `row`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

from komputer.services.agents.view import AgentView


class AgentRow(NamedTuple):
    """The values of an agent that filters and orders compare, and its JSON."""

    namespace: str
    name: str
    status: str
    task_status: str
    labels: frozenset[str]
    """`key=value`, including the platform's own labels."""
    facets: tuple[str, ...]
    """`key=value`, only labels that a user has set."""
    text: str
    """The text that `Query.text` is searched in, case-folded."""
    model: str
    created_at: str
    active_at: str
    cost: Decimal
    json: bytes


class Query(NamedTuple):
    """The agents to list, and their order. The default is every agent, newest first."""

    namespace: str | None = None
    status: str = ""
    task_status: str = ""
    labels: frozenset[str] = frozenset()
    """`key=value`; an agent must have all of them."""
    text: str = ""
    """Case-folded; part of the name, the instructions or the last message."""
    sort: str = ""
    """A key of `SORTS`; empty: the newest first."""
    is_descending: bool = False
    limit: int | None = None
    offset: int = 0

    @property
    def is_unfiltered(self) -> bool:
        """Whether the query selects all agents of its scope, in the default order and on one page."""
        return self == Query(self.namespace)


class Facets(NamedTuple):
    """The values that a client may filter by."""

    labels: list[str]
    namespaces: list[str]


SORTS: Final[Mapping[str, Callable[[AgentRow], Any]]] = {
    "name": lambda row: row.name,
    "created": lambda row: row.created_at,
    "lastActive": lambda row: row.active_at,
    "status": lambda row: row.status,
    "model": lambda row: row.model,
    "cost": lambda row: row.cost,
}
"""Sort keys, by the names that published clients use."""


def row(view: AgentView, every_label: Mapping[str, str], json: bytes) -> AgentRow:
    """Return the row of an agent. `every_label` are the labels of the resource; `json` is the view, encoded."""
    own = view.labels or {}
    return AgentRow(
        namespace=view.namespace,
        name=view.name,
        status=view.status.lower(),
        task_status=(view.task_status or "").lower(),
        labels=frozenset(f"{key}={value}" for key, value in {**own, **every_label}.items()),
        facets=tuple(f"{key}={value}" for key, value in own.items()),
        text="\n".join((view.name, view.instructions or "", view.last_task_message or "")).casefold(),
        model=view.model,
        created_at=view.created_at,
        active_at=view.last_activity_at or "",
        cost=Decimal(view.total_cost_usd or 0),
        json=json,
    )


def matching(rows: Sequence[AgentRow], query: Query) -> list[AgentRow]:
    """Return the rows that `query` selects, in its order. `rows` must be ordered by `newest_first`.

    Equal rows are ordered by namespace and name, in both directions. Agents without the value that is sorted by come
    last.
    """
    found = [
        row
        for row in rows
        if (not query.status or row.status == query.status)
        and (not query.task_status or row.task_status == query.task_status)
        and query.labels <= row.labels
        and query.text in row.text
    ]
    if query.sort:
        found.sort(key=lambda row: row[:2])
        found.sort(key=SORTS[query.sort], reverse=query.is_descending)
        if query.sort == "lastActive" and not query.is_descending:
            found.sort(key=lambda row: not row.active_at)
    return found


def newest_first(rows: Iterable[AgentRow]) -> list[AgentRow]:
    """Return the rows in the default order. Agents created in the same second are ordered by namespace and name."""
    found = sorted(rows, key=lambda row: row[:2])
    found.sort(key=SORTS["created"], reverse=True)
    return found


def facets(rows: Sequence[AgentRow], every: Sequence[AgentRow]) -> Facets:
    """Return the labels of `rows` and the namespaces of `every`."""
    return Facets(sorted({label for row in rows for label in row.facets}), sorted({row.namespace for row in every}))
