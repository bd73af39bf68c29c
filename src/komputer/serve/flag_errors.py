"""Explains wrong flags and variables to the person who set them. Pure."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

REGION: Final = r"^[a-z][a-z0-9-]{1,30}$"
PROJECT: Final = r"^[a-z][a-z0-9:.-]{4,62}$"
LEASE: Final = r"^([a-z0-9-]+/[a-z0-9.-]+)?$"
PATTERNS: Final[Mapping[str, str]] = {
    REGION: "the name of a cloud region, such as eu-west-1",
    PROJECT: "the id of a Google Cloud project, such as acme-ai",
    LEASE: "namespace/name of a Lease",
}


def explain(errors: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return one sentence for each flag that is missing or wrong. `errors` come from pydantic's `ValidationError`."""
    sentences: dict[str, str] = {}
    for error in errors:
        field = str(error["loc"][0]) if error["loc"] else ""
        sentences.setdefault(field, _sentence(field, error))
    return list(sentences.values())


def _sentence(field: str, error: Mapping[str, Any]) -> str:
    if not field:  # raised by a validator of ours, which names the flags itself
        return str(error["msg"]).removeprefix("Value error, ")
    flag, variable = f"--{field.replace('_', '-')}", f"KOMPUTER_{field.upper()}"
    if error["type"] == "missing":
        return f"{flag} is required, or {variable}"
    wanted = _wanted(error["type"], error.get("ctx") or {})
    if wanted is None:
        return f"{flag} (or {variable}) cannot be used: {error['msg']}"
    return f"{flag} (or {variable}) must be {wanted}, not {str(error['input'])!r}"


def _wanted(kind: str, context: Mapping[str, Any]) -> str | None:
    """Return what a value must be; None for a kind of error that is not explained here. The value itself is then not
    printed."""
    match kind:
        case "greater_than_equal":
            return f"{context['ge']} or more"
        case "less_than_equal":
            return f"{context['le']} or less"
        case "literal_error":
            return "one of " + ", ".join(re.findall(r"'([^']*)'", str(context["expected"])))
        case "string_pattern_mismatch":
            return PATTERNS[context["pattern"]]
        case "int_parsing" | "int_parsing_size" | "int_type" | "int_from_float":
            return "a whole number"
        case "bool_parsing" | "bool_type":
            return "true or false"
        case "ip_v4_network" | "ip_v6_network":
            return "a network, such as 10.0.0.0/8"
    return None
