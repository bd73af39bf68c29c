"""Serves the Messages API over HTTP: parses the request, lets `answer` decide, and plays the reply."""

from __future__ import annotations

import json
import re
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from komputer.offline import wire
from komputer.offline.answer import answer
from komputer.offline.conversation import BadRequest, tokens
from komputer.offline.playing import Counters, Playing

KNOWN_MODEL = re.compile(r"claude-.*[0-9]")
"""The model ids that are served: those of Anthropic's form, including their forms on Vertex AI and Bedrock. A request
with any other id is answered with 404."""
MAX_BODY_BYTES = 32 * 2**20
"""The largest body of a request: the limit of Anthropic's API."""


def application() -> Starlette:
    """Return the ASGI application; see `komputer.offline.app`."""
    counters = Counters()

    async def messages(request: Request) -> Response:
        body = _object(await _raw(request))
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise BadRequest("model: a string is required")
        if KNOWN_MODEL.search(model) is None:
            raise HTTPException(404, f"model: {model}")
        tools = body.get("tools") or []
        if not isinstance(tools, list):
            raise BadRequest("tools: a list is required")
        session = request.headers.get("x-claude-code-session-id", "")
        stream = body.get("stream") is True
        decided = answer(body.get("messages"), tools, _schema(body))
        return Playing(decided, model, counters, stream=stream, session=session)

    async def count_tokens(request: Request) -> Response:
        raw = await _raw(request)
        _object(raw)
        return _json({"input_tokens": tokens(raw.decode())})

    return Starlette(
        routes=[
            Route("/v1/messages", messages, methods=["POST"]),
            Route("/v1/messages/count_tokens", count_tokens, methods=["POST"]),
        ],
        exception_handlers={BadRequest: _bad_request, HTTPException: _http_error},
    )


async def _raw(request: Request) -> bytearray:
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_BODY_BYTES:
            raise HTTPException(413, f"larger than {MAX_BODY_BYTES} bytes")
    return raw


def _object(raw: bytearray) -> dict[str, Any]:
    try:
        body = json.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The request body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise BadRequest("The request body must be a JSON object")
    return body


def _schema(body: dict[str, Any]) -> object:
    config = body.get("output_config")
    wanted = config.get("format") if isinstance(config, dict) else None
    return wanted.get("schema") if isinstance(wanted, dict) else None


def _json(value: object, status: int = 200) -> Response:
    return Response(wire.encode(value), status, media_type="application/json")


async def _bad_request(_: Request, error: Exception) -> Response:
    return _json(wire.error(400, str(error)), 400)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    is_model = error.detail.startswith("model: ")
    message = error.detail if is_model else f"{request.method} {request.url.path}: {error.detail}"
    return _json(wire.error(error.status_code, message), error.status_code)
