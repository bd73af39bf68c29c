"""Replies in the wire format of the Messages API. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, assert_never

from komputer.offline.answer import ModelReply
from komputer.offline.script import Say, Think, ToolStep

_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}

DELTAS = 8
"""The number of deltas per block. There are fewer if they would be shorter than `SHORTEST_DELTA` characters."""

SHORTEST_DELTA = 12

PING = b'event: ping\ndata: {"type": "ping"}\n\n'


def error(status: int, message: str) -> dict[str, Any]:
    """Return the body of an error response, also used in an `error` event."""
    fallback = "invalid_request_error" if status < 500 else "api_error"
    return {"type": "error", "error": {"type": _ERROR_TYPES.get(status, fallback), "message": message}}


def encode(value: object) -> bytes:
    """Return `value` as ASCII JSON, in which a lone surrogate can be encoded too."""
    return json.dumps(value).encode()


def message(answer: ModelReply, model: str) -> dict[str, Any]:
    """Return the whole reply, for a request without `stream`."""
    content = [_block(move.step, answer) for move in answer.moves if isinstance(move.step, Say | Think | ToolStep)]
    return {**_head(answer, model), "content": content, "stop_reason": _stop_reason(answer), "usage": _usage(answer)}


def opening(answer: ModelReply, model: str) -> bytes:
    """Return the events before the first block."""
    head = {**_head(answer, model), "content": [], "stop_reason": None, "usage": {**_usage(answer), "output_tokens": 1}}
    return event("message_start", message=head) + PING


def block(answer: ModelReply, step: Say | Think | ToolStep, index: int) -> bytes:
    """Return the events of one content block."""
    whole = _block(step, answer)
    empty: dict[str, Any]
    match step:
        case Say(say=text):
            empty, deltas = {"text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces(text)]
        case Think(think=text):
            empty = {"thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(text)]
            deltas.append({"type": "signature_delta", "signature": whole["signature"]})
        case ToolStep(input=given):
            empty = {"input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces(json.dumps(given))]
        case _:
            assert_never(step)
    return b"".join(
        (
            event("content_block_start", index=index, content_block={**whole, **empty}),
            *(event("content_block_delta", index=index, delta=delta) for delta in deltas),
            event("content_block_stop", index=index),
        )
    )


def closing(answer: ModelReply) -> bytes:
    """Return the events after the last block."""
    stop = {"stop_reason": _stop_reason(answer), "stop_sequence": None}
    return event("message_delta", delta=stop, usage=_usage(answer)) + event("message_stop")


def event(kind: str, **data: Any) -> bytes:
    """Return one Server-Sent Event."""
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), encode({"type": kind, **data}))


def pieces(text: str) -> Iterator[str]:
    """Split `text` into the pieces of its deltas."""
    size = max(SHORTEST_DELTA, -(-len(text) // DELTAS))
    return (text[at : at + size] for at in range(0, len(text), size))


def _head(answer: ModelReply, model: str) -> dict[str, Any]:
    return {
        "id": f"msg_offline_{answer.id}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "stop_sequence": None,
    }


def _block(step: Say | Think | ToolStep, answer: ModelReply) -> dict[str, Any]:
    match step:
        case Say(say=text):
            return {"type": "text", "text": text}
        case Think(think=text):
            return {"type": "thinking", "thinking": text, "signature": "b2ZmbGluZQ=="}
        case ToolStep(tool=name, input=given):
            return {"type": "tool_use", "id": f"toolu_offline_{answer.id}", "name": name, "input": given}
        case _:
            assert_never(step)


def _stop_reason(answer: ModelReply) -> str:
    stop_reasons = [move.step.stop for move in answer.moves if isinstance(move.step, Say) and move.step.stop]
    return (
        stop_reasons[-1] if stop_reasons else "tool_use" if isinstance(answer.moves[-1].step, ToolStep) else "end_turn"
    )


def _usage(answer: ModelReply) -> dict[str, int]:
    return {
        "input_tokens": answer.input_tokens,
        "cache_creation_input_tokens": answer.cache_creation_input_tokens,
        "cache_read_input_tokens": answer.cache_read_input_tokens,
        "output_tokens": answer.output_tokens,
    }
