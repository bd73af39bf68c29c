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
    """One whose peer is noticed to be gone, since answers may take as long as they take."""
    family, kind, protocol, _, _ = info
    made = socket.socket(family, kind, protocol)
    for option in keepalive.socket_options():
        made.setsockopt(*option)
    return made


@functools.cache
def trusted() -> ssl.SSLContext:
    """The authorities that this process trusts: the system's, those of SSL_CERT_FILE and certifi's. Sessions share one
    context because reading the authorities takes 0.1 s of CPU."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def session(
    timeout: aiohttp.ClientTimeout, *, make_socket: Callable[[AddressInfo], socket.socket] = open_socket
) -> aiohttp.ClientSession:
    """A client that adds nothing of its own and takes bytes as they come. aiohttp rather than httpx: a third of the
    processor time per request."""
    # Idle connections are left after 15 s, so that no request is sent into one that the other side just closes.
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
    """Open between `start` and `close`. Follows no redirect and uses no proxy: an address is judged as it is connected
    to, and behind a proxy nobody could."""

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
        """The answer's head; its body is read within, and takes as long as it takes. Leaving early cuts the connection.
        Raises `ServerFailed` until the head is there; after that, what aiohttp raises."""
        try:
            check_url(url, self._rules)
        except Invalid as refused:
            raise ServerFailed(f"The connector's {refused.message}.", code="mcp_address_not_allowed") from None
        address = URL(url, encoded=True)
        client = self._https if address.scheme == "https" else self._http
        assert client is not None
        data = None if body is None else BytesIO(body)  # sent in pieces: a large one does not hold up the event loop
        try:
            response = await client.request(method, address, data=data, headers=list(headers), allow_redirects=False)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            cause = getattr(error, "os_error", error)
            raise unreachable(cause if isinstance(cause, AddressRefused) else error) from None
        try:
            yield response
        finally:
            response.close()  # of an answer that was read to its end the connection is kept

    def _socket(self, info: AddressInfo, *, is_https: bool) -> socket.socket:
        address = info[4]
        ip = ipaddress.ip_address(str(address[0]).partition("%")[0])
        if why := why_refused(ip, int(address[1]), self._rules, is_https=is_https):
            raise AddressRefused(why)
        return open_socket(info)
