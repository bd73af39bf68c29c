"""Identifies callers: the token identifies a pod, and the pod identifies its agent. No other claim of a pod is
trusted."""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, TypeVar

import structlog
from pydantic import ValidationError

from komputer.domain import names
from komputer.domain.agent import Agent
from komputer.domain.base import Manifest, fields_of
from komputer.domain.errors import Conflict, Forbidden, NotFound, Unauthorized, Unavailable
from komputer.domain.ref import ObjectRef
from komputer.events.log import LogKey
from komputer.gateway.agents.owners import agent_owners
from komputer.gateway.errors import AgentGone
from komputer.gateway.settings import GatewaySettings
from komputer.kube import AGENTS, PODS, Cache, Cluster, Kind, TokenIdentity
from komputer.kube.ttl_cache import TTLCache

TOKEN_LIMIT_BYTES: Final = 16 * 1024
REVIEWS_KEPT: Final = 20_000
"""How many reviews of valid tokens are cached, and as many of invalid ones. The two are cached separately, so that
invented tokens cannot evict valid ones."""
MAX_UNKNOWN_TOKEN_REVIEWS: Final = 8
"""How many tokens that were not accepted before are reviewed concurrently. This leaves capacity for the gateway's other
requests to the Kubernetes API, of which 32 run concurrently."""
DELETION_GRACE: Final = timedelta(seconds=30)
"""How long after its deletionTimestamp, which includes the grace period, a pod may still report the end of its task:
clocks may differ. A guess."""

T = TypeVar("T")
log = structlog.get_logger(__name__)


class PodRef(NamedTuple):
    """A pod as its token identifies it."""

    namespace: str
    name: str
    uid: str

    @property
    def agent(self) -> str:
        """The name of the agent that a pod of this name belongs to; empty if it is not the name of an agent's pod."""
        agent = self.name.removesuffix("-pod")
        return agent if names.pod_name(agent) == self.name else ""


@dataclass(frozen=True)
class PodIdentity:
    """An agent's current pod."""

    pod: PodRef
    agent: Agent

    @property
    def key(self) -> LogKey:
        return LogKey(self.pod.namespace, self.agent.metadata.name, self.agent.metadata.uid)


