"""Translates the errors that pydantic finds in a request into sentences for people. Pure."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from komputer.domain.agent import MODEL_NAME, TOOL_NAME
from komputer.domain.connector import SERVICE

WORD_LIMIT: Final = 100
"""Maximum length at which a caller's word is quoted, in characters."""
NOT_EMPTY: Final = r"\S"
SECRET_NAME: Final = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"
SECRET_KEY: Final = r"^[A-Za-z0-9._-]+$"

PATTERNS: Final[Mapping[str, str]] = {
    NOT_EMPTY: "must not be empty",
    SECRET_NAME: "must be the name of a Secret: lower-case letters, digits, hyphens and dots",
    SECRET_KEY: "must be a key of a Secret: letters, digits, dots, dashes and underscores",
    MODEL_NAME: "must be the name of a model: letters, digits and . _ : / @ [ ] -, beginning with a letter or a digit",
    TOOL_NAME: "must be a tool's name, such as Bash or mcp__github__create_issue, or some of its calls: Bash(git:*)",
    SERVICE: "must be 1 to 63 letters, digits, dots, dashes and underscores, the first and last no sign",
}
"""The end of the sentence for each pattern that a text must match. `test_validation.py` finds missing ones."""

_TYPES: Final[Mapping[str, str]] = {
    "string": "must be a text",
    "list": "must be a list",
    "dict": "must be an object",
    "mapping": "must be an object",
    "model": "must be an object",
    "bool": "must be true or false",
    "int": "must be a whole number",
    "float": "must be a number",
    "finite": "must be a number",
    "decimal": "must be a number",
}
"""The end of the sentence, by the first word of the type of pydantic's error."""


def explain(errors: Iterable[Mapping[str, Any]]) -> tuple[str, str | None]:
    """Return a sentence about the first error, and the name of the field; None for the whole body."""
    first = next(iter(errors))
    place = list(first["loc"])
    if place[:1] and place[0] in ("body", "query", "path", "header"):
        place = place[1:]
    if place[-1:] == ["[key]"]:
        place.pop()
    kind, context, given = first["type"], first.get("ctx") or {}, first.get("input")
    if kind == "json_invalid":
        where = f": see character {place[0]}" if place else ""
        return f"the body is not JSON{where}", None
    if not place:
        if kind == "missing":
            return "the body is missing: send a JSON object", None
        if isinstance(given, bytes):
            return "the body is not marked as JSON: send a JSON object with Content-Type: application/json", None
        return f"the body must be a JSON object, and is {_type_of(given)}", None
    path = _path(place)
    return f"{path} {_fault(kind, context, given)}", path


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that names the known words nearest to `word`; empty if none is near."""
    by_lower = {each.lower(): each for each in known}
    found = difflib.get_close_matches(word[:WORD_LIMIT].lower(), by_lower, n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(by_lower[each] for each in found)}?" if found else ""


def _path(place: Iterable[str | int]) -> str:
    """Return the path of a field, such as `labels.team` or `connectors[0]`. Names that the client chose are cut."""
    text = ""
    for part in place:
        shown = f"[{part}]" if isinstance(part, int) else _printable(part[:WORD_LIMIT])
        text += shown if isinstance(part, int) or not text else f".{shown}"
    return text


def _printable(word: str) -> str:
    """Return a caller's word so that it stays on one line and is valid Unicode."""
    return word if word.isprintable() else ascii(word)[1:-1]


def _fault(kind: str, context: Mapping[str, Any], given: Any) -> str:
    """Return the end of a sentence: what is wrong with a value, and what is allowed."""
    match kind:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return "is not a known field"
        case "value_error":
            return str(context["error"])
        case "string_pattern_mismatch":
            return PATTERNS.get(context["pattern"], "has characters that are not allowed in it")
        case "too_short" | "string_too_short" if context["min_length"] == 1:
            return "must not be empty"
        case "too_short" | "string_too_short":
            return f"must have {context['min_length']} {_units(given)} or more"
        case "too_long" | "string_too_long" if isinstance(given, str):
            return f"is longer than {context['max_length']} characters"
        case "string_unicode":
            return "is not valid Unicode text"
        case "too_long" | "string_too_long":
            return f"has more than {context['max_length']} {_units(given)}"
        case "literal_error" | "enum":
            allowed = re.findall(r"'([^']*)'", str(context["expected"]))
            closest = nearest(given, allowed) if isinstance(given, str) else ""
            seen = ascii(given[:WORD_LIMIT]) if isinstance(given, str) else _type_of(given)
            return f"must be one of {', '.join(allowed)}, and is {seen}{closest}"
        case "greater_than_equal":
            return f"must be {context['ge']} or more"
        case "less_than_equal":
            return f"must be {context['le']} or less"
        case "greater_than":
            return f"must be more than {context['gt']}"
        case "less_than":
            return f"must be less than {context['lt']}"
    wanted = _TYPES.get(kind.partition("_")[0])
    return f"{wanted}, and is {_type_of(given)}" if wanted else "is not as it must be; see the API's documentation"


def _units(given: Any) -> str:
    """Return the unit of a value's length. A text with a validator function of its own fails with the same types of
    errors as a list."""
    return "characters" if isinstance(given, str) else "entries"


def _type_of(given: Any) -> str:
    """Return the type of a value in JSON's terms. Values are not quoted, because they may be secrets."""
    match given:
        case None:
            return "null"
        case bool():
            return "true" if given else "false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list() | tuple():
            return "a list"
        case dict():
            return "an object"
    return "something else"
