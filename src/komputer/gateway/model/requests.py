"""Which model requests pass: the agent's own model, and nothing that reaches stored files or other servers. Pure."""

import json
from collections.abc import Collection, Iterator
from typing import Any, Final

import orjson

from komputer.domain.errors import Forbidden, Invalid
from komputer.gateway.errors import TooLarge
from komputer.http.json_values import has_more_values

REFUSED_FIELDS: Final = ("container", "fallbacks", "files", "mcp_servers")
"""Of the top level: they name stored files, servers that the model's side would call, or other models."""
CLIENT_TOOLS: Final = ("bash_", "computer_", "memory_", "text_editor_", "tool_search_tool_")
"""Tool types with a version that reach nothing but the request and the agent's own machine. All other types run on the
model's side (web_search_…, web_fetch_…, code_execution_…, mcp_toolset) and are refused, unknown ones too."""
INLINE_SOURCES: Final = frozenset({"base64", "content", "text"})
"""Sources that stand in the request itself. `file` and `url`, and unknown ones, are refused."""
SERVER_BLOCKS: Final = frozenset({"container_upload"})
ALIASES: Final = frozenset({"haiku", "opus", "sonnet"})
MODEL_LIMIT: Final = 256
"""Characters of a model's name, as in an agent's spec."""
VALUES_LIMIT: Final = 200_000
"""JSON values in one body: parsed, each may cost 200 bytes and 1 µs. The largest conversation has a million tokens, but
most are in texts; a message has some ten values, a tool's schema some hundred."""
QUICK_BYTES: Final = 256 * 1024
QUICK_VALUES: Final = 10_000
"""A body within both is parsed on the event loop, which takes 3 ms at most; others in a thread."""
LONG_CONTEXT: Final = "[1m]"
"""Claude takes it off a model's name before it asks."""


def parsed(raw: bytes) -> dict[str, Any]:
    """The body, which the model's side reads as we do. Raises `Invalid` for what is not one JSON object, and for names
    that occur twice in an object: of these one reader takes the first and another the last. Raises `TooLarge` for what
    would take too much memory."""
    if has_more_values(raw, VALUES_LIMIT):
        raise TooLarge(f"The body has more than {VALUES_LIMIT} values.")
    try:
        body: Any = orjson.loads(raw)
        if orjson.dumps(body) != raw:  # not so of what Claude sends; then the names are looked at one by one
            body = None  # it may be large: one at a time
            body = json.loads(raw, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise Invalid("The request is not JSON that every reader reads alike.", code="invalid_json") from error
    if not isinstance(body, dict):
        raise Invalid("The request must be a JSON object.", code="invalid_json")
    return body


def is_quick(raw: bytes) -> bool:
    """Whether parsing `raw` keeps nobody waiting."""
    return len(raw) <= QUICK_BYTES and not has_more_values(raw, QUICK_VALUES)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice in an object")
    return found


def model_of(raw: bytes) -> object:
    """The model that is asked for, where nothing else in the body is refused. Raises as `parsed` and `admit` do, and
    `Invalid` for a name that is longer than any."""
    body = parsed(raw)
    admit(body)
    model: object = body.get("model")
    if isinstance(model, str) and len(model) > MODEL_LIMIT:
        raise Invalid(f"The model's name is longer than {MODEL_LIMIT} characters.", code="invalid_model")
    return model


def admit_model(model: object, assigned: Collection[str]) -> None:
    """Raises `Forbidden` for a model that is not one of those that the agent may ask."""
    if not isinstance(model, str) or not any(serves(name, model) for name in assigned):
        raise Forbidden(
            f"This agent may not use the model {_shown(model)}; it is assigned {' or '.join(sorted(assigned))}.",
            code="model_not_assigned",
        )


def admit(body: dict[str, Any]) -> None:
    """Raises `Forbidden` with a sentence for the first thing in `body` that an agent may not ask for."""
    for field in REFUSED_FIELDS:
        if body.get(field) is not None:
            raise _refused(f"the field {field}")
    tools = body.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind not in (None, "custom") and not str(kind).startswith(CLIENT_TOOLS):
            raise _refused(f"the tool type {_shown(kind)}")
    for block in _blocks(body):
        source, kind = block.get("source"), block.get("type")
        if kind in SERVER_BLOCKS or block.get("file_id") is not None:
            raise _refused(f"content of type {_shown(kind)}")
        if isinstance(source, dict) and source.get("type") not in INLINE_SOURCES:
            raise _refused(f"a content source of type {_shown(source.get('type'))}")


def serves(assigned: str, asked: str) -> bool:
    """Whether `asked` is what Claude asks for when it was told the model `assigned`."""
    name = assigned.removesuffix(LONG_CONTEXT)
    return asked in (assigned, name) or (name in ALIASES and asked.startswith(f"claude-{name}-"))


def _blocks(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every content block: of the system prompt, of messages, of tool results and documents within them. Not what
    stands in a tool's input, which is the agent's own and may look like anything."""
    messages = body.get("messages")
    waiting: list[Any] = [body.get("system")]
    waiting += (
        [part.get("content") for part in messages if isinstance(part, dict)] if isinstance(messages, list) else []
    )
    while waiting:
        content = waiting.pop()
        for block in content if isinstance(content, list) else [content]:
            if isinstance(block, dict):
                yield block
                source = block.get("source")
                waiting += [block.get("content"), source.get("content") if isinstance(source, dict) else None]


def _refused(what: str) -> Forbidden:
    return Forbidden(
        f"The platform does not pass on {what}: it reaches stored files or other servers.", code="field_not_allowed"
    )


def _shown(value: object) -> str:
    return repr(value[:80]) if isinstance(value, str) else "that is missing" if value is None else "that is no text"
