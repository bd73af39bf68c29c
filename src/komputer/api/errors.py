"""Translates our errors to HTTP responses: `{"error": <a sentence>, "code": <a stable code>}`."""

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from komputer.domain import errors
from komputer.http.validation import explain
from komputer.redis.idempotency import Mismatch

log = structlog.get_logger(__name__)

STATUS: tuple[tuple[type[errors.KomputerError], int], ...] = (
    (errors.Invalid, 400),
    (errors.Unauthorized, 401),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.PreconditionFailed, 412),
    (Mismatch, 422),
    (errors.ServerFailed, 502),
    (errors.TooManyRequests, 429),
    (errors.Unavailable, 503),
)
UNREADABLE = "the body cannot be read: send JSON in UTF-8, with no number of thousands of digits, not deeply nested"
PLAIN = {404: ("there is no such route", "no_route"), 405: ("this route does not take {method}", "wrong_method")}


def answer(status: int, error: str, code: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": error, "code": code}, status, headers=headers)


def translated(error: errors.KomputerError) -> JSONResponse:
    status = next((status for kind, status in STATUS if isinstance(error, kind)), 500)
    if status == 500:
        log.error("request failed", exc_info=error)
        return answer(500, "internal error", "internal")
    headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, errors.Unavailable) else None
    if status == 401:
        headers = {"WWW-Authenticate": "Bearer"}
    return answer(status, error.message, error.code, headers)


def allowed_methods(app: FastAPI, request: Request) -> list[str]:
    """Return all methods of the request's path. Each route knows only its own."""
    found = [
        method
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        if any(route.matches({**request.scope, "method": method})[0] == Match.FULL for route in app.routes)
    ]
    return ["GET", "HEAD", *found[1:]] if "GET" in found else found


def install(app: FastAPI) -> None:
    """Register the translation on `app`."""

    @app.exception_handler(errors.KomputerError)
    async def ours(request: Request, error: errors.KomputerError) -> JSONResponse:
        return translated(error)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        sentence, _ = explain(error.errors())
        return answer(400, sentence, "invalid")

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 400:  # raised by FastAPI if the JSON parser fails with anything but JSONDecodeError
            return answer(400, UNREADABLE, "invalid")
        text, code = PLAIN.get(error.status_code, (str(error.detail), f"http-{error.status_code}"))
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(allowed_methods(app, request))
        return answer(error.status_code, text.format(method=request.method), code, headers)

    no_route = app.router.default

    async def unrouted(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # the framework would refuse the handshake with an empty 403
            await answer(404, *PLAIN[404])(scope, receive, send)
        else:
            await no_route(scope, receive, send)

    app.router.default = unrouted

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        return answer(500, "internal error", "internal")
