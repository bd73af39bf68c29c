"""The gateway's border: our errors as HTTP, in the door's shape for runtimes and in the Messages API's for Claude."""

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
    """The agent is deleted or being deleted: its runtime stops for good."""

    code = "agent_gone"


class TooLarge(Invalid):
    """The body is larger than we take."""

    code = "body_too_large"


class UpstreamUnreachable(Unavailable):
    """The model's address does not answer, or not as the Messages API does."""

    code = "model_unreachable"


class Overloaded(Unavailable):
    """More is under way than we take at once."""

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
"""Other statuses are `api_error`, which Claude tries again."""


def status_of(error: KomputerError) -> int:
    """500 for what no caller was to see."""
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)


def door_error(error: KomputerError) -> Response:
    """`{"error": sentence, "code": slug}`."""
    status = status_of(error)
    if status == 500:
        log.error("request failed", exc_info=error)
        return door_answer(500, "internal error", "internal")
    headers = {"retry-after": str(error.retry_after_s)} if isinstance(error, Unavailable) else None
    return door_answer(status, error.message, error.code, headers)


def door_answer(status: int, sentence: str, code: str, headers: dict[str, str] | None = None) -> Response:
    body = orjson.dumps({"error": sentence, "code": code})
    return Response(body, status, headers, media_type="application/json")


def model_error(error: KomputerError) -> Response:
    """The same in the Messages API's shape, which Claude understands and shows."""
    status = status_of(error)
    if status == 500:
        log.error("model request failed", exc_info=error)
        return model_answer(500, "internal error", "internal")
    headers = {"retry-after": str(error.retry_after_s)} if isinstance(error, Unavailable) else None
    return model_answer(status, error.message, error.code, headers)


def model_answer(status: int, sentence: str, code: str, headers: dict[str, str] | None = None) -> Response:
    kind = ANTHROPIC_TYPES.get(status, "api_error")
    body = orjson.dumps({"type": "error", "error": {"type": kind, "message": sentence}, "code": code})
    return Response(body, status, headers, media_type="application/json")
