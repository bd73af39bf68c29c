"""Authentication and authorization of callers: TokenReview and SubjectAccessReview, both cached for a short time.

The REST API allows what RBAC allows the caller to do to the same resources with kubectl, and nothing else. The right
that each operation needs is listed in `komputer.api.rights`.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

import structlog

from komputer.domain.errors import Forbidden, TooManyRequests, Unauthorized, Unavailable
from komputer.http.rate import Rate
from komputer.kube import Cluster, Kind
from komputer.kube.ttl_cache import TTLCache

T = TypeVar("T")
log = structlog.get_logger(__name__)

VALID_TOKEN_TTL_S: Final = 60.0
"""How long a valid token is accepted without another review: the revocation of a token takes effect within this
time."""
INVALID_TOKEN_TTL_S: Final = 5.0
ALLOWED_TTL_S: Final = 10.0
DENIED_TTL_S: Final = 5.0
"""How long a decision is cached. kube-apiserver's own webhook authorizer caches 5 min and 30 s."""
TOKENS_CACHED: Final = 10_000
"""Maximum number of valid tokens in the cache, and of invalid ones: invented tokens cannot displace valid ones."""
MAX_UNKNOWN_TOKEN_REVIEWS: Final = 8
"""Maximum number of concurrent reviews of tokens that are not in the cache. The other connections of the Kubernetes
client (it has 32) remain available to known callers."""
MAX_UNKNOWN_TOKENS: Final = 64
"""Maximum number of unknown tokens that are under review or wait for one; further ones are refused with 503. A
guess."""
INVALID_TOKENS_PER_SECOND: Final = 20
"""Maximum rate of invalid tokens per address; beyond it, unknown tokens from the address are refused without a review.
Callers behind an Ingress may share an address. A guess."""
DECISIONS_CACHED: Final = 50_000
TOKEN_LIMIT_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Caller:
    """A user whom the Kubernetes API has authenticated."""

    username: str
    groups: tuple[str, ...] = ()


class AccessRequest(NamedTuple):
    """A verb on objects. Without `namespace` it is about all namespaces, without `name` about any object."""

    verb: str
    kind: Kind
    namespace: str | None = None
    name: str | None = None
    subresource: str | None = None

    @property
    def resource(self) -> str:
        """The resource as RBAC rules name it, such as `komputeragents/cancel`."""
        return f"{self.kind.plural}/{self.subresource}" if self.subresource else self.kind.plural

    @property
    def text(self) -> str:
        where = f"in namespace {self.namespace}" if self.namespace else "in all namespaces"
        return f"{self.verb} {self.resource} {where}"


