"""The only HTTP client that calls the servers of connectors."""

import functools
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from io import BytesIO
from typing import Any

import aiohttp
import certifi
from yarl import URL

from komputer.domain.addresses import AddressRules, check_url, why_refused
from komputer.domain.errors import Invalid, ServerFailed
from komputer.http import keepalive
from komputer.services.connectors.failures import AddressRefused, unreachable

AddressInfo = tuple[Any, ...]


def open_socket(info: AddressInfo) -> socket.socket:
    """Return a socket that detects a vanished peer by keepalive probes, because answers have no time limit."""
    family, kind, protocol, _, _ = info
    made = socket.socket(family, kind, protocol)
    for option in keepalive.socket_options():
        made.setsockopt(*option)
    return made


@functools.cache
def trusted() -> ssl.SSLContext:
    """Return a TLS context with the authorities that this process trusts: the system's, those of SSL_CERT_FILE and
    certifi's. Sessions share one context, because reading the authorities takes 0.1 s of CPU."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def session(
    timeout: aiohttp.ClientTimeout, *, make_socket: Callable[[AddressInfo], socket.socket] = open_socket
) -> aiohttp.ClientSession:
    """Return an HTTP client that adds no headers and no cookies of its own, and does not decompress bodies. It is
    aiohttp rather than httpx, because it needs a third of the processor time per request."""
    # Idle connections are closed after 15 s, so that no request is sent on one that the server is just closing.
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=15, ssl=trusted(), socket_factory=make_socket)
    return aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("accept", "accept-encoding", "user-agent", "content-type"),
        timeout=timeout,
        trust_env=False,
    )


class EgressClient:
    """The client for the servers of connectors, open between `start` and `close`. It follows no redirect and uses no
    proxy: each address is checked when the connection to it is opened, and behind a proxy this would be impossible."""

    def __init__(self, rules: AddressRules, connect_timeout: timedelta = timedelta(seconds=10)) -> None:
        self._rules = rules
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout.total_seconds())
        self._https: aiohttp.ClientSession | None = None
        self._http: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        self._https = session(self._timeout, make_socket=lambda info: self._socket(info, is_https=True))
        self._http = session(self._timeout, make_socket=lambda info: self._socket(info, is_https=False))

    async def close(self) -> None:
        for each in (self._https, self._http):
            if each:
                await each.close()

    @asynccontextmanager
    async def request(
        self, method: str, url: str, headers: Sequence[tuple[str, str]], body: bytes | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and yield the response when its head has arrived. The body is read within the context, without
        a time limit. Leaving the context before the end of the body closes the connection. Raises `ServerFailed` until
        the head has arrived; after that, the errors of aiohttp."""
        try:
            check_url(url, self._rules)
        except Invalid as refused:
            raise ServerFailed(f"The connector's {refused.message}.", code="mcp_address_not_allowed") from None
        address = URL(url, encoded=True)
        client = self._https if address.scheme == "https" else self._http
        assert client is not None
        data = (
            None if body is None else BytesIO(body)
        )  # sent in pieces, so that a large one does not block the event loop
        try:
            response = await client.request(method, address, data=data, headers=list(headers), allow_redirects=False)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            cause = getattr(error, "os_error", error)
            raise unreachable(cause if isinstance(cause, AddressRefused) else error) from None
        try:
            yield response
        finally:
            response.close()  # keeps the connection if the response was read to its end

    def _socket(self, info: AddressInfo, *, is_https: bool) -> socket.socket:
        address = info[4]
        ip = ipaddress.ip_address(str(address[0]).partition("%")[0])
        if why := why_refused(ip, int(address[1]), self._rules, is_https=is_https):
            raise AddressRefused(why)
        return open_socket(info)
