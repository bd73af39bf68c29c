"""Who calls, and what they may do: tokens by TokenReview, rights by SubjectAccessReview, both remembered for a moment.

What RBAC lets somebody do to our resources with kubectl, the REST API lets them do, and nothing else. Which right a
route needs stands in `rights.py`.
"""

import asyncio
import hashlib
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

import structlog

from komputer.api.rates import Rate
from komputer.domain.errors import Forbidden, TooManyRequests, Unauthorized, Unavailable
from komputer.kube import Cluster, Kind
from komputer.kube.ttl_cache import TTLCache

T = TypeVar("T")
log = structlog.get_logger(__name__)

TRUSTED_S: Final = 60.0
REFUSED_S: Final = 5.0
"""How long a token that was recognised, or not, is taken for that: revoking one takes effect after the first."""
ALLOWED_S: Final = 10.0
DENIED_S: Final = 5.0
"""How long a right counts, or its absence. kube-apiserver's own webhook authorizer caches 5 min and 30 s."""
TOKENS_KEPT: Final = 10_000
"""Of those that were recognised, and as many of those that were not: who makes tokens up pushes nobody out."""
MAX_UNKNOWN_TOKEN_REVIEWS: Final = 8
"""Reviews of tokens that were not recognised before. The other turns of our client to the Kubernetes API (32) are for
callers whom we know."""
STRANGERS_WAITING: Final = 64
"""Such tokens that are looked at or wait for it; one more is told to come again. A guess."""
STRANGERS_REFUSED_PER_SECOND: Final = 20
"""Of one address. More of its unknown tokens are not looked at; behind an Ingress many callers share one. A guess."""
DECISIONS_KEPT: Final = 50_000
TOKEN_LIMIT_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody whom the Kubernetes API knows."""

    username: str
    groups: tuple[str, ...] = ()


class AccessRequest(NamedTuple):
    """What is to be done to which objects; without `namespace`: of all namespaces, without `name`: to any."""

    verb: str
    kind: Kind
    namespace: str | None = None
    name: str | None = None
    subresource: str | None = None

    @property
    def resource(self) -> str:
        """As RBAC writes it: `komputeragents/cancel`."""
        return f"{self.kind.plural}/{self.subresource}" if self.subresource else self.kind.plural

    @property
    def text(self) -> str:
        where = f"in namespace {self.namespace}" if self.namespace else "in all namespaces"
        return f"{self.verb} {self.resource} {where}"


class Access:
    """Of one process."""

    def __init__(self, cluster: Cluster, audiences: tuple[str, ...] = ()) -> None:
        self._cluster = cluster
        self._audiences = audiences or (None,)
        self._callers: TTLCache[bytes, Caller | None] = TTLCache(
            lambda caller: TRUSTED_S if caller else REFUSED_S, TOKENS_KEPT, kind=lambda caller: caller is not None
        )
        self._refused = Rate(STRANGERS_REFUSED_PER_SECOND)
        self._strangers = 0
        self._turns = asyncio.Semaphore(MAX_UNKNOWN_TOKEN_REVIEWS)
        self._decisions: TTLCache[tuple[Caller, AccessRequest], bool] = TTLCache(
            lambda allowed: ALLOWED_S if allowed else DENIED_S, DECISIONS_KEPT
        )

    async def caller(self, authorization: str | None, address: str = "") -> Caller:
        """Of an `Authorization` header, sent from `address`. Raises `Unauthorized`, `TooManyRequests` where that had
        too many tokens refused, and `Unavailable` where nobody can tell."""
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not 0 < len(token) <= TOKEN_LIMIT_BYTES or not token.isascii():
            raise Unauthorized(
                "send a token of the Kubernetes API: Authorization: Bearer …, as kubectl create token makes"
            )
        key = hashlib.sha256(token.encode()).digest()
        is_known = self._callers.last(key) is not None
        found = await self._callers.get(
            key, lambda: self._review(token) if is_known else self._review_strange(token, address)
        )
        if found is None:
            raise Unauthorized("the token is not valid (any more), or not meant for this API; get a new one")
        return found

    async def _review_strange(self, token: str, address: str) -> Caller | None:
        """Of a token that was not recognised before: anybody can send as many of these as they like."""
        if not await self._refused.allows(address):
            raise TooManyRequests("too many tokens from your address were not valid; wait, and send a valid one")
        if self._strangers >= STRANGERS_WAITING:
            raise Unavailable(
                "too many tokens that were not seen before are being looked at; try again",
                code="access_busy",
                retry_after_s=1,
            )
        self._strangers += 1
        try:
            async with self._turns:
                found = await self._review(token)
        finally:
            self._strangers -= 1
        if found is None:
            await self._refused.count(address)
        return found

    async def _review(self, token: str) -> Caller | None:
        for audience in self._audiences:
            known = await _answered(self._cluster.review_token(token, audience))
            if known is not None:
                return Caller(known.username, known.groups)
        return None

    async def may(self, caller: Caller, right: AccessRequest) -> bool:
        """Whether RBAC says so. Who may do it to all objects of a namespace is not asked about each."""
        if right.name is not None and await self._decided(caller, right._replace(name=None)):
            return True
        return await self._decided(caller, right)

    async def require(self, caller: Caller, right: AccessRequest) -> None:
        """Raises `Forbidden` with a sentence that says what is missing."""
        if not await self.may(caller, right):
            raise Forbidden(f"{caller.username} may not {right.text}; ask for that right in Kubernetes RBAC")

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


async def _answered(question: Awaitable[T]) -> T:
    """That we may not ask is no word about the caller: a server that has just started knows no roles yet."""
    try:
        return await question
    except Forbidden as refused:
        log.warning("not allowed to ask who may what", error=refused.message)
        raise Unavailable(
            "the Kubernetes API does not tell who may what; try again", code="access_unknown"
        ) from refused
