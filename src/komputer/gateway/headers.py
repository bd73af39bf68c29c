"""Decides which headers pass between a pod and the model's address, or a connector's server. Names are lower case."""

from collections.abc import Iterable
from typing import Final

from komputer.gateway.settings import ModelCredential
from komputer.services.connectors.credentials import ConnectorCredential as ServerCredential

RawHeaders = Iterable[tuple[bytes, bytes]]

PASSED: Final = frozenset(
    {"accept", "accept-language", "content-type", "user-agent", "anthropic-version", "anthropic-beta", "x-app"}
)
PASSED_PREFIXES: Final = ("x-stainless-", "x-claude-code-")
"""Prefixes of the headers by which Claude describes itself to the Messages API. Only listed headers pass, so a pod's
token, cookies, proxy and hop-by-hop headers, and headers that select an account never do."""

MCP_PASSED: Final = frozenset({"accept", "content-type", "user-agent", "last-event-id"})
MCP_PREFIX: Final = "mcp-"
"""Prefix of MCP's headers: session and protocol version. Later versions of MCP also repeat parts of the body in
headers."""

HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that concern one connection only, like those that `connection` lists (RFC 9110, 7.6.1)."""
NOT_RETURNED: Final = HOP_BY_HOP | {
    "alt-svc",
    "anthropic-organization-id",
    "server",
    "set-cookie",
    "strict-transport-security",
    "via",
    "www-authenticate",
}
"""Headers of an answer that are not passed to the pod: they describe the upstream, or an account there, and not the
answer. The gateway's HTTP server adds its own `date`."""


def to_model(headers: RawHeaders, credential: ModelCredential | None) -> list[tuple[str, str]]:
    """Return the headers for the model's address, with the platform's credential.

    The only content coding that is requested is gzip, if Claude accepts it: the gateway must be able to decode an
    error's body to remove the credential.
    """
    text = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers]
    passed = [(name, value) for name, value in text if name in PASSED or name.startswith(PASSED_PREFIXES)]
    codings = ",".join(value for name, value in text if name == "accept-encoding")
    passed.append(("accept-encoding", "gzip" if takes_gzip(codings) else "identity"))
    return [*passed, credential.header] if credential else passed


def to_server(headers: RawHeaders, credential: ServerCredential | None) -> list[tuple[str, str]]:
    """Return the headers for a connector's server, with the connector's credential. No content coding is requested, so
    that the credential can be removed from the answer."""
    text = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers]
    passed = [(name, value) for name, value in text if name in MCP_PASSED or name.startswith(MCP_PREFIX)]
    passed.append(("accept-encoding", "identity"))
    if credential is None:
        return passed
    return [pair for pair in passed if pair[0] != credential.name] + [(credential.name, credential.value)]


def takes_gzip(accept_encoding: str) -> bool:
    """Whether the header lists gzip, and not with a quality of zero."""
    for part in accept_encoding.lower().split(","):
        coding, _, parameter = part.partition(";")
        if coding.strip() == "gzip":
            return parameter.replace(" ", "").rstrip("0") not in ("q=", "q=.", "q=0.")
    return False


def to_pod(headers: Iterable[tuple[str, str]], secret: str | None) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer for the pod. `content-length` stays, since the body keeps its length. A header
    whose value contains `secret` is removed."""
    pairs = [(name.lower(), value) for name, value in headers]
    named = {part.strip().lower() for name, value in pairs if name == "connection" for part in value.split(",")}
    return [
        (name.encode("latin-1", "replace"), value.encode("latin-1", "replace"))
        for name, value in pairs
        if name not in NOT_RETURNED and name not in named and not (secret and secret in value)
    ]
