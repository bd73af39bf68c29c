"""Forwards MCP requests to a connector's server: for an agent's current pod with an open task, with the connector's
credential. Streamable HTTP passes unchanged; errors of the platform have MCP's shape."""

import contextlib
from typing import Any, Final

import aiohttp
import orjson
import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from komputer.domain.connector import Connector
from komputer.domain.errors import Invalid, KomputerError, ServerFailed, Unavailable
from komputer.gateway import bodies, headers
from komputer.gateway.agents.access import PodAccess
from komputer.gateway.agents.identity import PodIdentity
from komputer.gateway.connectors.directory import ConnectorDirectory
from komputer.gateway.connectors.redaction import Redaction
from komputer.gateway.errors import error_response, json_error, status_of
from komputer.gateway.quota import Quotas, Take
from komputer.http.json_values import has_more_values
from komputer.redis.connector_health import ConnectorHealth
from komputer.services.connectors.credentials import ConnectorCredential
from komputer.services.connectors.egress import EgressClient
from komputer.services.connectors.failures import of_status

log = structlog.get_logger(__name__)

METHODS: Final = ("POST", "GET", "DELETE")
BODY_LIMIT_BYTES: Final = 8 * 2**20
"""The largest message to a server: a file or a picture as a tool's argument."""
ANSWER_LIMIT_BYTES: Final = 32 * 2**20
"""The largest answer that is not a stream. Claude accepts lines of 64 MiB."""
SERVER_ERROR: Final = -32000
"""The first of JSON-RPC's codes for server errors. The platform's error code is in `data.code`."""


class ConnectorProxy:
    """An ASGI app for `/connectors/{name}`."""

    def __init__(
        self,
        access: PodAccess,
        directory: ConnectorDirectory,
        egress: EgressClient,
        quotas: Quotas,
        health: ConnectorHealth,
    ) -> None:
        self._access = access
        self._directory = directory
        self._egress = egress
        self._quotas = quotas
        self._health = health

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.ExitStack() as held:
            await self._serve(scope, receive, send, held)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, held: contextlib.ExitStack) -> None:
        try:
            caller = await self._access.caller(scope["headers"])
            held.enter_context(self._quotas.connector_requests.held(caller.key.uid, 1))
            body = await self._message(scope, receive, held.enter_context(self._quotas.held_bytes.held(caller.key.uid)))
        except bodies.ClientLeft:
            return
        except KomputerError as error:
            await error_response(error)(scope, receive, send)
            return
        with contextlib.suppress(bodies.ClientLeft):
            await bodies.until_disconnected(self._answer(caller, scope, receive, send, body), receive)

    async def _message(self, scope: Scope, receive: Receive, take: Take) -> bytes | None:
        """Return the body of a POST; None for other methods. Raises `Invalid`, and the errors of `take`."""
        if scope["query_string"]:
            raise Invalid("A connector takes no query.", code="query_not_allowed")
        if scope["method"] != "POST":
            return None
        return await bodies.read(receive, scope["headers"], BODY_LIMIT_BYTES, take)

    async def _answer(
        self, caller: PodIdentity, scope: Scope, receive: Receive, send: Send, body: bytes | None
    ) -> None:
        """Forward the request, or answer with an error in MCP's shape. If the server aborts its answer, the connection
        to the pod is aborted too, so that the agent's client detects it."""
        connector: Connector | None = None
        try:
            await self._access.open_task(caller)
            connector = await self._directory.attached(caller, scope["path_params"]["name"])
            credential = await self._directory.credential(connector)
            failure = await self._forward(connector, credential, scope, send, body)
        except ServerFailed as failed:
            failure = failed
        except KomputerError as error:
            await _refusal(error, body)(scope, receive, send)
            return
        if failure is not None:
            if connector is not None:
                await self._note(connector, failure)
            log.info(
                "connector failed", agent=caller.agent.key, connector=scope["path_params"]["name"], code=failure.code
            )
            shown = ServerFailed(f"Connector {scope['path_params']['name']!r}: {failure.message}", code=failure.code)
            await _refusal(shown, body)(scope, receive, send)

    async def _forward(
        self, connector: Connector, credential: ConnectorCredential | None, scope: Scope, send: Send, body: bytes | None
    ) -> ServerFailed | None:
        """Forward the request, and the server's answer even if that is an error. Return the failure if nothing was sent
        to the pod. Raises `ServerFailed` if the server cannot be reached."""
        sent = headers.to_server(scope["headers"], credential)
        async with self._egress.request(scope["method"], connector.spec.url, sent, body) as answer:
            has_session = any(name == b"mcp-session-id" for name, _ in scope["headers"])
            if failure := of_status(answer.status, begins=body is not None and not has_session):
                return failure
            if answer.headers.get("content-encoding", "identity").lower() != "identity":
                return ServerFailed("The server compresses its answers without being asked to.", code="mcp_protocol")
            secret = credential.secret if credential else None
            passed = headers.to_pod(answer.headers.items(), secret)
            await send({"type": "http.response.start", "status": answer.status, "headers": passed})
            await self._stream(connector, answer, Redaction(secret), send)
        return None

    async def _stream(
        self, connector: Connector, answer: aiohttp.ClientResponse, redaction: Redaction, send: Send
    ) -> None:
        """Send the body as it arrives. If the body is aborted or too large, the last chunk is not sent. The HTTP server
        then closes the connection, and the agent's client detects it."""
        if answer.status < 400:
            await self._note(connector, None)
        is_stream = answer.content_type == "text/event-stream"
        size = 0
        try:
            async for chunk in answer.content.iter_any():
                size += len(chunk)
                if size > ANSWER_LIMIT_BYTES and not is_stream:
                    log.warning("connector's answer too large", connector=connector.key, limit_bytes=ANSWER_LIMIT_BYTES)
                    return
                if clean := redaction.feed(chunk):
                    await send({"type": "http.response.body", "body": clean, "more_body": True})
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("connector aborted its answer", connector=connector.key, error=type(error).__name__)
            return
        await send({"type": "http.response.body", "body": redaction.rest()})

    async def _note(self, connector: Connector, failure: ServerFailed | None) -> None:
        code, reason = (failure.code, failure.message) if failure else ("", "")
        with contextlib.suppress(Unavailable):
            await self._health.note(connector.ref, connector.metadata.uid, code, reason)


def _refusal(error: KomputerError, body: bytes | None) -> Response:
    """Return a JSON-RPC error if the body is a JSON-RPC request: clients show it to the agent. Return an error with an
    HTTP status for anything else."""
    if (request_id := request_id_of(body)) is None:
        status = 502 if isinstance(error, ServerFailed) else status_of(error)
        # 401, 403 and 410 could be taken for a dismissal of the pod, and 404 for the end of the MCP session.
        return json_error(502 if status in (401, 403, 404, 410) else status, error.message, error.code)
    failure = {"code": SERVER_ERROR, "message": error.message, "data": {"code": error.code}}
    answer = {"jsonrpc": "2.0", "id": request_id, "error": failure}
    return Response(orjson.dumps(answer), media_type="application/json")


def request_id_of(body: bytes | None) -> str | int | None:
    """Return the id of a JSON-RPC request; None for anything that does not expect an answer."""
    if body is None or has_more_values(body, bodies.VALUES_LIMIT):
        return None
    try:
        message: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(message, dict) or "method" not in message:
        return None
    request_id = message.get("id")
    return request_id if isinstance(request_id, str | int) and not isinstance(request_id, bool) else None
