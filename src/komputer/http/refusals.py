"""Errors that a server sends before its application gets the request, in the shape of that application's errors."""

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

Refusal = Callable[[int, str, str], bytes]
"""Builds the JSON body of an error from its HTTP status, sentence and code."""

_MESSAGES_API_TYPES: Final = {400: "invalid_request_error", 408: "timeout_error", 413: "request_too_large"}


class Refused(Exception):
    """A request that the server answers itself, below the application: with `status`, `sentence` and `code`."""

    def __init__(self, status: int, sentence: str, code: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.code = status, sentence, code


def as_error(status: int, sentence: str, code: str) -> bytes:
    """Return `{"error": sentence, "code": code}`."""
    return json.dumps({"error": sentence, "code": code}).encode()


def as_messages_api(status: int, sentence: str, code: str) -> bytes:
    """Return an error of Anthropic's Messages API, with our `code` added."""
    kind = _MESSAGES_API_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return json.dumps({"type": "error", "error": {"type": kind, "message": sentence}, "code": code}).encode()


def response(status: int, body: bytes) -> bytes:
    """Return a complete HTTP response that closes its connection."""
    phrase = HTTPStatus(status).phrase
    retry = "retry-after: 1\r\n" if status == 503 else ""
    head = (
        f"HTTP/1.1 {status} {phrase}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"{retry}connection: close\r\n\r\n"
    )
    return head.encode() + body
