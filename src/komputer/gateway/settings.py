"""The settings of one gateway process."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from komputer.domain import names
from komputer.domain.addresses import AddressRules
from komputer.gateway.vertex import Vertex
from komputer.protocol.wire import HEARTBEAT_S


@dataclass(frozen=True, kw_only=True)
class ModelCredential:
    """The platform's own access to the model. Its value never appears in a repr, a log line or an answer."""

    kind: Literal["api_key", "bearer"]
    value: str = field(repr=False)

    @property
    def header(self) -> tuple[str, str]:
        """The header with the credential: `x-api-key` for an API key, `authorization` for a token."""
        if self.kind == "api_key":
            return "x-api-key", self.value
        return "authorization", f"Bearer {self.value}"


Credentials = Callable[[], Awaitable[ModelCredential | None]]
"""Returns the model's credential; None if the upstream needs none. It is called for each request, so that a rotated
credential applies at once. Raises `UpstreamUnreachable` if a credential is needed and not available now."""


def always(credential: ModelCredential | None) -> Credentials:
    """Return a function that always returns `credential`."""

    async def unchanged() -> ModelCredential | None:
        return credential

    return unchanged


@dataclass(frozen=True, kw_only=True)
class GatewaySettings:
    """The settings of one gateway. `/v1/messages` is appended to `model_base_url`. `model_credential` returns None for
    the offline model, and for an upstream that needs no credential."""

    model_base_url: str
    model_credential: Credentials
    vertex: Vertex | None = None
    """Set if the model's address speaks Vertex AI's form of the Messages API."""
    audience: str = names.GATEWAY_AUDIENCE
    token_trusted_for: timedelta = timedelta(seconds=60)
    """How long a token is accepted without another review. Its pod and agent are checked for each request, so the only
    effect is that the token of a living pod may be used for this long after it expires."""
    token_refused_for: timedelta = timedelta(seconds=5)
    """How long an invalid token is refused without another review: a pod that retries costs one review in 5 s. A
    guess."""
    connect_timeout: timedelta = timedelta(seconds=10)
    """The limit for connecting to the model's address or a connector's server."""
    silence_timeout: timedelta = timedelta(minutes=15)
    """How long the model may send no bytes. The Claude CLI gives up earlier, after 10 min (`x-stainless-timeout: 600`).
    This limit only releases requests that will never be answered."""
    heartbeat_s: float = HEARTBEAT_S
    """Seconds between lines of an idle assignment stream. Runtimes derive their time-out from the default."""
    max_streams: int = 10_000
    """The limit of assignment streams in one process; each holds a socket. A guess, unmeasured."""
    max_model_requests: int = 1_000
    """Model requests in progress in one process; more are refused with 529. A guess, unmeasured."""
    max_model_requests_of_agent: int = 16
    """The same for one agent; more are refused with 429. Claude has one request for its conversation, and one for each
    page that it fetches with at most ten concurrent tools. The rest is for requests that it has just abandoned."""
    namespaces: tuple[str, ...] | None = None
    """The namespaces whose agents are served; None: all."""
    addresses: AddressRules = field(default_factory=AddressRules)
    """The addresses that connectors may have."""
    max_connector_requests: int = 2_000
    """Connector requests in progress in one process, open streams included; more are refused. A guess, unmeasured."""
    max_connector_requests_of_agent: int = 128
    """The same for one agent: one open stream for each of its connectors (64 at most), and as many calls."""
    max_held_bytes: int = 256 * 2**20
    """Bytes of request bodies, which are held until they are answered, in one process; more are refused. A quarter of
    the memory that the chart gives a gateway, since a body exists twice while it is joined or translated for Vertex AI.
    Below 64 MiB the largest request (32 MiB) would never pass."""
    max_held_bytes_of_agent: int = 64 * 2**20
    """The same for one agent: two of the largest requests."""
    max_posted_bytes: int = 128 * 2**20
    """Bytes of events and managers' calls, as objects (`bodies.AS_OBJECTS`), in one process: 32 of runtimes' largest
    batches. They are held until the log has answered."""
    max_posted_bytes_of_agent: int = 32 * 2**20
    """The same for one agent: the largest post."""
