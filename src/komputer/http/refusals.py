"""Errors that a server answers before its application sees a request, in the shape of that application's errors."""

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

Refusal = Callable[[int, str, str], bytes]
"""The body of an error from its status, sentence and code, as JSON."""

_MESSAGES_API_TYPES: Final = {400: "invalid_request_error", 408: "timeout_error", 413: "request_too_large"}


def as_error(status: int, sentence: str, code: str) -> bytes:
    """`{"error": sentence, "code": code}`."""
    return json.dumps({"error": sentence, "code": code}).encode()


def as_messages_api(status: int, sentence: str, code: str) -> bytes:
    """The shape of Anthropic's Messages API, with our code."""
    kind = _MESSAGES_API_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return json.dumps({"type": "error", "error": {"type": kind, "message": sentence}, "code": code}).encode()


def response(status: int, body: bytes) -> bytes:
    """A whole HTTP response that ends its connection."""
    phrase = HTTPStatus(status).phrase
    retry = "retry-after: 1\r\n" if status == 503 else ""
    head = (
        f"HTTP/1.1 {status} {phrase}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"{retry}connection: close\r\n\r\n"
    )
    return head.encode() + body
