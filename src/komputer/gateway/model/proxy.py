"""Forwards requests to the model: for an agent's current pod with an open task, with the platform's credential."""

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

import aiohttp
import structlog
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from komputer.domain.errors import Invalid, KomputerError
from komputer.gateway import bodies, headers
from komputer.gateway.agents.access import PodAccess
from komputer.gateway.errors import UpstreamUnreachable, messages_response
from komputer.gateway.metrics import GatewayMetrics
from komputer.gateway.model import requests
from komputer.gateway.model.assigned import AssignedModels
from komputer.gateway.model.upstream import ERROR_LIMIT_BYTES, Upstream, cleaned
from komputer.gateway.quota import Quotas
from komputer.gateway.settings import ModelCredential

log = structlog.get_logger(__name__)

T = TypeVar("T")
PREFIX: Final = "/model"
BODY_LIMIT_BYTES: Final = 32 * 2**20
"""The largest body of a request: the Messages API's own limit."""
QUERIES: Final = (b"", b"beta=true")
PERMANENT: Final = frozenset({401, 402, 403, 404})
"""Statuses of errors that a retry cannot fix: a wrong key, no money, no access, no such model."""


class ModelProxy:
    """An ASGI app for the Messages API below `PREFIX`. Its errors have that API's shape."""

    def __init__(
        self, access: PodAccess, models: AssignedModels, upstream: Upstream, quotas: Quotas, metrics: GatewayMetrics
    ) -> None:
        self._access = access
        self._models = models
        self._upstream = upstream
        self._quotas = quotas
        self._metrics = metrics
        self._parsing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        with ExitStack() as held:
            status = await self._serve(scope, receive, send, began, held)
        self._metrics.model_seconds.labels(status).observe(time.perf_counter() - began)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, began: float, held: ExitStack) -> str:
        try:
            body = await self._admitted(scope, receive, held)
            path, query = scope["path"].removeprefix(PREFIX), scope["query_string"].decode()
            if vertex := self._upstream.vertex:
                (path, body), query = await _run(body, vertex.translated, path, body), ""
        except bodies.ClientLeft:
            return "left"
        except KomputerError as error:
            return await _answer(messages_response(error), scope, receive, send)
        try:
            return await bodies.until_disconnected(
                self._pass_on(scope, receive, send, path, query, body, began), receive
            )
        except bodies.ClientLeft:
            return "left"

    async def _admitted(self, scope: Scope, receive: Receive, held: ExitStack) -> bytes:
        """Return the body of a request that may pass; closing `held` releases its quotas. Raises `KomputerError`."""
        caller = await self._access.caller(scope["headers"])
        held.enter_context(self._quotas.model_requests.held(caller.key.uid, 1))
        take = held.enter_context(self._quotas.held_bytes.held(caller.key.uid))
        if scope["query_string"] not in QUERIES:
            raise Invalid("Of the query only beta=true is passed on.", code="query_not_allowed")
        finding_task = asyncio.create_task(self._access.open_task(caller))
        try:  # the log is read while the body arrives
            raw = await bodies.read(receive, scope["headers"], BODY_LIMIT_BYTES, take)
            task = await finding_task
        finally:
            finding_task.cancel()
            await asyncio.gather(finding_task, return_exceptions=True)
        # Only the model's name is kept while the log is read: a parsed body may take many times the memory of `raw`.
        requested = await self._model_of(caller.key.uid, raw)
        requests.admit_model(requested, await self._models.of(caller, task, requested))
        return raw

    async def _model_of(self, uid: str, raw: bytes) -> object:
        """Call `requests.model_of`, for one body per agent at a time, so that one agent's bodies cannot delay other
        agents."""
        turn = self._parsing.setdefault(uid, asyncio.Lock())
        async with turn:
            return await _run(raw, requests.model_of, raw)

    async def _pass_on(
        self, scope: Scope, receive: Receive, send: Send, path: str, query: str, body: bytes, began: float
    ) -> str:
        """Forward the admitted request and stream the answer. Return the label of the outcome for metrics: the status,
        or `broken` if the upstream aborts its answer after the head was sent."""
        has_begun = False
        try:
            credential = await self._upstream.credential()
            sent = headers.to_model(scope["headers"], credential)
            async with self._upstream.post(path, query, sent, body) as answer:
                self._metrics.model_first_byte_seconds.observe(time.perf_counter() - began)
                if answer.status >= 300:
                    return await _answer(await _refused(answer, credential), scope, receive, send)
                await send(_head(answer, credential))
                has_begun = True
                async for chunk in answer.content.iter_any():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            return str(answer.status)
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("model aborted its answer", error=type(error).__name__, has_begun=has_begun)
            if has_begun:
                return "broken"  # without a last chunk: the server closes the connection, so that Claude detects it
            failure = UpstreamUnreachable("The model's address aborted its answer.")
            return await _answer(messages_response(failure), scope, receive, send)
        except UpstreamUnreachable as error:
            log.warning("model not reachable", error=error.message)
            return await _answer(messages_response(error), scope, receive, send)


async def _run(raw: bytes, work: Callable[..., T], *arguments: Any) -> T:
    """Return the result of `work`, which parses `raw`; in a thread if `raw` is not quick to parse. The thread yields to
    the event loop every millisecond (`SWITCH_S` in `bootstrap/server.py`)."""
    return work(*arguments) if requests.is_quick(raw) else await asyncio.to_thread(work, *arguments)


async def _refused(answer: aiohttp.ClientResponse, credential: ModelCredential | None) -> Response:
    """Return the upstream's error without the credential. A redirect, which could lead anywhere, is replaced by an
    error."""
    log.info("model refused a request", status=answer.status, request_id=answer.headers.get("request-id"))
    if answer.status < 400:
        redirect = UpstreamUnreachable("The model's address answers with a redirect; the platform follows none.")
        return _final(messages_response(redirect))
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > ERROR_LIMIT_BYTES:
            break
    response = Response(cleaned(bytes(body), answer.headers.get("content-encoding", ""), credential), answer.status)
    passed = headers.to_pod(answer.headers.items(), credential.value if credential else None)
    response.raw_headers += [pair for pair in passed if pair[0] not in (b"content-length", b"content-encoding")]
    return _final(response) if answer.status in PERMANENT else response


def _final(response: Response) -> Response:
    """Return the response with a header that tells Claude not to retry. Claude would retry for three minutes, even with
    a wrong key."""
    response.headers["x-should-retry"] = "false"
    return response


def _head(answer: aiohttp.ClientResponse, credential: ModelCredential | None) -> Message:
    passed = headers.to_pod(answer.headers.items(), credential.value if credential else None)
    return {"type": "http.response.start", "status": answer.status, "headers": passed}


async def _answer(response: Response, scope: Scope, receive: Receive, send: Send) -> str:
    await response(scope, receive, send)
    return str(response.status_code)
