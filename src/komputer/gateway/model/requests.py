"""Decides which model requests pass: only the agent's own model, and nothing that reaches stored files or other
servers. Pure."""

import json
from collections.abc import Collection, Iterator
from typing import Any, Final

import orjson

from komputer.domain.errors import Forbidden, Invalid
from komputer.gateway.errors import TooLarge
from komputer.http.json_values import has_more_values

REFUSED_FIELDS: Final = ("container", "fallbacks", "files", "mcp_servers")
"""Top-level fields that refer to stored files, to servers that the model's side would call, or to other models."""
CLIENT_TOOLS: Final = ("bash_", "computer_", "memory_", "text_editor_", "tool_search_tool_")
"""Prefixes of the types of tools that run on the agent's own machine or within the request. All other types, and
unknown ones, are refused: they run on the model's side (web_search_…, web_fetch_…, code_execution_…, mcp_toolset)."""
INLINE_SOURCES: Final = frozenset({"base64", "content", "text"})
"""Types of content sources whose data is in the request itself. `file`, `url` and unknown types are refused."""
SERVER_BLOCKS: Final = frozenset({"container_upload"})
ALIASES: Final = frozenset({"haiku", "opus", "sonnet"})
MODEL_LIMIT: Final = 256
"""Characters of a model's name, as in an agent's spec."""
VALUES_LIMIT: Final = 200_000
"""How many JSON values a body may have. Each may take 200 bytes of memory and 1 µs to parse. The largest conversation
has a million tokens, most of them in long texts: a message has about ten values, a tool's schema about a hundred."""
QUICK_BYTES: Final = 256 * 1024
QUICK_VALUES: Final = 10_000
"""A body within both limits (bytes and JSON values) is parsed on the event loop, which takes 3 ms at most. Others are
parsed in a thread."""
LONG_CONTEXT: Final = "[1m]"
"""A suffix that Claude removes from a model's name before a request."""


def parsed(raw: bytes) -> dict[str, Any]:
    """Return the parsed body. The upstream must read it exactly as the gateway does: duplicate names in an object are
    refused, since one parser uses the first and another the last. Raises `Invalid` for these and for anything but a
    JSON object, and `TooLarge` for a body that would take too much memory."""
    if has_more_values(raw, VALUES_LIMIT):
        raise TooLarge(f"The body has more than {VALUES_LIMIT} values.")
    try:
        body: Any = orjson.loads(raw)
        if orjson.dumps(body) != raw:  # does not happen with Claude's own requests; check for duplicate names
            body = None  # free the memory of the first parse before the second
            body = json.loads(raw, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise Invalid("The request is not JSON that every parser reads alike.", code="invalid_json") from error
    if not isinstance(body, dict):
        raise Invalid("The request must be a JSON object.", code="invalid_json")
    return body


def is_quick(raw: bytes) -> bool:
    """Whether parsing `raw` does not block the event loop noticeably."""
    return len(raw) <= QUICK_BYTES and not has_more_values(raw, QUICK_VALUES)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice in an object")
    return found


def model_of(raw: bytes) -> object:
    """Return the requested model if nothing else in the body is refused. Raises as `parsed` and `admit` do, and
    `Invalid` for a name that is too long."""
    body = parsed(raw)
    admit(body)
    model: object = body.get("model")
    if isinstance(model, str) and len(model) > MODEL_LIMIT:
        raise Invalid(f"The model's name is longer than {MODEL_LIMIT} characters.", code="invalid_model")
    return model


def admit_model(model: object, assigned: Collection[str]) -> None:
    """Raise `Forbidden` for a model that the agent may not use."""
    if not isinstance(model, str) or not any(serves(name, model) for name in assigned):
        raise Forbidden(
            f"This agent may not use the model {_shown(model)}; it is assigned {' or '.join(sorted(assigned))}.",
            code="model_not_assigned",
        )


def admit(body: dict[str, Any]) -> None:
    """Raise `Forbidden` for the first part of `body` that an agent may not use."""
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
    """Whether Claude requests the model `asked` when it is configured with `assigned`."""
    name = assigned.removesuffix(LONG_CONTEXT)
    return asked in (assigned, name) or (name in ALIASES and asked.startswith(f"claude-{name}-"))


def _blocks(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every content block of the system prompt and of messages, including those in tool results and documents.
    The input of a tool call is not searched: it is the agent's own data and may look like a content block."""
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
