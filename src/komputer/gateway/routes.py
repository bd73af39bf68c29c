"""The gateway's routes, and its errors as HTTP responses."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from komputer.domain.base import WireModel
from komputer.domain.errors import KomputerError, Unavailable
from komputer.gateway import bodies
from komputer.gateway.agents.identity import PodIdentity
from komputer.gateway.agents.intake import POST_LIMIT_BYTES
from komputer.gateway.connectors import proxy as connectors
from komputer.gateway.errors import error_response, json_error, messages_error
from komputer.gateway.model import proxy as model
from komputer.gateway.parts import Parts
from komputer.gateway.quota import Quota
from komputer.http.connections import totals
from komputer.protocol import wire

KINDS: Final = {
    "/v1/hello": "hello",
    "/v1/assignment": "assignment",
    "/v1/events": "events",
    "/v1/heartbeat": "heartbeat",
    "/komputer/mcp": "managers",
    "/model/v1/messages": "messages",
    "/model/v1/messages/count_tokens": "count_tokens",
}
B = TypeVar("B", bound=WireModel)
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


def kind_of(path: str) -> str:
    """Return the label for a path in metrics. Unknown paths share a label, so that callers cannot create labels."""
    return "connector" if path.startswith("/connectors/") else KINDS.get(path, "other")


def routes(parts: Parts, problem: Callable[[], str | None]) -> list[Route]:
    """Return all routes. `problem` says which background work fails, for the readiness probe."""
    intake, quotas = parts.intake, parts.quotas

    async def assignment(scope: Scope, receive: Receive, send: Send) -> None:
        await parts.streams.answer(await parts.access.caller(scope["headers"]), receive, send)

    async def readyz(_: Request) -> Response:
        unsynced = [cache.kind.plural for cache in parts.caches if not cache.is_synced]
        if unsynced:
            raise Unavailable(f"The gateway has not read {', '.join(unsynced)} yet.", code="not_ready")
        await parts.log.ping()
        if failing := problem():
            raise Unavailable(failing, code="background_failed")
        if shortage := totals.shortage():
            raise Unavailable(shortage, code="too_many_connections")
        return Response("ok", media_type="text/plain")

    return [
        Route("/v1/hello", _call(parts, wire.Hello, intake.hello, quotas.heartbeat_bytes), methods=["POST"]),
        Route("/v1/events", _call(parts, wire.Post, intake.post, quotas.posted_bytes), methods=["POST"]),
        Route(
            "/v1/heartbeat", _call(parts, wire.Heartbeat, intake.heartbeat, quotas.heartbeat_bytes), methods=["POST"]
        ),
        Route("/v1/assignment", _AsgiRoute(assignment), methods=["GET"]),
        Route(f"{model.PREFIX}/v1/messages", _AsgiRoute(parts.model), methods=["POST"]),
        Route(f"{model.PREFIX}/v1/messages/count_tokens", _AsgiRoute(parts.model), methods=["POST"]),
        Route("/connectors/{name}", _AsgiRoute(parts.connectors), methods=list(connectors.METHODS)),
        Route("/komputer/mcp", _AsgiRoute(parts.managers.endpoint), methods=["POST"]),
        Route("/healthz", _healthz),
        Route("/readyz", readyz),
    ]


class _AsgiRoute:
    """Wraps an ASGI callable: starlette treats a plain function or method as a function of a request."""

    def __init__(self, serve: Asgi) -> None:
        self._serve = serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._serve(scope, receive, send)


def _call(
    parts: Parts, kind: type[B], answer: Callable[[PodIdentity, B], Awaitable[WireModel]], quota: Quota
) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint of a call with a JSON body of `kind`. The body's bytes are held from `quota` until the call
    is answered."""

    async def endpoint(request: Request) -> Response:
        headers = request.scope["headers"]
        caller = await parts.access.caller(headers)
        with quota.held(caller.key.uid) as take:
            raw = await bodies.read(
                request.receive, headers, POST_LIMIT_BYTES, lambda size: take(size * bodies.AS_OBJECTS)
            )
            answered = await answer(caller, bodies.validated(kind, raw))
        return Response(answered.model_dump_json(by_alias=True), media_type="application/json")

    return endpoint


async def _healthz(_: Request) -> Response:
    return Response("ok", media_type="text/plain")


async def _known_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, KomputerError)
    return error_response(error)


async def _client_left(_: Request, __: Exception) -> Response:
    return Response(status_code=400)  # never sent: the connection is closed


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentence, code = (
        ("There is no such route.", "no_route")
        if error.status_code == 404
        else (f"This route does not take {request.method}.", "wrong_method")
    )
    allow = {"allow": error.headers["Allow"]} if error.headers and "Allow" in error.headers else None
    return _error_for(request)(error.status_code, sentence, code, allow)


async def _unexpected(request: Request, _: Exception) -> Response:
    return _error_for(request)(500, "internal error", "internal", None)


def _error_for(request: Request) -> Callable[[int, str, str, dict[str, str] | None], Response]:
    """Return the function that builds an error in the shape that the caller understands: the Messages API's, or plain
    JSON."""
    return messages_error if request.url.path.startswith(f"{model.PREFIX}/") else json_error


ERROR_HANDLERS: Final = {
    KomputerError: _known_error,
    bodies.ClientLeft: _client_left,
    HTTPException: _no_route,
    Exception: _unexpected,
}
