"""The client of the model's address. It lives as long as the gateway, and its errors do not reveal the address."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from io import BytesIO
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass
from zlib import MAX_WBITS, decompressobj
from zlib import error as ZlibError

import aiohttp
from yarl import URL

from komputer.gateway.errors import UpstreamUnreachable
from komputer.gateway.settings import GatewaySettings, ModelCredential
from komputer.services.connectors.egress import session

ERROR_LIMIT_BYTES = 1024 * 1024
"""How much of an error's body is passed on."""
REDACTED = b"[redacted]"


class Upstream:
    """The HTTP client of the model's address; open between `start` and `close`."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.vertex = settings.vertex
        self.credential = settings.model_credential
        self._base = settings.model_base_url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(
            total=None,
            sock_connect=settings.connect_timeout.total_seconds(),
            sock_read=settings.silence_timeout.total_seconds(),
        )
        self._proxy = proxy_for(self._base)
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        self._session = session(self._timeout)

    async def close(self) -> None:
        if self._session:
            await self._session.close()

    @asynccontextmanager
    async def post(
        self, path: str, query: str, headers: Sequence[tuple[str, str]], body: bytes
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield the response after its head; read the body inside. Leaving early closes the connection.

        Raises `UpstreamUnreachable` until the head of the response has arrived, and aiohttp's errors after that.
        """
        assert self._session is not None
        url = URL(f"{self._base}{path}" + (f"?{query}" if query else ""), encoded=True)
        try:
            # A file is sent in chunks, so that a large body does not block the event loop.
            response = await self._session.post(
                url, data=BytesIO(body), headers=headers, allow_redirects=False, proxy=self._proxy
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise UpstreamUnreachable(
                f"The model's address cannot be reached ({type(error).__name__}); the platform's operator can see why."
            ) from None
        try:
            yield response
        finally:
            response.close()  # the connection is reused if the answer was read to its end


def proxy_for(base_url: str) -> str | None:
    """Return the environment's proxy for this address (HTTPS_PROXY, NO_PROXY, …)."""
    parts = urlsplit(base_url)
    if not parts.hostname or proxy_bypass(parts.hostname):
        return None
    return getproxies().get(parts.scheme)


def cleaned(body: bytes, coding: str, credential: ModelCredential | None) -> bytes:
    """Return an error's body decoded and without the credential, which some servers quote. Return an empty body for a
    content coding that was not requested: it cannot be decoded to search for the credential."""
    match coding.strip().lower():
        case "" | "identity":
            plain = body
        case "gzip":
            try:
                plain = decompressobj(MAX_WBITS | 16).decompress(body, ERROR_LIMIT_BYTES)
            except ZlibError:
                plain = b""
        case _:
            plain = b""
    return plain.replace(credential.value.encode(), REDACTED) if credential else plain
