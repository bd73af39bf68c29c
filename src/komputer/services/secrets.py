"""Secrets that users create by name, for agents that name them in `secretRefs`. Values are never returned."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

from pydantic import Field

from komputer.domain import names, secret
from komputer.domain.base import Manifest, WireModel, fields_of, texts_in
from komputer.domain.config import Config
from komputer.domain.errors import Conflict, Forbidden, Invalid, NotFound
from komputer.kube import SECRETS, Cluster
from komputer.services.access import Rights
from komputer.services.agents.reader import AgentReader
from komputer.services.namespaces import NamespaceService


class SecretView(WireModel):
    """A Secret without its values."""

    name: str
    namespace: str
    keys: list[str]
    managed: Annotated[bool, Field(description="Whether this API created it.")]
    attached_agents: int
    created_at: str
    agent_name: Annotated[str | None, Field(description="The agent that it belongs to.")] = None
    agent_names: Annotated[list[str] | None, Field(description="The agents that use it now.")] = None


class SecretStore:
    """The Secrets of the cluster. `configs` returns the KomputerConfigs, which list the platform's own Secrets."""

    def __init__(
        self,
        cluster: Cluster,
        agents: AgentReader,
        namespaces: NamespaceService,
        configs: Callable[[], Sequence[Config]],
    ) -> None:
        self._cluster = cluster
        self._agents = agents
        self._namespaces = namespaces
        self._configs = configs

    async def list(self, namespace: str | None, *, include_unmanaged: bool) -> list[SecretView]:
        """Return the Secrets, ordered by namespace and name. Without `include_unmanaged` only those that this API
        created."""
        agents = self._agents.manifests()
        selector = None if include_unmanaged else f"{secret.MANAGED_LABEL}={secret.MANAGED}"
        found = (await self._cluster.list(SECRETS, namespace, selector)).items
        configs = self._configs()
        views = [secret_view(manifest, agents) for manifest in found if not secret.is_platforms(manifest, configs)]
        return sorted(views, key=lambda view: (view.namespace, view.name))

    async def create(
        self, namespace: str, name: str, data: Mapping[str, str], request_id: str, rights: Rights
    ) -> SecretView:
        """Create a Secret. Raises `Conflict` (`exists`), unless an earlier attempt of the same request created it."""

        async def carry_out() -> Manifest:
            return await self._create(namespace, name, data, request_id)

        created = await self._namespaces.ensure_for(namespace, rights, carry_out)
        return secret_view(created, self._agents.manifests())

    async def _create(self, namespace: str, name: str, data: Mapping[str, str], request_id: str) -> Manifest:
        manifest = {
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": {secret.MANAGED_LABEL: secret.MANAGED, secret.NAME_LABEL: secret.label_value(name)},
                "annotations": {secret.FOR_ANNOTATION: request_id},
            },
            "type": "Opaque",
            "data": secret.encoded(data),
        }
        try:
            return await self._cluster.create(SECRETS, manifest)
        except Conflict:
            found = await self._cluster.get(SECRETS, name, namespace)
            if (found["metadata"].get("annotations") or {}).get(secret.FOR_ANNOTATION) == request_id:
                return found
            raise Conflict(
                f"there is a Secret {name!r} in namespace {namespace!r} already; PATCH replaces its data", code="exists"
            ) from None

    async def replace(self, namespace: str, name: str, data: Mapping[str, str]) -> None:
        """Replace the complete data. Running tasks keep the old values; the next task gets the new ones. Raises
        `NotFound`, and `Forbidden` for a Secret that this API did not create."""
        found = await self._managed(namespace, name)
        operations = [
            {"op": "test", "path": "/metadata/uid", "value": found["metadata"]["uid"]},
            {"op": "add", "path": "/data", "value": secret.encoded(data)},
        ]
        try:
            await self._cluster.json_patch(SECRETS, name, namespace, operations)
        except Conflict as replaced:
            raise NotFound(f"Secret {name!r} was deleted meanwhile", code="secret_not_found") from replaced

    async def delete(self, namespace: str, name: str) -> None:
        """Delete a Secret. Raises `NotFound`, and `Forbidden` for one that this API did not create."""
        found = await self._managed(namespace, name)
        await self._cluster.delete(SECRETS, name, namespace, uid=found["metadata"]["uid"])

    async def require_usable(self, namespace: str, wanted: Sequence[str]) -> None:
        """Raise `Invalid` for the first Secret that does not exist or that agents may not use."""
        for name in wanted:
            try:
                found = await self._cluster.get(SECRETS, name, namespace)
            except NotFound:
                raise Invalid(
                    f"secretRefs: there is no Secret {name!r} in namespace {namespace!r}",
                    code="unknown_secret",
                    field="secretRefs",
                ) from None
            if not secret.is_for_agents(found, self._configs()):
                raise Invalid(
                    f"secretRefs: Secret {name!r} is the platform's own or a connector's, and not for agents",
                    code="unusable_secret",
                    field="secretRefs",
                )

    async def _managed(self, namespace: str, name: str) -> Manifest:
        try:
            found = await self._cluster.get(SECRETS, name, namespace)
        except NotFound:
            raise NotFound(f"there is no Secret {name!r} in namespace {namespace!r}", code="secret_not_found") from None
        if not secret.is_managed(found):
            raise Forbidden(
                f"Secret {name!r} in namespace {namespace!r} was not made by this API, so it is not changed here; "
                "use kubectl",
                code="not_ours",
            )
        return found


def secret_view(manifest: Manifest, agents: Sequence[Manifest]) -> SecretView:
    """Return the view of a Secret. `agents` are all agents; their specs say which of them use it."""
    metadata = manifest["metadata"]
    using = sorted(
        each["metadata"]["name"]
        for each in agents
        if each["metadata"]["namespace"] == metadata["namespace"] and _uses(each, manifest)
    )
    return SecretView(
        name=metadata["name"],
        namespace=metadata["namespace"],
        keys=sorted(manifest.get("data") or {}),
        managed=secret.is_managed(manifest),
        attached_agents=len(using),
        created_at=metadata["creationTimestamp"],
        agent_name=(metadata.get("labels") or {}).get(names.AGENT_LABEL) or None,
        agent_names=using or None,
    )


def _uses(agent: Manifest, found: Manifest) -> bool:
    spec, metadata = fields_of(agent, "spec"), found["metadata"]
    return metadata["name"] in texts_in(spec.get("secrets")) or metadata["uid"] == spec.get("secretsUID")
