"""The way to a connector's server: for an agent's current pod, while a task of its is open, with the connector's
credential. MCP over streamable HTTP is passed on as it is; what goes wrong is told in MCP's own shape."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import aiohttp
import orjson
import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from komputer.domain.config import Config
from komputer.domain.connector import Connector, is_connector_name
from komputer.domain.errors import Forbidden, Invalid, KomputerError, NotFound, ServerFailed, Unavailable
from komputer.gateway import bodies, headers
from komputer.gateway.agents.identity import Identity, PodIdentity
from komputer.gateway.agents.open_tasks import OpenTasks
from komputer.gateway.connectors.redaction import Redaction
from komputer.gateway.errors import door_answer, door_error, status_of
from komputer.gateway.quota import Quota, Take
from komputer.gateway.settings import GatewaySettings
from komputer.http.json_values import has_more_values
from komputer.kube import Cache, Cluster
from komputer.redis.connector_health import ConnectorHealth
from komputer.services.connectors.credentials import ConnectorCredential, Credentials
from komputer.services.connectors.egress import EgressClient
from komputer.services.connectors.failures import of_status
from komputer.services.connectors.reader import typed

log = structlog.get_logger(__name__)

METHODS: Final = ("POST", "GET", "DELETE")
BODY_LIMIT_BYTES: Final = 8 * 2**20
"""Of one message to a server: a file or a picture as a tool's argument."""
ANSWER_LIMIT_BYTES: Final = 32 * 2**20
"""Of one answer that is no stream. Claude takes 64 MiB on one line."""
SERVER_ERROR: Final = -32000
"""JSON-RPC's first code for what is wrong on the server's side; the slug stands in `data.code`."""


class ConnectorProxy:
    """An ASGI app for `/connectors/{name}`."""

    def __init__(
        self,
        settings: GatewaySettings,
        cluster: Cluster,
        identity: Identity,
        health: ConnectorHealth,
        open_tasks: OpenTasks,
        connectors: Cache,
        outward: EgressClient,
        configs: Callable[[], Sequence[Config]],
        held_bytes: Quota,
    ) -> None:
        self._identity = identity
        self._health = health
        self._open_tasks = open_tasks
        self._connectors = connectors
        self._outward = outward
        self._credentials = Credentials(cluster)
        self._configs = configs
        self._under_way = Quota(
            "connector requests", settings.max_connector_requests, settings.max_connector_requests_of_agent
        )
        self._held_bytes = held_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.ExitStack() as held:
            await self._serve(scope, receive, send, held)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, held: contextlib.ExitStack) -> None:
        try:
            caller = await self._identity.caller(scope["headers"])
            held.enter_context(self._under_way.held(caller.key.uid, 1))
            body = await self._message(scope, receive, held.enter_context(self._held_bytes.held(caller.key.uid)))
        except bodies.ClientLeft:
            return
        except KomputerError as error:
            await door_error(error)(scope, receive, send)
            return
        with contextlib.suppress(bodies.ClientLeft):
            await bodies.while_there(self._answer(caller, scope, receive, send, body), receive)

    async def _message(self, scope: Scope, receive: Receive, take: Take) -> bytes | None:
        """The body of a POST. Raises `Invalid`, and as `take` does."""
        if scope["query_string"]:
            raise Invalid("A connector takes no query.", code="query_not_allowed")
        if scope["method"] != "POST":
            return None
        return await bodies.read(receive, scope["headers"], BODY_LIMIT_BYTES, take)

    async def _answer(
        self, caller: PodIdentity, scope: Scope, receive: Receive, send: Send, body: bytes | None
    ) -> None:
        """Pass it on, or say in MCP's shape why not. An answer that has begun and breaks off is cut, so that the
        agent's client sees it."""
        connector: Connector | None = None
        try:
            connector = await self._admitted(caller, scope["path_params"]["name"])
            credential = await self._credentials.of(connector, self._configs())
            failure = await self._pass_on(connector, credential, scope, send, body)
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
            told = ServerFailed(f"Connector {scope['path_params']['name']!r}: {failure.message}", code=failure.code)
            await _refusal(told, body)(scope, receive, send)

    async def _admitted(self, caller: PodIdentity, name: str) -> Connector:
        """The connector, where the agent has an open task and its spec names the connector now."""
        await self._open_tasks.of(caller)
        if name not in (caller.agent.spec.connectors or ()) or not is_connector_name(name):
            raise Forbidden(
                f"Connector {name[:100]!r} is not attached to agent {caller.agent.metadata.name!r} any more.",
                code="connector_not_attached",
            )
        manifest = await self._connectors.find(caller.key.namespace, name)
        if manifest is None:
            raise NotFound(f"There is no connector {name[:100]!r}; it was deleted.", code="connector_not_found")
        connector = typed(manifest)
        if connector.spec.disabled:
            raise Forbidden(f"Connector {name!r} is disabled.", code="connector_disabled")
        return connector

    async def _pass_on(
        self, connector: Connector, credential: ConnectorCredential | None, scope: Scope, send: Send, body: bytes | None
    ) -> ServerFailed | None:
        """None where the server's own answer was passed on, be it an error. Raises `ServerFailed` where it is not
        reached."""
        sent = headers.to_server(scope["headers"], credential)
        async with self._outward.request(scope["method"], connector.spec.url, sent, body) as answer:
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
        """Ends without a last chunk where the answer breaks off or is too large: then our server cuts the connection,
        so that the agent's client sees it."""
        if answer.status < 400:
            await self._note(connector, None)
        is_stream = answer.content_type == "text/event-stream"
        size = 0
        try:
            async for chunk in answer.content.iter_any():
                size += len(chunk)
                if size > ANSWER_LIMIT_BYTES and not is_stream:
                    log.warning("connector's answer cut", connector=connector.key, limit_bytes=ANSWER_LIMIT_BYTES)
                    return
                if clean := redaction.feed(chunk):
                    await send({"type": "http.response.body", "body": clean, "more_body": True})
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("connector broke off its answer", connector=connector.key, error=type(error).__name__)
            return
        await send({"type": "http.response.body", "body": redaction.rest()})

    async def _note(self, connector: Connector, failure: ServerFailed | None) -> None:
        code, reason = (failure.code, failure.message) if failure else ("", "")
        with contextlib.suppress(Unavailable):
            await self._health.note(connector.ref, connector.metadata.uid, code, reason)


def _refusal(error: KomputerError, body: bytes | None) -> Response:
    """To a request of MCP its error, which clients show to the agent; to all else a status."""
    if (request_id := asked(body)) is None:
        status = 502 if isinstance(error, ServerFailed) else status_of(error)
        # 401, 403 and 410 would say that the pod is not let in; 404 that a session is gone.
        return door_answer(502 if status in (401, 403, 404, 410) else status, error.message, error.code)
    told = {"code": SERVER_ERROR, "message": error.message, "data": {"code": error.code}}
    answer = {"jsonrpc": "2.0", "id": request_id, "error": told}
    return Response(orjson.dumps(answer), media_type="application/json")


def asked(body: bytes | None) -> str | int | None:
    """The id of the JSON-RPC request that this is, or None where it is none that waits for an answer."""
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
