"""The connectors of an agent, and their credentials, as they are now."""

from komputer.domain.connector import Connector, is_connector_name
from komputer.domain.errors import Forbidden, NotFound
from komputer.gateway.agents.identity import PodIdentity
from komputer.gateway.caches import Caches
from komputer.kube import Cluster
from komputer.services.connectors.credentials import ConnectorCredential, CredentialReader
from komputer.services.connectors.reader import typed


class ConnectorDirectory:
    """Looks connectors up for each request, so that detaching one applies at once."""

    def __init__(self, cluster: Cluster, caches: Caches) -> None:
        self._caches = caches
        self._credentials = CredentialReader(cluster)

    async def attached(self, caller: PodIdentity, name: str) -> Connector:
        """Return the connector if the agent's spec names it. Raises `Forbidden` (`connector_not_attached`,
        `connector_disabled`) and `NotFound`."""
        if name not in (caller.agent.spec.connectors or ()) or not is_connector_name(name):
            raise Forbidden(
                f"Connector {name[:100]!r} is not attached to agent {caller.agent.metadata.name!r} any more.",
                code="connector_not_attached",
            )
        manifest = await self._caches.connectors.find(caller.key.namespace, name)
        if manifest is None:
            raise NotFound(f"There is no connector {name[:100]!r}; it was deleted.", code="connector_not_found")
        connector = typed(manifest)
        if connector.spec.disabled:
            raise Forbidden(f"Connector {name!r} is disabled.", code="connector_disabled")
        return connector

    async def credential(self, connector: Connector) -> ConnectorCredential | None:
        """Return the header that the connector's server requires; None if it requires none. Raises `ServerFailed`."""
        return await self._credentials.of(connector, self._caches.all_configs())
