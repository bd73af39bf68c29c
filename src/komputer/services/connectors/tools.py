"""Lists the tools of a connector's server with the `mcp` library, which speaks all versions of the protocol."""

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

from komputer.domain.base import WireModel
from komputer.domain.config import Config
from komputer.domain.connector import Connector
from komputer.domain.errors import Conflict, ServerFailed, Unavailable
from komputer.kube import Cluster
from komputer.redis.connector_health import ConnectorHealth
from komputer.services.connectors.credentials import ConnectorCredential, CredentialReader
from komputer.services.connectors.egress import EgressClient
from komputer.services.connectors.failures import of_status

TIMEOUT_S: Final = 15.0
"""Time limit of the whole exchange in seconds: the handshake and all pages."""
PAGES: Final = 50
TOOLS_LIMIT: Final = 1_000
"""Maximum number of tools in the answer: a model could not choose among more either."""
NAME_LIMIT: Final = 256
DESCRIPTION_LIMIT: Final = 8_000
EXCHANGE_LIMIT_BYTES: Final = 4 * 2**20
"""Maximum size of the handshake and all pages. A thousand tools with schemas of 2 KiB take half of it."""
VALUES_LIMIT: Final = 200_000
"""Maximum number of JSON values in the exchange, counted by the characters that precede them. The memory that a parsed
text needs depends on their number and not on its length: 1 MiB of `{},{},` needs 320 MB. A thousand tools with schemas
of 2 KiB have about 120 000 values."""


class OfferedTool(WireModel):
    """A tool that a connector's server offers."""

    name: str
    description: str


class ToolListings:
    """Lists the tools of connectors and records the health of their servers."""

    def __init__(
        self, cluster: Cluster, egress: EgressClient, health: ConnectorHealth, configs: Callable[[], Sequence[Config]]
    ) -> None:
        self._credentials = CredentialReader(cluster, kept_s=0.0)
        self._egress = egress
        self._health = health
        self._configs = configs

    async def of(self, connector: Connector) -> list[OfferedTool]:
        """Return the tools of a connector. Raises `ServerFailed`, and `Conflict` if the connector is disabled."""
        name = connector.metadata.name
        if connector.spec.disabled:
            raise Conflict(f"connector {name!r} is disabled; enable it first", code="connector_disabled")
        try:
            credential = await self._credentials.of(connector, self._configs())
            tools = await tools_of(self._egress, connector.spec.url, credential)
        except ServerFailed as failure:
            await self._note(connector, failure.code, failure.message)
            raise ServerFailed(f"connector {name!r}: {failure.message}", code=failure.code) from None
        await self._note(connector, "", "")
        return tools

    async def _note(self, connector: Connector, code: str, reason: str) -> None:
        with contextlib.suppress(Unavailable):
            await self._health.note(connector.ref, connector.metadata.uid, code, reason)


async def tools_of(egress: EgressClient, url: str, credential: ConnectorCredential | None) -> list[OfferedTool]:
    """Return the tools of the server at `url`. Raises `ServerFailed`."""
    transport = _EgressTransport(egress, credential)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await _listed(transport, url)
    except TimeoutError:
        if transport.failure:
            raise transport.failure from None
        raise ServerFailed(
            f"The server has not listed its tools within {TIMEOUT_S:.0f} s; check that it works.", code="mcp_timeout"
        ) from None
    except Exception as error:  # the library raises exception groups of many kinds
        if transport.failure:
            raise transport.failure from None
        raise _translated(error) from None


async def _listed(transport: "_EgressTransport", url: str) -> list[OfferedTool]:
    async with (
        httpx2.AsyncClient(transport=transport, trust_env=False, timeout=TIMEOUT_S) as http,
        Client(streamable_http_client(url, http_client=http), read_timeout_seconds=TIMEOUT_S) as client,
    ):
        found: list[OfferedTool] = []
        cursor: str | None = None
        for _ in range(PAGES):
            page = await client.list_tools(cursor=cursor)
            found += [_tool(tool) for tool in page.tools[: TOOLS_LIMIT - len(found)]]
            cursor = page.next_cursor
            if not cursor or len(found) == TOOLS_LIMIT:
                break
        return found


def _tool(tool: mcp_types.Tool) -> OfferedTool:
    return OfferedTool(name=tool.name[:NAME_LIMIT], description=(tool.description or "")[:DESCRIPTION_LIMIT])


def _translated(error: BaseException) -> ServerFailed:
    """Return an error of the library as a `ServerFailed` with one sentence. Of an exception group, the first exception
    is used."""
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


class _EgressTransport(httpx2.AsyncBaseTransport):
    """Sends the library's requests through `EgressClient`. `failure` is the latest failure, which the library would
    report with a text of its own."""

    def __init__(self, egress: EgressClient, credential: ConnectorCredential | None) -> None:
        self._egress = egress
        self._credential = credential
        self._bytes_left = EXCHANGE_LIMIT_BYTES
        self._values_left = VALUES_LIMIT
        self.failure: ServerFailed | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.count(b"")
        headers = [
            (name, value)
            for name, value in request.headers.multi_items()
            if name in ("accept", "content-type", "user-agent", "last-event-id") or name.startswith("mcp-")
        ]
        headers.append(("accept-encoding", "identity"))
        if self._credential:
            headers.append((self._credential.name, self._credential.value))
        body = await request.aread()
        exchange = self._egress.request(request.method, str(request.url), headers, body or None)
        try:
            answer = await exchange.__aenter__()
        except ServerFailed as failure:
            self.failure = failure
            raise httpx2.ConnectError("not reached", request=request) from failure
        if request.method == "POST":
            self.failure = of_status(answer.status, begins="mcp-session-id" not in request.headers)
        if any(coding.lower() != "identity" for coding in answer.headers.getall("content-encoding", ())):
            # The library would decompress it without a limit.
            await exchange.__aexit__(None, None, None)
            self.failure = self.failure or ServerFailed(
                "The server compresses its answers without being asked to; turn that off for the connector's url.",
                code="mcp_protocol",
            )
            raise httpx2.ReadError("compressed", request=request)
        passed = [(name, value) for name, value in answer.headers.items() if name.lower() != "location"]
        return httpx2.Response(answer.status, headers=passed, stream=_Stream(exchange, answer, self), request=request)

    def count(self, chunk: bytes) -> None:
        """Count received bytes over all answers. Raises `httpx2.ReadError` once the limit is exceeded, at each call:
        the library repeats a request whose answer breaks off."""
        self._bytes_left -= len(chunk)
        self._values_left -= sum(chunk.count(mark) for mark in (b",", b"[", b"{"))
        if self._bytes_left < 0 or self._values_left < 0:
            self.failure = ServerFailed(
                f"The server's list of tools is larger than {EXCHANGE_LIMIT_BYTES // 2**20} MiB or {VALUES_LIMIT} JSON "
                "values; let it offer fewer tools.",
                code="mcp_protocol",
            )
            raise httpx2.ReadError("too much")


class _Stream(httpx2.AsyncByteStream):
    def __init__(self, exchange: Any, answer: aiohttp.ClientResponse, transport: _EgressTransport) -> None:
        self._exchange = exchange
        self._answer = answer
        self._transport = transport

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._answer.content.iter_any():
                self._transport.count(chunk)
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise httpx2.ReadError(type(error).__name__) from error

    async def aclose(self) -> None:
        await self._exchange.__aexit__(None, None, None)
