"""Finds likely mistakes of callers: unknown query parameters, event types, fields of a body and tools. Pure, except for
the dependency that reads a request's query."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from itertools import chain, islice
from typing import Any, Final, NamedTuple, TypeAlias, get_args, get_origin

from fastapi import Request
from fastapi.dependencies.models import Dependant

from komputer.api.schemas.agents import AgentSettings, Body
from komputer.domain.errors import Invalid
from komputer.events.schema import TYPES
from komputer.http.validation import WORD_LIMIT, nearest
from komputer.protocol.wire import BUILT_IN_TOOLS

NAMED_AT_ONCE: Final = 5
"""Maximum number of unknown query parameters or event types that one error names."""
WARNINGS_LIMIT: Final = 20
"""Maximum number of warnings in one answer; a last one counts the rest."""


def _unknown(kind: str, words: Iterable[str], known: Collection[str]) -> str | None:
    """Return a sentence about those of `words` that are not known; None if all are."""
    unknown = [word for word in dict.fromkeys(words) if word not in known][:NAMED_AT_ONCE]
    if not unknown:
        return None
    quoted = ", ".join(f"{word[:WORD_LIMIT]!r}" for word in unknown)
    beginning = f"there is no {kind}" if len(unknown) == 1 else f"there are no {kind}s"
    closest = nearest(unknown[0], known) if len(unknown) == 1 else ""
    return f"{beginning} {quoted}{closest or ';'} known: {', '.join(sorted(known)) or 'none'}"


class QueryParameters(NamedTuple):
    """The query parameters that an operation takes. Only those in `lists` may be given several times."""

    known: frozenset[str]
    lists: frozenset[str] = frozenset()


def check_parameters(given: Iterable[str], parameters: QueryParameters) -> None:
    """Raise `Invalid` for names of query parameters that an operation does not take (`unknown_parameter`), or that are
    given several times (`repeated_parameter`): which of the values was meant cannot be known."""
    counts = Counter(given)
    if sentence := _unknown("query parameter", counts, parameters.known):
        field = next(name for name in counts if name not in parameters.known)
        raise Invalid(sentence, code="unknown_parameter", field=field[:WORD_LIMIT])
    for name, count in counts.items():
        if count > 1 and name not in parameters.lists:
            raise Invalid(f"{name} is given {count} times; give it once", code="repeated_parameter", field=name)


async def known_parameters(request: Request) -> None:
    """Refuse query parameters that the operation does not declare. This is a dependency of each operation and runs
    after authorization. Raises `Invalid`."""
    if not request.scope["query_string"]:
        return
    route = request.scope["route"]
    parameters = _of_operation.get(route.operation_id)
    if parameters is None:
        parameters = _of_operation[route.operation_id] = declared(route.dependant)
    check_parameters((name for name, _ in request.query_params.multi_items()), parameters)


_of_operation: Final[dict[str, QueryParameters]] = {}
"""The parameters of each operation, collected at its first request."""


def declared(dependant: Dependant) -> QueryParameters:
    """Return the query parameters of an operation and of its dependencies."""
    inner = [declared(each) for each in dependant.dependencies]
    fields = dependant.query_params
    known = frozenset(field.alias for field in fields).union(*(each.known for each in inner))
    lists = frozenset(field.alias for field in fields if _is_list(field.field_info.annotation)).union(
        *(each.lists for each in inner)
    )
    return QueryParameters(known, lists)


def _is_list(annotation: Any) -> bool:
    return any(get_origin(each) is list for each in (annotation, *get_args(annotation)))


def event_types(text: str | None) -> frozenset[str] | None:
    """Return the event types that a `types` parameter names, separated by commas; None for all. Raises `Invalid`
    (`unknown_event_type`)."""
    if text is None:
        return None
    given = [part.strip() for part in text.split(",") if part.strip()]
    if sentence := _unknown("event type", given, TYPES):
        raise Invalid(sentence, code="unknown_event_type", field="types")
    return frozenset(given)


def warnings_about(body: Body | None) -> list[str]:
    """Return a warning for each part of `body` that has no effect."""
    if body is None:
        return []
    found = chain(_extra(body), _tools(body) if isinstance(body, AgentSettings) else ())
    warnings = [
        f"{sentence[: WORD_LIMIT * 2]}{nearest(word, known)}" for sentence, word, known in islice(found, WARNINGS_LIMIT)
    ]
    if more := sum(1 for _ in found):
        warnings.append(f"and {more} more")
    return warnings


Doubt: TypeAlias = tuple[str, str, Collection[str]]
"""A warning, the word that may be misspelt, and the words that are known in its place."""


def _extra(body: Body, prefix: str = "") -> Iterator[Doubt]:
    """Yield each unknown field of `body` and of the objects in it."""
    fields = {info.alias or name: getattr(body, name) for name, info in type(body).model_fields.items()}
    known = frozenset({*fields, *body.unsupported, *body.refused_elsewhere})
    for name in body.model_extra or {}:
        if name not in known:
            yield f"unknown field {f'{prefix}{name[:WORD_LIMIT]}'!r} is ignored", name, known
    for name, value in fields.items():
        for path, inner in _inner(f"{prefix}{name}", value):
            yield from _extra(inner, f"{path}.")


def _inner(path: str, value: Any) -> Iterator[tuple[str, Body]]:
    if isinstance(value, Body):
        yield path, value
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _inner(f"{path}[{index}]", each)
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _inner(f"{path}.{key}", each)


def _tools(body: AgentSettings) -> Iterator[Doubt]:
    """Yield each rule that names an unknown tool. The tools of connectors are not known before a task."""
    for field, rules in (("allowedTools", body.allowed_tools), ("disallowedTools", body.disallowed_tools)):
        for rule in rules or ():
            tool = rule.partition("(")[0]
            if tool not in BUILT_IN_TOOLS and not tool.startswith("mcp__"):
                yield f"{field}: there is no tool {tool[:WORD_LIMIT]!r}", tool, BUILT_IN_TOOLS
