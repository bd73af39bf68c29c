"""Reading connectors: from the cache, with the agents that name them and the health of their servers."""

import contextlib
from collections.abc import Sequence

import structlog
from pydantic import ValidationError

from komputer.domain.base import Manifest
from komputer.domain.connector import Connector, attached
from komputer.domain.errors import Conflict, NotFound, Unavailable
from komputer.domain.ref import ObjectRef
from komputer.kube import Cache
from komputer.redis.connector_health import ConnectorHealth, HealthRecord
from komputer.services.connectors.view import ConnectorView, connector_view

log = structlog.get_logger(__name__)


class ConnectorReader:
    """The connectors of the cluster, as the caches of one process show them."""

    def __init__(self, connectors: Cache, agents: Cache, health: ConnectorHealth) -> None:
        self._connectors = connectors
        self._agents = agents
        self._health = health
        self._attached: tuple[int, dict[ObjectRef, list[str]]] = (-1, {})
        """The agents that name each connector, at a version of the cache of agents."""

    async def one(self, namespace: str, name: str) -> Connector:
        """Return a connector; one that is not in the cache is requested from the Kubernetes API. Raises `NotFound`."""
        if (manifest := await self._connectors.find(namespace, name)) is None:
            raise NotFound(
                f"there is no connector {name[:100]!r} in namespace {namespace!r}", code="connector_not_found"
            )
        return typed(manifest)

    async def view(self, connector: Connector) -> ConnectorView:
        """Return the connector as clients see it."""
        (view,) = await self._views([connector])
        return view

    async def views(self, namespace: str | None) -> list[ConnectorView]:
        """Return the connectors of a namespace, or all, ordered by namespace and name. One that cannot be read is
        logged and left out. Raises `Unavailable` while the caches are not filled."""
        if not (self._connectors.is_synced and self._agents.is_synced):
            raise Unavailable("the connectors have not been read yet; try again", code="starting", retry_after_s=1)
        found = []
        for manifest in self._connectors.items(namespace):
            if manifest["metadata"].get("deletionTimestamp"):
                continue
            try:
                found.append(typed(manifest))
            except Conflict as unreadable:
                log.warning("connector left out of a list", error=unreadable.message)
        found.sort(key=lambda each: each.ref)
        return await self._views(found)

    def agents_of(self, namespace: str, name: str) -> list[str]:
        """Return the agents that name the connector now."""
        if self._attached[0] != self._agents.version:
            self._attached = (self._agents.version, attached(self._agents.items()))
        return self._attached[1].get(ObjectRef(namespace, name), [])

    def updated(self, manifest: Manifest) -> None:
        """Store the result of a write in the cache."""
        self._connectors.put(manifest)

    async def deleted(self, namespace: str, name: str) -> None:
        """Remove a deleted connector from the cache, and its health."""
        if manifest := self._connectors.get(namespace, name):
            self._connectors.forget(manifest)
        await self.reset_health(namespace, name)

    async def reset_health(self, namespace: str, name: str) -> None:
        """Delete the health of the connector's server, because it belongs to an earlier configuration."""
        with contextlib.suppress(Unavailable):
            await self._health.forget(ObjectRef(namespace, name))

    async def _views(self, connectors: Sequence[Connector]) -> list[ConnectorView]:
        records = await self._records(connectors)
        return [connector_view(each, self.agents_of(*each.ref), records.get(each.ref)) for each in connectors]

    async def _records(self, connectors: Sequence[Connector]) -> dict[ObjectRef, HealthRecord]:
        """Return the health of each connector; while Redis does not answer, it is unknown for all."""
        try:
            return await self._health.read([(each.ref, each.metadata.uid) for each in connectors])
        except Unavailable:
            return {}


def typed(manifest: Manifest) -> Connector:
    """Return the connector. Raises `Conflict` (`connector_unreadable`) for one that bypassed validation, until it is
    corrected by hand."""
    try:
        return Connector.salvaged(manifest, "status")[0]
    except ValidationError as wrong:
        metadata = manifest["metadata"]
        where = ".".join(str(part) for part in wrong.errors(include_input=False)[0]["loc"])
        raise Conflict(
            f"connector {metadata['name']!r} in namespace {metadata['namespace']!r} is not valid: see {where}; correct "
            "it with kubectl, or delete it",
            code="connector_unreadable",
        ) from None
