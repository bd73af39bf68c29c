"""Checks the references in client requests that create or change agents, and passes the requests to `Agents`."""

from collections.abc import Collection, Sequence

from ulid import ULID

from komputer.domain.base import Manifest
from komputer.domain.connector import is_connector_name
from komputer.domain.errors import Invalid
from komputer.kube import CONNECTORS, SECRETS, Cache
from komputer.services.access import Rights
from komputer.services.agents.agents import AgentRequest, Agents, Assigned
from komputer.services.agents.claim import NewTask
from komputer.services.agents.reader import Versioned
from komputer.services.namespaces import NamespaceService
from komputer.services.secrets import SecretStore


class AgentRequests:
    """Creates and changes agents with the rights of a client.

    An agent may only name connectors and Secrets that exist and that the client may read, because the agent's tasks can
    use them.
    """

    def __init__(self, agents: Agents, secrets: SecretStore, connectors: Cache, namespaces: NamespaceService) -> None:
        self._agents = agents
        self._secrets = secrets
        self._connectors = connectors
        self._namespaces = namespaces

    async def create_or_assign(self, request: AgentRequest, rights: Rights) -> Assigned:
        """See `Agents.create_or_assign`. Also raises `Invalid` for a reference to something that does not exist."""
        await self._check_references(request.namespace, request.settings, rights)

        async def carry_out() -> Assigned:
            return await self._agents.create_or_assign(request, rights)

        return await self._namespaces.ensure_for(request.namespace, rights, carry_out)

    async def change(
        self,
        namespace: str,
        name: str,
        instructions: str | None,
        settings: Manifest,
        if_match: Collection[str] | None,
        rights: Rights,
    ) -> Versioned:
        """Change an agent and return it. With `instructions` it also gets its next task. Raises `Busy`, `NotFound`,
        `PreconditionFailed`, and `Invalid` for a reference to something that does not exist."""
        await self._agents.one(namespace, name)
        await self._check_references(namespace, settings, rights)
        if instructions is not None:
            await self._agents.assign(namespace, name, NewTask(str(ULID()), instructions), settings, if_match)
        else:
            await self._agents.change(namespace, name, settings, if_match)
        return await self._agents.view(namespace, name)

    async def _check_references(self, namespace: str, settings: Manifest, rights: Rights) -> None:
        connectors: Sequence[str] = settings.get("connectors") or ()
        secrets: Sequence[str] = settings.get("secrets") or ()
        await rights.require_each("get", CONNECTORS, namespace, connectors)
        await rights.require_each("get", SECRETS, namespace, secrets)
        for name in connectors:
            if not is_connector_name(name) or await self._connectors.find(namespace, name) is None:
                raise Invalid(
                    f"there is no connector {name[:100]!r} in namespace {namespace!r}",
                    code="unknown_connector",
                    field="connectors",
                )
        await self._secrets.require_usable(namespace, secrets)
