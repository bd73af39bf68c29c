"""What one gateway process is told."""

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
        """`x-api-key` for an API key, `authorization` for a token."""
        if self.kind == "api_key":
            return "x-api-key", self.value
        return "authorization", f"Bearer {self.value}"


Credentials = Callable[[], Awaitable[ModelCredential | None]]
"""Asked for each request, so that a rotated one counts at once. Raises `Unreachable` where there is none now."""


def always(credential: ModelCredential | None) -> Credentials:
    """A credential that nobody rotates."""

    async def the_same() -> ModelCredential | None:
        return credential

    return the_same


@dataclass(frozen=True, kw_only=True)
class GatewaySettings:
    """`model_base_url` is what `/v1/messages` is put behind; a `model_credential` of None is
    for the offline model, or a gateway that wants none."""

    model_base_url: str
    model_credential: Credentials
    vertex: Vertex | None = None
    """Where the model's address speaks Vertex AI's form of the Messages API."""
    audience: str = names.GATEWAY_AUDIENCE
    token_trusted_for: timedelta = timedelta(seconds=60)
    """How long a reviewed token counts without asking again. Its pod and agent are looked at each time, so this is how
    long a token of a living pod may outlive its own expiry."""
    token_refused_for: timedelta = timedelta(seconds=5)
    """How long a bad token is refused without asking again: a pod that retries costs one review in 5 s. A guess."""
    connect_timeout: timedelta = timedelta(seconds=10)
    """Of a connection to the model's address."""
    silence_timeout: timedelta = timedelta(minutes=15)
    """How long the model may say nothing at all. Above the CLI's own limit of 10 min (`x-stainless-timeout: 600`), so
    that it decides; this only frees what nobody will ever answer."""
    heartbeat_s: float = HEARTBEAT_S
    """Between lines of an assignment stream on which nothing happens. Runtimes expect the default."""
    max_streams: int = 10_000
    """Assignment streams of one process; each holds a socket. A guess, unmeasured."""
    max_model_requests: int = 1_000
    """Under way at once in one process; more are told to come again (529). A guess, unmeasured."""
    max_model_requests_of_agent: int = 16
    """Of these of one agent; more are told to come again (429). Claude has one for its conversation, and one for each
    page that it fetches, of ten tools at once at most; the rest is room for those that it gave up a moment ago."""
    namespaces: tuple[str, ...] | None = None
    """Whose agents are served; None: all."""
    addresses: AddressRules = field(default_factory=AddressRules)
    """Where connectors may lead."""
    max_connector_requests: int = 2_000
    """Under way at once in one process, open streams included; more are told to come again. A guess, unmeasured."""
    max_connector_requests_of_agent: int = 128
    """Of these of one agent: the stream that each of its connectors keeps open (a spec names 64 at most), and as many
    calls."""
    max_held_bytes: int = 256 * 2**20
    """Of requests' bodies, which are held until they are answered, in one process; more are told to come again. A
    quarter of the memory that the chart gives a gateway, since a body is there twice while it is joined, or translated
    for Vertex AI. Not below 64 MiB, else the largest request (32 MiB) never passes."""
    max_held_bytes_of_agent: int = 64 * 2**20
    """Of these of one agent: two of the largest requests."""
    max_posted_bytes: int = 128 * 2**20
    """Of events and managers' calls, as objects (`bodies.AS_OBJECTS`), in one process: 32 of runtimes' largest batches.
    They are held for as long as the log takes to answer."""
    max_posted_bytes_of_agent: int = 32 * 2**20
    """Of these of one agent: the largest post there is."""
