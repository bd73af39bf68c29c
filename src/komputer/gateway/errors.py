"""Errors as HTTP responses: as plain JSON for runtimes, and in the shape of the Messages API for Claude."""

from typing import Final

import orjson
import structlog
from starlette.responses import Response

from komputer.domain.errors import (
    Conflict,
    Forbidden,
    Invalid,
    KomputerError,
    NotFound,
    ServerFailed,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)

log = structlog.get_logger(__name__)


class AgentGone(KomputerError):
    """The agent is deleted or being deleted. Its runtime exits when it gets this error."""

    code = "agent_gone"


class TooLarge(Invalid):
    """The body is larger than the limit."""

    code = "body_too_large"


class UpstreamUnreachable(Unavailable):
    """The model's address does not answer, or does not speak the Messages API."""

    code = "model_unreachable"


class Overloaded(Unavailable):
    """All agents together have too many requests in progress."""

    code = "overloaded"


STATUS: Final[tuple[tuple[type[KomputerError], int], ...]] = (
    (TooLarge, 413),
    (Invalid, 400),
    (Unauthorized, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (Conflict, 409),
    (AgentGone, 410),
    (UpstreamUnreachable, 502),
    (ServerFailed, 502),
    (Overloaded, 529),
    (TooManyRequests, 429),
    (Unavailable, 503),
)
ANTHROPIC_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    410: "permission_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
"""The Messages API's error type for each HTTP status. All other statuses get `api_error`, which Claude retries."""


def status_of(error: KomputerError) -> int:
    """Return the HTTP status of an error; 500 for an internal error."""
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)


def error_response(error: KomputerError) -> Response:
    """Return a response with the body `{"error": sentence, "code": code}`."""
    status = status_of(error)
    if status == 500:
        log.error("request failed", exc_info=error)
        return json_error(500, "internal error", "internal")
    headers = {"retry-after": str(error.retry_after_s)} if isinstance(error, Unavailable) else None
    return json_error(status, error.message, error.code, headers)


def json_error(status: int, sentence: str, code: str, headers: dict[str, str] | None = None) -> Response:
    body = orjson.dumps({"error": sentence, "code": code})
    return Response(body, status, headers, media_type="application/json")


def messages_response(error: KomputerError) -> Response:
    """Return the error in the Messages API's shape, which Claude understands and shows."""
    status = status_of(error)
    if status == 500:
        log.error("model request failed", exc_info=error)
        return messages_error(500, "internal error", "internal")
    headers = {"retry-after": str(error.retry_after_s)} if isinstance(error, Unavailable) else None
    return messages_error(status, error.message, error.code, headers)


def messages_error(status: int, sentence: str, code: str, headers: dict[str, str] | None = None) -> Response:
    kind = ANTHROPIC_TYPES.get(status, "api_error")
    body = orjson.dumps({"type": "error", "error": {"type": kind, "message": sentence}, "code": code})
    return Response(body, status, headers, media_type="application/json")
