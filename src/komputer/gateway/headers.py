"""Which headers pass between a pod and the model's address, or a connector's server. Plain values; names are lower
case."""

from collections.abc import Iterable
from typing import Final

from komputer.gateway.settings import ModelCredential
from komputer.services.connectors.credentials import ConnectorCredential as ServerCredential

RawHeaders = Iterable[tuple[bytes, bytes]]

PASSED: Final = frozenset(
    {"accept", "accept-language", "content-type", "user-agent", "anthropic-version", "anthropic-beta", "x-app"}
)
PASSED_PREFIXES: Final = ("x-stainless-", "x-claude-code-")
"""What Claude tells the Messages API of itself. A list of what passes, not of what does not: a pod's token, cookies,
proxies' and hop-by-hop headers, and whatever an account may be chosen by, stay here without being named."""

MCP_PASSED: Final = frozenset({"accept", "content-type", "user-agent", "last-event-id"})
MCP_PREFIX: Final = "mcp-"
"""Session, protocol version, and what later versions repeat of the body."""

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
"""RFC 9110 7.6.1: they speak of one connection. What `connection` names is left out as well."""
NOT_RETURNED: Final = HOP_BY_HOP | {
    "alt-svc",
    "anthropic-organization-id",
    "server",
    "set-cookie",
    "strict-transport-security",
    "via",
    "www-authenticate",
}
"""They speak of the model's address, or of an account there, and not of the answer; `date` our own server adds."""


def to_model(headers: RawHeaders, credential: ModelCredential | None) -> list[tuple[str, str]]:
    """What goes to the model's address, with the platform's credential.

    Of the codings that Claude takes only gzip is asked for, so that an error's body can be read and cleaned.
    """
    text = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers]
    passed = [(name, value) for name, value in text if name in PASSED or name.startswith(PASSED_PREFIXES)]
    codings = ",".join(value for name, value in text if name == "accept-encoding")
    passed.append(("accept-encoding", "gzip" if takes_gzip(codings) else "identity"))
    return [*passed, credential.header] if credential else passed


def to_server(headers: RawHeaders, credential: ServerCredential | None) -> list[tuple[str, str]]:
    """What goes to a connector's server, with the connector's credential. No coding is asked for, so that the answer
    can be read as it passes."""
    text = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers]
    passed = [(name, value) for name, value in text if name in MCP_PASSED or name.startswith(MCP_PREFIX)]
    passed.append(("accept-encoding", "identity"))
    if credential is None:
        return passed
    return [pair for pair in passed if pair[0] != credential.name] + [(credential.name, credential.value)]


def takes_gzip(accept_encoding: str) -> bool:
    """Whether gzip is named in it, and not with a quality of zero."""
    for part in accept_encoding.lower().split(","):
        coding, _, parameter = part.partition(";")
        if coding.strip() == "gzip":
            return parameter.replace(" ", "").rstrip("0") not in ("q=", "q=.", "q=0.")
    return False


def to_pod(headers: Iterable[tuple[str, str]], secret: str | None) -> list[tuple[bytes, bytes]]:
    """What of an answer goes to the pod. `content-length` stays: the bytes are passed on as they are. A header that
    holds `secret` does not pass."""
    pairs = [(name.lower(), value) for name, value in headers]
    named = {part.strip().lower() for name, value in pairs if name == "connection" for part in value.split(",")}
    return [
        (name.encode("latin-1", "replace"), value.encode("latin-1", "replace"))
        for name, value in pairs
        if name not in NOT_RETURNED and name not in named and not (secret and secret in value)
    ]
