"""What a caller has probably mistyped: query parameters, event types, fields of a body, names of tools. Pure, but for
the dependency that reads a request's query."""

from collections.abc import Collection, Iterable, Iterator
from itertools import chain, islice
from typing import Any, Final, TypeAlias

from fastapi import Request
from fastapi.dependencies.models import Dependant

from komputer.api.schemas.agents import AgentSettings, Body
from komputer.domain.errors import Invalid
from komputer.events.schema import TYPES
from komputer.http.validation import WORD_LIMIT, nearest
from komputer.protocol.wire import BUILT_IN_TOOLS

NAMED_AT_ONCE: Final = 5
"""Unknown query parameters or event types that one error names."""
WARNINGS_LIMIT: Final = 20
"""Warnings of one answer; a last one counts the rest."""


def _unknown(what: str, words: Iterable[str], known: Collection[str]) -> str | None:
    """A sentence about those of `words` that are not known; None where all are."""
    wrong = [word for word in dict.fromkeys(words) if word not in known][:NAMED_AT_ONCE]
    if not wrong:
        return None
    named = ", ".join(f"{word[:WORD_LIMIT]!r}" for word in wrong)
    are = f"there is no {what}" if len(wrong) == 1 else f"there are no {what}s"
    closest = nearest(wrong[0], known) if len(wrong) == 1 else ""
    return f"{are} {named}{closest or ';'} known: {', '.join(sorted(known)) or 'none'}"


def refuse_unknown_parameters(given: Iterable[str], known: Collection[str]) -> None:
    """Raises `Invalid` (`unknown_parameter`) naming the query parameters that an operation does not take."""
    given = tuple(given)
    if wrong := _unknown("query parameter", given, known):
        field = next(name for name in given if name not in known)
        raise Invalid(wrong, code="unknown_parameter", field=field[:WORD_LIMIT])


async def known_parameters(request: Request) -> None:
    """Before each operation, after its rights: takes what the operation declares and nothing else."""
    if not request.scope["query_string"]:
        return
    route = request.scope["route"]
    known = _of_operation.get(route.operation_id)
    if known is None:
        known = _of_operation[route.operation_id] = declared(route.dependant)
    refuse_unknown_parameters(request.query_params.keys(), known)


_of_operation: Final[dict[str, frozenset[str]]] = {}
"""What each operation declares, collected once."""


def declared(dependant: Dependant) -> frozenset[str]:
    """The query parameters of an operation and of what it depends on."""
    own = {parameter.alias for parameter in dependant.query_params}
    return frozenset(own.union(*(declared(inner) for inner in dependant.dependencies)))


def wanted_types(text: str | None) -> frozenset[str] | None:
    """Of a `types` parameter: event types, separated by commas. None: all. Raises `Invalid` (`unknown_event_type`)."""
    if text is None:
        return None
    given = [part.strip() for part in text.split(",") if part.strip()]
    if wrong := _unknown("event type", given, TYPES):
        raise Invalid(wrong, code="unknown_event_type", field="types")
    return frozenset(given)


def warned(body: Body | None) -> dict[str, list[str]]:
    """`warnings` of the answer to `body`: what of it has no effect. Empty where there is nothing to say."""
    if body is None:
        return {}
    found = chain(_extra(body), _tools(body) if isinstance(body, AgentSettings) else ())
    told = [f"{what[: WORD_LIMIT * 2]}{nearest(word, known)}" for what, word, known in islice(found, WARNINGS_LIMIT)]
    if more := sum(1 for _ in found):
        told.append(f"and {more} more")
    return {"warnings": told} if told else {}


Doubt: TypeAlias = tuple[str, str, Collection[str]]
"""What has no effect, the word that may be mistyped, and the words that are known in its place."""


def _extra(body: Body, prefix: str = "") -> Iterator[Doubt]:
    """Each unknown field of `body` and of the objects in it."""
    fields = {info.alias or name: getattr(body, name) for name, info in type(body).model_fields.items()}
    known = frozenset({*fields, *body.not_built_yet, *body.refused_elsewhere})
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
    """Rules that name none of Claude's own tools. Which tools connectors have is not known before a task."""
    for field, rules in (("allowedTools", body.allowed_tools), ("disallowedTools", body.disallowed_tools)):
        for rule in rules or ():
            tool = rule.partition("(")[0]
            if tool not in BUILT_IN_TOOLS and not tool.startswith("mcp__"):
                yield f"{field}: there is no tool {tool[:WORD_LIMIT]!r}", tool, BUILT_IN_TOOLS