class AccessReviewer:
    """Reviews tokens and rights, with the caches of one process."""

    def __init__(self, cluster: Cluster, audiences: tuple[str, ...] = ()) -> None:
        self._cluster = cluster
        self._audiences = audiences or (None,)
        self._callers: TTLCache[bytes, Caller | None] = TTLCache(
            lambda caller: VALID_TOKEN_TTL_S if caller else INVALID_TOKEN_TTL_S,
            TOKENS_CACHED,
            kind=lambda caller: caller is not None,
        )
        self._invalid_tokens = Rate(INVALID_TOKENS_PER_SECOND)
        self._pending_unknown = 0
        self._unknown_slots = asyncio.Semaphore(MAX_UNKNOWN_TOKEN_REVIEWS)
        self._decisions: TTLCache[tuple[Caller, AccessRequest], bool] = TTLCache(
            lambda allowed: ALLOWED_TTL_S if allowed else DENIED_TTL_S, DECISIONS_CACHED
        )

    async def caller(self, authorization: str | None, address: str = "") -> Caller:
        """Return the caller that an `Authorization` header sent from `address` identifies.

        Raises `Unauthorized` for an invalid token, `TooManyRequests` if the address sent too many invalid tokens, and
        `Unavailable` if the token cannot be reviewed.
        """
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not 0 < len(token) <= TOKEN_LIMIT_BYTES or not token.isascii():
            raise Unauthorized(
                "send a token of the Kubernetes API: Authorization: Bearer …, as kubectl create token makes"
            )
        key = hashlib.sha256(token.encode()).digest()
        is_known = self._callers.last(key) is not None
        found = await self._callers.get(
            key, lambda: self._review(token) if is_known else self._review_unknown(token, address)
        )
        if found is None:
            raise Unauthorized("the token is not valid (any more), or not meant for this API; get a new one")
        return found

    async def _review_unknown(self, token: str, address: str) -> Caller | None:
        """Review a token that is not in the cache. The load is limited, because anyone can send unknown tokens."""
        if not await self._invalid_tokens.allows(address):
            raise TooManyRequests("too many tokens from your address were not valid; wait, and send a valid one")
        if self._pending_unknown >= MAX_UNKNOWN_TOKENS:
            raise Unavailable(
                "too many unknown tokens are under review; try again", code="access_busy", retry_after_s=1
            )
        self._pending_unknown += 1
        try:
            async with self._unknown_slots:
                found = await self._review(token)
        finally:
            self._pending_unknown -= 1
        if found is None:
            await self._invalid_tokens.count(address)
        return found

    async def _review(self, token: str) -> Caller | None:
        for audience in self._audiences:
            known = await _answered(self._cluster.review_token(token, audience))
            if known is not None:
                return Caller(known.username, known.groups)
        return None

    async def allows(self, caller: Caller, right: AccessRequest) -> bool:
        """Return whether RBAC grants the right. The right to all objects of the kind is reviewed first: if it is
        granted, no review of single objects is needed."""
        if right.name is not None and await self._decided(caller, right._replace(name=None)):
            return True
        return await self._decided(caller, right)

    async def _decided(self, caller: Caller, right: AccessRequest) -> bool:
        verb, kind, namespace, name, subresource = right
        return await self._decisions.get(
            (caller, right),
            lambda: _answered(
                self._cluster.review_access(
                    caller.username, caller.groups, verb, kind.group, kind.plural, namespace, name, subresource
                )
            ),
        )


async def _answered(review: Awaitable[T]) -> T:
    """Return the result of a review. Raises `Unavailable` (`access_unknown`) if the platform itself is not permitted to
    make the review: this says nothing about the caller, and a server that has just started may not have loaded its
    roles yet."""
    try:
        return await review
    except Forbidden as refused:
        log.warning("review not permitted", error=refused.message)
        raise Unavailable(
            "the Kubernetes API does not permit the platform to check access; try again", code="access_unknown"
        ) from refused


@dataclass(frozen=True, slots=True)
class Rights:
    """The rights of one caller. Without access control (`access` is None) everything is allowed."""

    access: AccessReviewer | None = None
    caller: Caller | None = None

    async def allow(self, right: AccessRequest) -> bool:
        """Return whether the caller has the right. Raises `Unavailable` if that cannot be reviewed."""
        if self.access is None:
            return True
        return self.caller is not None and await self.access.allows(self.caller, right)

    async def require(self, right: AccessRequest) -> None:
        """Raise `Forbidden` if the caller lacks the right; the message names it."""
        if not await self.allow(right):
            username = self.caller.username if self.caller else "an anonymous caller"
            raise Forbidden(f"{username} may not {right.text}; ask for that right in Kubernetes RBAC")

    async def require_each(self, verb: str, kind: Kind, namespace: str, names: Iterable[str] | None) -> None:
        """Raise `Forbidden` if the caller lacks the right to one of the named objects."""
        for name in names or ():
            await self.require(AccessRequest(verb, kind, namespace, name))

    async def visible(self, right: AccessRequest, namespaces: Callable[[], Iterable[str]]) -> frozenset[str] | None:
        """Return those of `namespaces` in which the caller has `right`; None if it has the right in all namespaces."""
        if await self.allow(right._replace(namespace=None)):
            return None
        candidates = sorted(set(namespaces()))
        allowed = await asyncio.gather(*(self.allow(right._replace(namespace=each)) for each in candidates))
        return frozenset(name for name, is_allowed in zip(candidates, allowed, strict=True) if is_allowed)

    async def allow_in(self, right: AccessRequest, namespace: str) -> bool:
        """Return whether the caller has `right` in all namespaces, or in this one."""
        return await self.allow(right._replace(namespace=None)) or await self.allow(right._replace(namespace=namespace))


UNRESTRICTED: Final = Rights()
"""The rights of the platform itself, and of every caller if access control is off."""
