"""Parses the query strings of lists into values. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, get_args

from komputer.domain import labels as labelling
from komputer.domain import names
from komputer.domain.agent import Phase, TaskStatus
from komputer.domain.errors import Invalid
from komputer.services.agents.listing import SORTS, Query

TEXT_LIMIT: Final = 500
"""Maximum length of `q`, in characters."""
NUMBER_LIMIT: Final = 10**9
STATUSES: Final[tuple[str, ...]] = get_args(Phase)
TASK_STATUSES: Final[tuple[str, ...]] = get_args(TaskStatus)
FALSE: Final = frozenset({"false", "0", "no", ""})
TRUE: Final = frozenset({"true", "1", "yes"})
SORT_ALIASES: Final[Mapping[str, str]] = {"createdAt": "created", "lastActivityAt": "lastActive"}
"""Fields of an agent that may be used as sort keys."""
_DIGITS: Final = re.compile(r"\s*\+?0*([0-9]{1,9})\s*")


def agent_query(parameters: Sequence[tuple[str, str]]) -> Query:
    """Return the query of `GET /agents`. Unknown parameters are ignored. Raises `Invalid`, naming the parameter."""
    given = dict(parameters)
    namespace = given.get("namespace") or None
    if namespace and not names.is_agent_name(namespace):
        raise Invalid(f"namespace: {namespace[:100]!r} is not the name of a namespace", field="namespace")
    boolean("hideArchived", given.get("hideArchived"))
    sort = given.get("sort", "")
    key = SORT_ALIASES.get(sort.removeprefix("-"), sort.removeprefix("-"))
    if sort and key not in SORTS:
        known = ", ".join((*SORTS, *SORT_ALIASES))
        raise Invalid(f"sort must be one of {known}, with a - before it to descend", field="sort")
    text = given.get("q", "")
    if len(text) > TEXT_LIMIT:
        raise Invalid(f"q is longer than {TEXT_LIMIT} characters", field="q")
    return Query(
        namespace=namespace,
        status=_one_of(given, "status", STATUSES),
        task_status=_one_of(given, "taskStatus", TASK_STATUSES),
        labels=frozenset(_label(value) for name, value in parameters if name == "label"),
        text=text.casefold(),
        sort=key,
        is_descending=sort.startswith("-"),
        limit=_number(given, "limit", 1),
        offset=_number(given, "offset", 0) or 0,
    )


def boolean(parameter: str, text: str | None) -> bool:
    """Return the value of a parameter that is true or false; absent means false. Raises `Invalid`."""
    value = (text or "").lower()
    if value not in FALSE | TRUE:
        raise Invalid(f"{parameter} must be true or false", field=parameter)
    return value in TRUE


def page_size(text: str, maximum: int) -> int:
    """Return the value of `limit`, or `maximum` if it is larger. Raises `Invalid`."""
    number = _DIGITS.fullmatch(text)
    if number is None or int(number[1]) < 1:
        raise Invalid("limit must be a whole number, 1 or more", field="limit")
    return min(int(number[1]), maximum)


def _label(text: str) -> str:
    pair = labelling.pair(text)
    if pair is None:
        raise Invalid(f"label: expected key=value in Kubernetes' syntax, got {text[:100]!r}", field="label")
    return "=".join(pair)


def _one_of(given: Mapping[str, str], parameter: str, known: Iterable[str]) -> str:
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
