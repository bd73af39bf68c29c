"""Failures of a connector's server, as sentences that a person can act on. Pure."""

import ssl
from typing import Final

from komputer.domain.errors import ServerFailed

RETRYABLE: Final = frozenset({408, 425, 429})


class AddressRefused(OSError):
    """The address rules forbid the connection that was about to be opened."""


def of_status(status: int, *, begins: bool = False) -> ServerFailed | None:
    """Return the failure that an HTTP status means. None for statuses that are part of MCP: 400 (an unknown version),
    404 (an expired session, but not if the session `begins`), 405 (no stream from the server).
    """
    if begins and status in (404, 405):
        return ServerFailed(
            f"There is no MCP endpoint at the connector's url ({status}); see that its path is right.",
            code="mcp_protocol",
        )
    if status == 401:
        return ServerFailed(
            "The server does not accept the connector's credential (401): it is missing, wrong or expired; "
            "give the connector a new token.",
            code="mcp_unauthorized",
        )
    if status == 403:
        return ServerFailed(
            "The server refuses the connector's credential this (403): the token lacks a permission, or the address "
            "is not meant for it.",
            code="mcp_forbidden",
        )
    if 300 <= status < 400:
        return ServerFailed(
            f"The server answers with a redirect ({status}), which is not followed with a credential: set the "
            "connector's url to the final address.",
            code="mcp_redirect",
        )
    if status in RETRYABLE or status >= 500:
        return ServerFailed(
            f"The server answers {status}: it is overloaded or broken; try again later.", code="mcp_unavailable"
        )
    return None


def unreachable(error: BaseException) -> ServerFailed:
    """Return the failure of a connection that could not be established. It names no address: the caller may not be
    allowed to know what a name resolves to."""
    if isinstance(error, AddressRefused):
        return ServerFailed(f"The connector's url leads where it may not: {error}.", code="mcp_address_not_allowed")
    if isinstance(error, TimeoutError):
        return ServerFailed("The server does not answer in time; see that its url is right.", code="mcp_unreachable")
    cause = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
    if isinstance(cause, ssl.SSLError | ssl.CertificateError):
        return ServerFailed(
            "The server's certificate is not trusted, or it does not speak TLS; see that the connector's url is right.",
            code="mcp_unreachable",
        )
    return ServerFailed(
        f"The server cannot be reached ({type(cause).__name__}); see that the connector's url is right and that "
        "the server runs.",
        code="mcp_unreachable",
    )
