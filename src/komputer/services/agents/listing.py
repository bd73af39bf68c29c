"""Which agents a list shows, and in which order. Pure.

What a filter looks at is made once per change of an agent, not once per request: see `row`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple, get_args

import orjson

from komputer.domain import labels as labelling
from komputer.domain import names
from komputer.domain.agent import Phase, TaskStatus
from komputer.domain.errors import Invalid

Q_LIMIT: Final = 500
"""Characters of a search text; a longer one finds nothing that a person looks for."""
NUMBER_LIMIT: Final = 10**9

STATUSES: Final[tuple[str, ...]] = get_args(Phase)
TASK_STATUSES: Final[tuple[str, ...]] = get_args(TaskStatus)
NO: Final = frozenset({"false", "0", "no", ""})
YES: Final = frozenset({"true", "1", "yes"})


class AgentRow(NamedTuple):
    """An agent as filters and orders see it, and its JSON."""

    namespace: str
    name: str
    status: str
    task_status: str
    labels: frozenset[str]
    """`key=value`, the platform's own included."""
    facets: tuple[str, ...]
    """`key=value` of those that a person has set."""
    text: str
    model: str
    created_at: str
    active_at: str
    cost: Decimal
    body: bytes


class Query(NamedTuple):
    """A list request; the default is every agent, newest first."""

    namespace: str | None = None
    status: str = ""
    task_status: str = ""
    labels: frozenset[str] = frozenset()
    q: str = ""
    sort: str = ""
    descends: bool = False
    limit: int | None = None
    offset: int = 0

    @property
    def is_plain(self) -> bool:
        return self == Query(self.namespace)


class Facets(NamedTuple):
    """What a client may filter by."""

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
"""By the keys that published clients know."""
ALSO_NAMED: Final[Mapping[str, str]] = {"createdAt": "created", "lastActivityAt": "lastActive"}
"""The fields of an agent that stand for keys of `SORTS`."""


def row(body: Mapping[str, Any], every_label: Mapping[str, str]) -> AgentRow:
    """Of AgentResponse, as the client sees it, and of the labels of the resource."""
    own: Mapping[str, str] = body.get("labels", {})
    return AgentRow(
        namespace=body["namespace"],
        name=body["name"],
        status=body["status"].lower(),
        task_status=body.get("taskStatus", "").lower(),
        labels=frozenset(f"{key}={value}" for key, value in {**own, **every_label}.items()),
        facets=tuple(f"{key}={value}" for key, value in own.items()),
        text="\n".join((body["name"], body.get("instructions", ""), body.get("lastTaskMessage", ""))).casefold(),
        model=body["model"],
        created_at=body.get("createdAt") or "",
        active_at=body.get("lastActivityAt") or "",
        cost=Decimal(body.get("totalCostUSD") or 0),
        body=orjson.dumps(body),
    )


def query(given: Sequence[tuple[str, str]]) -> Query:
    """Of a request's parameters; unknown ones are ignored. Raises `Invalid`, naming the parameter."""
    one = dict(given)
    namespace = one.get("namespace") or None
    if namespace and not names.is_agent_name(namespace):
        raise Invalid(f"namespace: {namespace[:100]!r} is not the name of a namespace", field="namespace")
    if one.get("hideArchived", "").lower() not in NO | YES:
        raise Invalid("hideArchived must be true or false", field="hideArchived")
    sort = one.get("sort", "")
    key = ALSO_NAMED.get(sort.removeprefix("-"), sort.removeprefix("-"))
    if sort and key not in SORTS:
        known = ", ".join((*SORTS, *ALSO_NAMED))
        raise Invalid(f"sort must be one of {known}, with a - before it to descend", field="sort")
    wanted = []
    for text in (value for key, value in given if key == "label"):
        found = labelling.pair(text)
        if found is None:
            raise Invalid(f"label: expected key=value in Kubernetes' syntax, got {text[:100]!r}", field="label")
        wanted.append("=".join(found))
    q = one.get("q", "")
    if len(q) > Q_LIMIT:
        raise Invalid(f"q is longer than {Q_LIMIT} characters", field="q")
    return Query(
        namespace=namespace,
        status=_known(one, "status", STATUSES),
        task_status=_known(one, "taskStatus", TASK_STATUSES),
        labels=frozenset(wanted),
        q=q.casefold(),
        sort=key,
        descends=sort.startswith("-"),
        limit=_number(one, "limit", 1),
        offset=_number(one, "offset", 0) or 0,
    )


def _known(given: Mapping[str, str], parameter: str, known: Iterable[str]) -> str:
    value = given.get(parameter, "").lower()
    if value and value not in (each.lower() for each in known):
        raise Invalid(f"{parameter} must be one of {', '.join(sorted(known))}", field=parameter)
    return value


def _number(given: Mapping[str, str], parameter: str, least: int) -> int | None:
    text = given.get(parameter, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdecimal()) or not least <= int(text[:12]) <= NUMBER_LIMIT:
        raise Invalid(f"{parameter} must be a whole number, {least} or more", field=parameter)
    return int(text)


def matching(rows: Sequence[AgentRow], asked: Query) -> list[AgentRow]:
    """Those of `rows`, which are the newest first, that `asked` means, in its order. What is equal is ordered by
    namespace and name, also when descending; agents without the value that is ordered by come last."""
    found = [
        row
        for row in rows
        if (not asked.status or row.status == asked.status)
        and (not asked.task_status or row.task_status == asked.task_status)
        and asked.labels <= row.labels
        and asked.q in row.text
    ]
    if asked.sort:
        found.sort(key=lambda row: row[:2])
        found.sort(key=SORTS[asked.sort], reverse=asked.descends)
        if asked.sort == "lastActive" and not asked.descends:
            found.sort(key=lambda row: not row.active_at)
    return found


def newest_first(rows: Iterable[AgentRow]) -> list[AgentRow]:
    """The order of a list that names none. Agents of one second are ordered by namespace and name."""
    found = sorted(rows, key=lambda row: row[:2])
    found.sort(key=SORTS["created"], reverse=True)
    return found


def facets(rows: Sequence[AgentRow], every: Sequence[AgentRow]) -> Facets:
    """Labels of `rows`, namespaces of all agents."""
    return Facets(sorted({label for row in rows for label in row.facets}), sorted({row.namespace for row in every}))


def answer(found: Sequence[AgentRow], asked: Query, known: Facets) -> bytes:
    """AgentListResponse. `nextOffset` is there while more follow."""
    end = len(found) if asked.limit is None else asked.offset + asked.limit
    shown = found[asked.offset : end]
    after = b',"nextOffset":%d' % end if end < len(found) else b""
    return b'{"agents":[%b],"total":%d%b,"facets":%b}' % (
        b",".join(row.body for row in shown),
        len(found),
        after,
        orjson.dumps(known._asdict()),
    )