def bearer(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the token of the only `authorization` header. Raises `Unauthorized`."""
    found = [value for name, value in headers if name == b"authorization"]
    scheme, _, token = found[0].partition(b" ") if len(found) == 1 else (b"", b"", b"")
    token = token.strip()
    if scheme.lower() != b"bearer" or not token.isascii() or not 0 < len(token) <= TOKEN_LIMIT_BYTES:
        raise Unauthorized("Each request carries the pod's own token: Authorization: Bearer …")
    return token.decode()


def pod_of(identity: TokenIdentity | None) -> PodRef | None:
    """Return the pod of a reviewed token; None if the token is not bound to a pod or is not of the agents' service
    account."""
    if identity is None or identity.service_account != names.SERVICE_ACCOUNT:
        return None
    if not (identity.namespace and identity.pod_name and identity.pod_uid):
        return None
    return PodRef(identity.namespace, identity.pod_name, identity.pod_uid)


def owner_uid(ref: PodRef, pod: Manifest) -> str | None:
    """Return the uid of the agent that controls this pod, if the pod's name and label are those of the same agent."""
    for owner in agent_owners(pod):
        if owner.is_controller and owner.name == ref.agent:
            labels = pod["metadata"].get("labels")
            is_labelled = isinstance(labels, dict) and labels.get(names.AGENT_LABEL) == ref.agent
            return owner.uid if is_labelled else None
    return None


def is_the_pod(ref: PodRef, pod: Manifest | None) -> bool:
    return pod is not None and pod["metadata"].get("uid") == ref.uid


def judge(ref: PodRef, pod: Manifest | None, agent: Manifest | None, now: datetime) -> Manifest:
    """Return the agent whose current pod this is. `pod` and `agent` are the objects that have those names now.

    Raises `AgentGone` if the agent is deleted or being deleted, and `Forbidden` (`not_current_pod`) for any other pod.
    """
    not_current = Forbidden(f"Pod {ref.namespace}/{ref.name} is not an agent's current pod.", code="not_current_pod")
    if not ref.agent:
        raise not_current
    if agent is None or agent["metadata"].get("deletionTimestamp"):
        raise AgentGone(f"Agent {ref.namespace}/{ref.agent} is deleted; its runtime ends.")
    if pod is None or not is_the_pod(ref, pod):
        raise not_current
    owner = owner_uid(ref, pod)
    if owner is None:
        raise not_current
    if owner != agent["metadata"]["uid"]:
        raise AgentGone(f"The agent of pod {ref.namespace}/{ref.name} is deleted; its runtime ends.")
    deleted_at = pod["metadata"].get("deletionTimestamp")
    if deleted_at and now > datetime.fromisoformat(deleted_at) + DELETION_GRACE:
        raise not_current
    if fields_of(pod, "status").get("phase") in ("Succeeded", "Failed"):
        raise not_current
    return agent


class Identity:
    """Identifies callers by their tokens. It keeps digests of tokens only."""

    def __init__(self, settings: GatewaySettings, cluster: Cluster, agents: Cache, pods: Cache) -> None:
        self._settings = settings
        self._cluster = cluster
        self._agents = agents
        self._pods = pods
        trusted, refused = settings.token_trusted_for.total_seconds(), settings.token_refused_for.total_seconds()
        self._reviews: TTLCache[bytes, PodRef | None] = TTLCache(
            lambda pod: trusted if pod else refused, REVIEWS_KEPT, kind=lambda pod: pod is not None
        )
        self._unknown_reviews = asyncio.Semaphore(MAX_UNKNOWN_TOKEN_REVIEWS)
        self._typed: dict[ObjectRef, Agent] = {}

    async def caller(self, headers: Iterable[tuple[bytes, bytes]]) -> PodIdentity:
        """Return the caller of a request. Raises `Unauthorized` for an invalid token, `Forbidden` for a pod that is not
        an agent's current one, `AgentGone`, and `Unavailable` if the Kubernetes API is needed and does not answer."""
        token = bearer(headers)
        ref = await self._reviewed(token)
        if ref is None:
            raise Unauthorized("The token is not that of an agent's pod, or no longer valid.")
        return await self.current(ref)

    async def current(self, ref: PodRef) -> PodIdentity:
        """Return the caller for the pod `ref`, judged by the objects as they are now. Objects that are not in the
        caches are read from the Kubernetes API, since caches may lag."""
        pod, agent = self._pods.get(ref.namespace, ref.name), self._agents.get(ref.namespace, ref.agent)
        if not is_the_pod(ref, pod):
            pod = await self._fresh(PODS, self._pods, ref.namespace, ref.name)
        owner = owner_uid(ref, pod) if pod else None
        if ref.agent and (agent is None or (owner and agent["metadata"]["uid"] != owner)):
            agent = await self._fresh(AGENTS, self._agents, ref.namespace, ref.agent)
        return PodIdentity(ref, self._typed_agent(judge(ref, pod, agent, datetime.now(UTC))))

    async def reread(self, ref: PodRef) -> PodIdentity:
        """Like `current`, with the agent read from the Kubernetes API: the cache may lag."""
        pod = self._pods.get(ref.namespace, ref.name)
        agent = await self._fresh(AGENTS, self._agents, ref.namespace, ref.agent)
        return PodIdentity(ref, self._typed_agent(judge(ref, pod, agent, datetime.now(UTC))))

    def known(self, ref: PodRef) -> PodIdentity:
        """Like `current`, but reads the caches only."""
        pod, agent = self._pods.get(ref.namespace, ref.name), self._agents.get(ref.namespace, ref.agent)
        return PodIdentity(ref, self._typed_agent(judge(ref, pod, agent, datetime.now(UTC))))

    async def _reviewed(self, token: str) -> PodRef | None:
        key = hashlib.sha256(token.encode()).digest()
        is_known = self._reviews.last(key) is not None

        async def ask() -> PodRef | None:
            async with contextlib.nullcontext() if is_known else self._unknown_reviews:
                return pod_of(await _asked(lambda: self._cluster.review_token(token, self._settings.audience)))

        return await self._reviews.get(key, ask)

    async def _fresh(self, kind: Kind, cache: Cache, namespace: str, name: str) -> Manifest | None:
        try:
            found = await _asked(lambda: self._cluster.get(kind, name, namespace))
        except NotFound:
            return None
        cache.put(found)
        return found

    def _typed_agent(self, manifest: Manifest) -> Agent:
        ref = ObjectRef.of(manifest)
        known = self._typed.get(ref)
        if known and known.metadata.resource_version == manifest["metadata"]["resourceVersion"]:
            return known
        try:
            agent = Agent.model_validate(manifest)
        except ValidationError as error:
            log.error("agent is not valid", agent=str(ref), fields=[each["loc"] for each in error.errors()])
            raise Conflict(f"Agent {ref} is not valid; correct it.", code="agent_unreadable") from None
        self._typed[ref] = agent
        return agent

    def forget(self, namespace: str, name: str) -> None:
        """Drop what is cached about a deleted agent."""
        self._typed.pop(ObjectRef(namespace, name), None)


async def _asked(call: Callable[[], Awaitable[T]]) -> T:
    """Return the result of a call to the Kubernetes API. Pods get its errors, so these do not contain its address."""
    try:
        return await call()
    except NotFound:
        raise
    except (Unavailable, Forbidden) as error:
        raise Unavailable("The Kubernetes API does not answer; try again.", code="kubernetes_unavailable") from error
