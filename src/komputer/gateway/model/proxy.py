"""The way to the model: for an agent's current pod, while a task of its is open, with the platform's credential."""

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

import aiohttp
import orjson
import structlog
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from komputer.domain.errors import Invalid, KomputerError
from komputer.events.log import Log
from komputer.gateway import bodies, headers
from komputer.gateway.agents.identity import Identity, PodIdentity
from komputer.gateway.agents.open_tasks import OpenTasks
from komputer.gateway.errors import UpstreamUnreachable, model_error
from komputer.gateway.metrics import GatewayMetrics
from komputer.gateway.model import requests
from komputer.gateway.model.upstream import ERROR_LIMIT_BYTES, Upstream, cleaned
from komputer.gateway.quota import Quota
from komputer.gateway.settings import GatewaySettings, ModelCredential

log = structlog.get_logger(__name__)

T = TypeVar("T")
BODY_LIMIT_BYTES: Final = 32 * 2**20
"""What Anthropic accepts."""
QUERIES: Final = (b"", b"beta=true")
PERMANENT: Final = frozenset({401, 402, 403, 404})
"""Statuses that do not change when the same request comes again: a wrong key, no money, no access, no such model."""
STARTS_KEPT: Final = 10_000


class ModelProxy:
    """An ASGI app for one path of the Messages API. Its errors have that API's shape."""

    def __init__(
        self,
        path: str,
        settings: GatewaySettings,
        identity: Identity,
        log: Log,
        open_tasks: OpenTasks,
        upstream: Upstream,
        metrics: GatewayMetrics,
        under_way: Quota,
        held_bytes: Quota,
    ) -> None:
        self._path = path
        self._settings = settings
        self._identity = identity
        self._log = log
        self._open_tasks = open_tasks
        self._upstream = upstream
        self._metrics = metrics
        self._under_way = under_way
        self._held_bytes = held_bytes
        self._starts: dict[str, str] = {}
        self._parsing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        with ExitStack() as held:
            status = await self._serve(scope, receive, send, began, held)
        self._metrics.model_seconds.labels(status).observe(time.perf_counter() - began)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, began: float, held: ExitStack) -> str:
        try:
            body = await self._admitted(scope, receive, held)
            path, query = self._path, scope["query_string"].decode()
            if vertex := self._settings.vertex:
                (path, body), query = await _run(body, vertex.translated, path, body), ""
        except bodies.ClientLeft:
            return "left"
        except KomputerError as error:
            return await _answer(model_error(error), scope, receive, send)
        try:
            return await bodies.while_there(self._pass_on(scope, receive, send, path, query, body, began), receive)
        except bodies.ClientLeft:
            return "left"

    async def _admitted(self, scope: Scope, receive: Receive, held: ExitStack) -> bytes:
        """The body of a request that may pass; `held` gives its place and bytes back. Raises our errors for others."""
        caller = await self._identity.caller(scope["headers"])
        held.enter_context(self._under_way.held(caller.key.uid, 1))
        take = held.enter_context(self._held_bytes.held(caller.key.uid))
        if scope["query_string"] not in QUERIES:
            raise Invalid("Of the query only beta=true is passed on.", code="query_not_allowed")
        looking = asyncio.create_task(self._open_tasks.of(caller))
        try:  # the log answers while the body is read
            raw = await bodies.read(receive, scope["headers"], BODY_LIMIT_BYTES, take)
            task = await looking
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        # Only the name is kept while the log is asked: a parsed body may be many times as large as its bytes.
        asked = await self._model_of(caller.key.uid, raw)
        requests.admit_model(asked, await self._assigned(caller, task, asked))
        return raw

    async def _model_of(self, uid: str, raw: bytes) -> object:
        """`requests.model_of`, for one body of an agent at a time: they wait for each other, others do not."""
        turn = self._parsing.setdefault(uid, asyncio.Lock())
        async with turn:
            return await _run(raw, requests.model_of, raw)

    async def _assigned(self, caller: PodIdentity, task: str, asked: Any) -> set[str]:
        """The agent's model; where another is asked for, also the one that the open task was started with, since a
        model that is changed meanwhile is the next task's."""
        models = {caller.agent.spec.model}
        if isinstance(asked, str) and not requests.serves(caller.agent.spec.model, asked):
            if task not in self._starts and (model := await self._started_with(caller, task)):
                self._remember(task, model)
            models.update({self._starts[task]} if task in self._starts else ())
        return models

    async def _started_with(self, caller: PodIdentity, task: str) -> str | None:
        key = caller.key
        page = await self._log.page(key.namespace, key.name, limit=1, types={"task_started"}, uid=key.uid)
        for entry in page.entries:
            payload = orjson.loads(entry)["payload"]
            if payload["task_id"] == task:
                return str(payload["model"])
        return None

    def _remember(self, task: str, model: str) -> None:
        while len(self._starts) >= STARTS_KEPT:
            del self._starts[next(iter(self._starts))]
        self._starts[task] = model

    async def _pass_on(
        self, scope: Scope, receive: Receive, send: Send, path: str, query: str, body: bytes, began: float
    ) -> str:
        has_begun = False
        try:
            credential = await self._settings.model_credential()
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
            log.warning("model broke off its answer", error=type(error).__name__, has_begun=has_begun)
            if has_begun:
                return "broken"  # without a last chunk: the server cuts the connection, so that Claude sees it
            failure = UpstreamUnreachable("The model's address broke off its answer.")
            return await _answer(model_error(failure), scope, receive, send)
        except UpstreamUnreachable as error:
            log.warning("model not reached", error=error.message)
            return await _answer(model_error(error), scope, receive, send)


async def _run(raw: bytes, work: Callable[..., T], *arguments: Any) -> T:
    """`work`, which parses `raw`: in a thread where that takes long. The thread gives way to the event loop every
    millisecond (`bootstrap/server.py`)."""
    return work(*arguments) if requests.is_quick(raw) else await asyncio.to_thread(work, *arguments)


async def _refused(answer: aiohttp.ClientResponse, credential: ModelCredential | None) -> Response:
    """An error as it came, but for the credential; a redirect, which would lead the pod elsewhere, as an error."""
    log.info("model refused a request", status=answer.status, request_id=answer.headers.get("request-id"))
    if answer.status < 400:
        redirect = UpstreamUnreachable("The model's address answers with a redirect; the platform follows none.")
        return _final(model_error(redirect))
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
    """Claude does not send the request again. It would, for three minutes, also after a wrong key."""
    response.headers["x-should-retry"] = "false"
    return response


def _head(answer: aiohttp.ClientResponse, credential: ModelCredential | None) -> Message:
    passed = headers.to_pod(answer.headers.items(), credential.value if credential else None)
    return {"type": "http.response.start", "status": answer.status, "headers": passed}


async def _answer(response: Response, scope: Scope, receive: Receive, send: Send) -> str:
    await response(scope, receive, send)
    return str(response.status_code)
