"""What a connector's server offers, asked by the `mcp` library: both generations of the protocol, JSON and streams."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import aiohttp
import httpx2
import mcp_types
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from komputer.domain.config import Config
from komputer.domain.connector import Connector
from komputer.domain.errors import Conflict, ServerFailed, Unavailable
from komputer.kube import Cluster
from komputer.redis.connector_health import ConnectorHealth
from komputer.services.connectors.credentials import ConnectorCredential, Credentials
from komputer.services.connectors.egress import EgressClient
from komputer.services.connectors.failures import of_status

WITHIN_S: Final = 15.0
"""All of it: the handshake and every page."""
PAGES: Final = 50
TOOLS_LIMIT: Final = 1_000
"""More are not shown: a model could not choose among them either."""
NAME_LIMIT: Final = 256
DESCRIPTION_LIMIT: Final = 8_000
ANSWERS_LIMIT_BYTES: Final = 4 * 2**20
"""Of the whole exchange: the handshake and every page. A thousand tools with schemas of 2 KiB take half of it."""
VALUES_LIMIT: Final = 200_000
"""Of JSON values in it, by the marks before them. What a text takes when it is parsed depends on these and not on its
length: 1 MiB of `{},{},` takes 320 MB. A thousand tools with schemas of 2 KiB have about 120 000."""


class ToolListings:
    """Asks with the connector's credential, and writes down what came of it."""

    def __init__(
        self, cluster: Cluster, outward: EgressClient, health: ConnectorHealth, configs: Callable[[], Sequence[Config]]
    ) -> None:
        self._credentials = Credentials(cluster, kept_s=0.0)
        self._outward = outward
        self._health = health
        self._configs = configs

    async def of(self, connector: Connector) -> list[dict[str, Any]]:
        """Raises `ServerFailed`; `Conflict` for a connector that is disabled."""
        name = connector.metadata.name
        if connector.spec.disabled:
            raise Conflict(f"connector {name!r} is disabled; enable it first", code="connector_disabled")
        try:
            credential = await self._credentials.of(connector, self._configs())
            tools = await tools_of(self._outward, connector.spec.url, credential)
        except ServerFailed as failure:
            await self._note(connector, failure.code, failure.message)
            raise ServerFailed(f"connector {name!r}: {failure.message}", code=failure.code) from None
        await self._note(connector, "", "")
        return tools

    async def _note(self, connector: Connector, code: str, reason: str) -> None:
        with contextlib.suppress(Unavailable):
            await self._health.note(connector.ref, connector.metadata.uid, code, reason)


async def tools_of(outward: EgressClient, url: str, credential: ConnectorCredential | None) -> list[dict[str, Any]]:
    """Name and description of each tool. Raises `ServerFailed`."""
    way = _Through(outward, credential)
    try:
        async with asyncio.timeout(WITHIN_S):
            return await _listed(way, url)
    except TimeoutError:
        if way.failure:
            raise way.failure from None
        raise ServerFailed(
            f"The server has not told its tools within {WITHIN_S:.0f} s; see that it is well.", code="mcp_timeout"
        ) from None
    except Exception as error:  # the library's border: it raises groups of many kinds
        if way.failure:
            raise way.failure from None
        raise _translated(error) from None


async def _listed(way: "_Through", url: str) -> list[dict[str, Any]]:
    async with (
        httpx2.AsyncClient(transport=way, trust_env=False, timeout=WITHIN_S) as http,
        Client(streamable_http_client(url, http_client=http), read_timeout_seconds=WITHIN_S) as client,
    ):
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        for _ in range(PAGES):
            page = await client.list_tools(cursor=cursor)
            found += [_tool(tool) for tool in page.tools[: TOOLS_LIMIT - len(found)]]
            cursor = page.next_cursor
            if not cursor or len(found) == TOOLS_LIMIT:
                break
        return found


def _tool(tool: mcp_types.Tool) -> dict[str, Any]:
    return {"name": tool.name[:NAME_LIMIT], "description": (tool.description or "")[:DESCRIPTION_LIMIT]}


def _translated(error: BaseException) -> ServerFailed:
    """What the library says, in one sentence; of a group the first cause."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, ServerFailed):
        return error
    if isinstance(error, MCPError):
        return ServerFailed(
            f"The server answers with an error of its own ({error.error.code}); see that the connector's url is that "
            "of an MCP endpoint.",
            code="mcp_protocol",
        )
    return ServerFailed(
        f"The server does not speak MCP over streamable HTTP as we know it ({type(error).__name__}); see that the "
        "connector's url is that of an MCP endpoint.",
        code="mcp_protocol",
    )


class _Through(httpx2.AsyncBaseTransport):
    """The library's requests by our way out. `failure` is the last that the library would tell in words of its own."""

    def __init__(self, outward: EgressClient, credential: ConnectorCredential | None) -> None:
        self._outward = outward
        self._credential = credential
        self._bytes_left = ANSWERS_LIMIT_BYTES
        self._values_left = VALUES_LIMIT
        self.failure: ServerFailed | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.take(b"")
        headers = [
            (name, value)
            for name, value in request.headers.multi_items()
            if name in ("accept", "content-type", "user-agent", "last-event-id") or name.startswith("mcp-")
        ]
        headers.append(("accept-encoding", "identity"))
        if self._credential:
            headers.append((self._credential.name, self._credential.value))
        body = await request.aread()
        exchange = self._outward.request(request.method, str(request.url), headers, body or None)
        try:
            answer = await exchange.__aenter__()
        except ServerFailed as failure:
            self.failure = failure
            raise httpx2.ConnectError("not reached", request=request) from failure
        if request.method == "POST":
            self.failure = of_status(answer.status, begins="mcp-session-id" not in request.headers)
        if any(coding.lower() != "identity" for coding in answer.headers.getall("content-encoding", ())):
            # The library would decode it, to whatever size.
            await exchange.__aexit__(None, None, None)
            self.failure = self.failure or ServerFailed(
                "The server compresses its answers without being asked to; turn that off for the connector's url.",
                code="mcp_protocol",
            )
            raise httpx2.ReadError("compressed", request=request)
        passed = [(name, value) for name, value in answer.headers.items() if name.lower() != "location"]
        return httpx2.Response(answer.status, headers=passed, stream=_Stream(exchange, answer, self), request=request)

    def take(self, chunk: bytes) -> None:
        """Counts what came, over all answers. Raises `httpx2.ReadError` for the first byte that is too much, and
        for every one after it: the library asks again where an answer breaks off."""
        self._bytes_left -= len(chunk)
        self._values_left -= sum(chunk.count(mark) for mark in (b",", b"[", b"{"))
        if self._bytes_left < 0 or self._values_left < 0:
            self.failure = ServerFailed(
                "The server tells more of its tools than is taken: "
                f"{ANSWERS_LIMIT_BYTES // 2**20} MiB and {VALUES_LIMIT} values of JSON; let it offer fewer tools.",
                code="mcp_protocol",
            )
            raise httpx2.ReadError("too much")


class _Stream(httpx2.AsyncByteStream):
    def __init__(self, exchange: Any, answer: aiohttp.ClientResponse, way: _Through) -> None:
        self._exchange = exchange
        self._answer = answer
        self._way = way

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._answer.content.iter_any():
                self._way.take(chunk)
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise httpx2.ReadError(type(error).__name__) from error

    async def aclose(self) -> None:
        await self._exchange.__aexit__(None, None, None)
