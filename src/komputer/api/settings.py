"""The settings of one API process."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from komputer.api.stream import READERS
from komputer.domain import names
from komputer.domain.addresses import AddressRules


async def _nothing() -> None:
    return None


@dataclass(frozen=True)
class ApiSettings:
    """The configuration of one API process; the defaults are for a laptop."""

    default_namespace: str = names.DEFAULT_NAMESPACE
    """The namespace of requests about one object that name none."""
    create_status: int | None = None
    """The status of every successful `POST /agents`, for published clients that accept only 200. None: 201 for a new
    agent, 200 for one that existed."""
    also_ready: Callable[[], Awaitable[None]] = _nothing
    """An additional check of `/readyz`; raises `Unavailable`. The laptop's platform is ready when all its programs
    are."""
    readers: int = READERS
    """Maximum number of open event streams; further ones are refused."""
    addresses: AddressRules = field(default_factory=AddressRules)
    """The addresses that connectors may use; must be the same as the gateway's."""
    auth: Literal["none", "kubernetes"] = "none"
    """none: every caller may do everything. kubernetes: callers need a Kubernetes token, and RBAC decides."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of web pages that may call the API, such as `https://dashboard.example.com`, besides the API's own."""
    requests_per_second: int | None = None
    """Maximum rate of one caller, per process; None: unlimited."""
    audits: bool = False
    """Whether each request that may change something is logged."""
    token_audiences: tuple[str, ...] = ()
    """Audiences that a token may have; empty: the Kubernetes API's own."""
    namespaces: tuple[str, ...] | None = None
    """The namespaces whose objects are served; None: all."""
    makes_namespaces: bool = False
    """Whether a missing namespace is created, for callers who may create namespaces."""
    loopback_only: bool = True
    """Whether only programs on this machine may call the API, and no web page of another origin. The only protection if
    `auth` is none."""
