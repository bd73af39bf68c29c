"""The Secrets with the credentials of connectors: checks those of users, and creates those for a token."""

import contextlib
import secrets as random_tokens
from collections.abc import Callable, Sequence

from komputer.domain import names
from komputer.domain.base import Manifest
from komputer.domain.config import Config
from komputer.domain.connector import DEFAULT_KEY, Connector
from komputer.domain.errors import Conflict, Invalid, KomputerError, NotFound
from komputer.domain.secret import encoded
from komputer.kube import SECRETS, Cluster
from komputer.services.access import AccessRequest, Rights
from komputer.services.connectors import credentials


class ConnectorSecrets:
    """Reads and writes the Secrets of connectors. `configs` returns the KomputerConfigs, which list the platform's own
    Secrets."""

    def __init__(self, cluster: Cluster, configs: Callable[[], Sequence[Config]]) -> None:
        self._cluster = cluster
        self._configs = configs

    async def require_usable(self, namespace: str, ref: Manifest, connector_uid: str) -> None:
        """Raise `Invalid` for a Secret or key that does not exist, `Forbidden` for a Secret that the connector may not
        use. The uid of a connector that does not exist yet is empty."""
        try:
            secret = await self._cluster.get(SECRETS, ref["name"], namespace)
        except NotFound:
            raise Invalid(
                f"there is no Secret {ref['name'][:100]!r} in namespace {namespace!r}: make it first, or give a token",
                code="secret_not_found",
                field="authSecretName",
            ) from None
        credentials.admit(secret, connector_uid, self._configs())
        if ref["key"] not in (secret.get("data") or {}):
            raise Invalid(
                f"Secret {ref['name']!r} has no key {ref['key'][:100]!r}",
                code="secret_not_found",
                field="authSecretKey",
            )

    async def create(self, connector: Manifest, name: str, token: str) -> None:
        """Create the Secret that holds the connector's token. Raises `Conflict` (`exists`)."""
        await self._cluster.create(SECRETS, _secret(connector, name, token))

    async def ensure(self, connector: Manifest, token: str) -> None:
        """Create the Secret that the connector names, unless it exists: an earlier attempt of the request may have
        created it, and it may have been changed since."""
        try:
            await self.create(connector, connector["spec"]["authSecretKeyRef"]["name"], token)
        except Conflict as conflict:
            if conflict.code != "exists":
                raise

    async def replace(self, connector: Connector, token: str, rights: Rights) -> bool:
        """Store the token in the connector's Secret. Return False if it has none that was created for it. Raises
        `Forbidden`."""
        ref, namespace = connector.spec.auth_secret_key_ref, connector.metadata.namespace
        if ref is None or connector.spec.auth_type not in ("token", "header"):
            return False
        try:
            secret = await self._cluster.get(SECRETS, ref.name, namespace)
            if not credentials.is_owned(secret, connector.metadata.uid):
                return False
            await rights.require(AccessRequest("update", SECRETS, namespace, ref.name))
            precondition = {"uid": secret["metadata"]["uid"]}
            patch = {"metadata": precondition, "data": encoded({ref.key: token})}
            await self._cluster.merge_patch(SECRETS, ref.name, namespace, patch)
        except (NotFound, Conflict):
            return False
        return True

    async def delete(self, connector: Connector, name: str) -> None:
        """Delete a Secret if it was created for the connector. One that a crash leaves behind is deleted with the
        connector, which owns it."""
        namespace = connector.metadata.namespace
        with contextlib.suppress(KomputerError):
            secret = await self._cluster.get(SECRETS, name, namespace)
            if credentials.is_owned(secret, connector.metadata.uid):
                await self._cluster.delete(SECRETS, name, namespace, uid=secret["metadata"]["uid"])


def new_name(connector: str) -> str:
    """Return a name for a Secret. It is random, so that it never collides with that of an earlier connector."""
    return f"{connector}-credentials-{random_tokens.token_hex(4)}"


def _secret(connector: Manifest, name: str, token: str) -> Manifest:
    metadata = connector["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": {names.MANAGED_BY_LABEL: names.MANAGED_BY, names.CONNECTOR_LABEL: metadata["name"]},
            "ownerReferences": [Connector.as_controller(metadata["name"], metadata["uid"])],
        },
        "type": "Opaque",
        "data": encoded({DEFAULT_KEY: token}),
    }
