"""The loopback server for model and connectors inside the pod: it forwards Claude's requests to the gateway with the
pod's present token.

Claude gets a key that is valid for one attempt and on this port only. So the pod's token is never in Claude's
environment, and the kubelet may replace it while Claude runs.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, MutableMapping
from typing import Any, Final

import httpx
import uvicorn

from komputer.domain.errors import Unavailable
from komputer.http import descriptors
from komputer.http import server as http
from komputer.http.limits import Limits
from komputer.http.refusals import as_messages_api
from komputer.protocol import older
from komputer.runtime import mcp_proxy
from komputer.runtime.gateway_client import CONNECT_S, GatewayClient

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

LIMITS: Final = Limits(connections=512, connections_per_address=512)
"""Limits of the loopback server. Claude uses one connection per request, and ten tools and 64 connectors may each have
several."""
PATHS: Final = ("/v1/messages", "/v1/messages/count_tokens")
CONNECTOR: Final = re.compile(r"/connectors/[a-z0-9-]{1,63}")
CONNECTOR_METHODS: Final = ("POST", "GET", "DELETE")
HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Headers that concern one connection only, like those that `connection` lists (RFC 9110, 7.6.1)."""
DISMISSALS: Final = frozenset({401, 403, 410})
POD_CODES: Final = frozenset({"unauthorized", "not_current_pod", "agent_gone"}) | older.POD_CODES
"""Error codes by which the gateway refuses a request because of the pod. Errors of the model have no `code` at the top
level."""
_OURS: Final = frozenset({b"host", b"authorization", b"x-api-key", b"content-length", b"expect"})


class Forwarder:
    """The server at the loopback address. `url` is Claude's ANTHROPIC_BASE_URL. `last_byte_at` is the event loop's time
    of the last byte that the model sent, for the watchdog."""

    def __init__(self, gateway: GatewayClient, limits: Limits = LIMITS) -> None:
        self._gateway = gateway
        self._limits = limits
        self._key = ""
        self._server: uvicorn.Server | None = None
        self._socket: socket.socket | None = None
        self.url = ""
        self.last_byte_at = 0.0

    async def start(self) -> None:
        """Listen on a free loopback port. No key is valid yet."""
        descriptors.raise_limit()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = http.config(
            self._application,
            limits=self._limits,
            refusal=as_messages_api,
            interface="asgi3",
            proxy_headers=False,
            lifespan="off",
            date_header=False,
            timeout_graceful_shutdown=1,
        )
        # uvicorn's `serve` is not used: it wakes up ten times a second, and replaces the process's signal handlers.
        config.load()
        self._server = uvicorn.Server(config)
        self._server.lifespan = config.lifespan_class(config)
        await self._server.startup(sockets=[self._socket])

    def new_key(self) -> str:
        """Return the key for one attempt; the previous key becomes invalid."""
        self._key = secrets.token_urlsafe(32)
        return self._key

    def revoke(self) -> None:
        self._key = ""

    async def close(self) -> None:
        if self._server and self._socket:
            await self._server.shutdown(sockets=[self._socket])
            self._socket.close()

    async def _application(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers: Headers = scope["headers"]
        if not self._is_allowed(headers):
            await _refuse(send, 401, "authentication_error", "This key is not that of the present task.")
        elif not (methods := _methods(scope["path"])):
            await _refuse(send, 404, "not_found_error", "Only the Messages API and connectors are forwarded.")
        elif scope["method"] not in methods:
            allow = ", ".join(["HEAD", *methods] if "GET" in methods else methods)
            sentence = f"{scope['path']} does not take {scope['method']}."
            await _refuse(send, 405, "invalid_request_error", sentence, (b"allow", allow.encode()))
        elif scope["path"] in PATHS:
            await self._forward(f"/model{scope['path']}", scope, headers, receive, send)
        elif scope["path"] == mcp_proxy.PATH:
            await self._manage(headers, receive, send)
        else:
            await self._forward(scope["path"], scope, headers, receive, send)

    def _is_allowed(self, headers: Headers) -> bool:
        given = [value.removeprefix(b"Bearer ") for name, value in headers if name in (b"x-api-key", b"authorization")]
        key = self._key.encode()
        return bool(key) and any(hmac.compare_digest(value, key) for value in given)

    async def _forward(self, path: str, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        client = _Client(receive)
        await _until_disconnected(client, self._answer(path, scope, headers, client, send))

    async def _manage(self, headers: Headers, receive: Receive, send: Send) -> None:
        client = _Client(receive)

        async def answer() -> None:
            body = b"".join([chunk async for chunk in client.body()])
            await mcp_proxy.ManagerCall(self._gateway, headers, body, send).run()

        await _until_disconnected(client, answer())

    async def _answer(self, path: str, scope: Scope, headers: Headers, client: _Client, send: Send) -> None:
        """Forward the request and stream the answer. If the gateway refuses the pod itself, answer with 503, which
        Claude retries. Raises `ConnectionResetError` if the answer breaks off."""
        query = scope["query_string"].decode("latin-1")
        url = path + (f"?{query}" if query else "")
        is_model = path.startswith("/model/")
        try:
            passed = [pair for pair in end_to_end(headers) if pair[0] not in _OURS]
            passed += [(name.encode(), value.encode()) for name, value in self._gateway.authorization().items()]
            # With `content-length` the body is sent unchanged. Without it httpx would use chunked encoding.
            passed += [pair for pair in headers if pair[0] == b"content-length"]
            request = self._gateway.http.build_request(
                scope["method"],
                url,
                headers=passed,
                content=client.body(),
                timeout=httpx.Timeout(None, connect=CONNECT_S),
            )
            response = await self._gateway.http.send(request, stream=True)
        except (httpx.HTTPError, Unavailable) as error:
            what = "model" if is_model else "connector"
            log.warning(f"{what} request not forwarded", extra={"path": path, "error": repr(error)})
            await _refuse(send, 502, "api_error", "The platform's gateway cannot be reached.")
            return
        try:
            self._note_byte(is_model)
            answered = [(name.lower(), value) for name, value in response.headers.raw]
            start = {"type": "http.response.start", "status": response.status_code, "headers": end_to_end(answered)}
            if response.status_code in DISMISSALS:
                refusal = b"".join([chunk async for chunk in response.aiter_raw()])
                if is_about_the_pod(refusal):
                    await _refuse(send, 503, "api_error", "The platform's gateway does not accept this pod at present.")
                    return
                await send(start)
                await send({"type": "http.response.body", "body": refusal})
                return
            await send(start)
            async for chunk in response.aiter_raw():
                self._note_byte(is_model)
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except httpx.HTTPError as error:
            # The last chunk is not sent, so Claude detects that the answer is incomplete.
            raise ConnectionResetError(f"the answer is incomplete: {error!r}") from error
        finally:
            await response.aclose()

    def _note_byte(self, is_model: bool) -> None:
        """Record the time if the model has sent something. Bytes of a connector are ignored."""
        if is_model:
            self.last_byte_at = asyncio.get_running_loop().time()


class _Client:
    """The client of one request. `body` yields the request's body, `disconnected` waits for the disconnect after it."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._body_is_complete = asyncio.Event()
        self._has_left = asyncio.Event()

    async def body(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._has_left.set()
                raise httpx.ReadError("the client disconnected")
            more = message.get("more_body", False)
            if message.get("body"):
                yield message["body"]
        self._body_is_complete.set()

    async def disconnected(self) -> None:
        await self._body_is_complete.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


def end_to_end(headers: Headers) -> Headers:
    """Return the headers without those that concern one connection only. Names must be lower case."""
    named = {token.strip().lower() for name, value in headers if name == b"connection" for token in value.split(b",")}
    return [(name, value) for name, value in headers if name not in HOP_BY_HOP and name not in named]


def is_about_the_pod(refusal: bytes) -> bool:
    """Whether the gateway refused a request because of the pod: its token is invalid, or it is not the agent's current
    pod any more.

    Claude must not get such an error, since the task would end with it: a new token, or the next pod, will be accepted.
    """
    try:
        body = json.loads(refusal)
    except ValueError:
        return False
    return isinstance(body, dict) and body.get("code") in POD_CODES


def _methods(path: str) -> tuple[str, ...]:
    """Return the methods of a path that is forwarded; empty for any other path."""
    if path in PATHS or path == mcp_proxy.PATH:
        return ("POST",)
    return CONNECTOR_METHODS if CONNECTOR.fullmatch(path) else ()


async def _refuse(send: Send, status: int, kind: str, message: str, *more: tuple[bytes, bytes]) -> None:
    """Send an error in the shape of the Messages API. Claude decides by it whether to retry."""
    body = json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _until_disconnected(client: _Client, answer: Coroutine[Any, Any, None]) -> None:
    """Run `answer`, and cancel it as soon as the client disconnects."""
    answering, leaving = asyncio.ensure_future(answer), asyncio.ensure_future(client.disconnected())
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        if not answering.done():
            answering.cancel()
        await asyncio.gather(answering, leaving, return_exceptions=True)
    if not answering.cancelled():
        answering.result()
