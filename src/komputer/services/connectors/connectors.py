"""Operations on connectors: create, change, delete."""

import contextlib
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from komputer.domain import names
from komputer.domain.addresses import AddressRules, check_url
from komputer.domain.base import Manifest
from komputer.domain.connector import DEFAULT_KEY, Connector
from komputer.domain.errors import Conflict, KomputerError, NotFound
from komputer.domain.secret import FOR_ANNOTATION
from komputer.kube import CONNECTORS, SECRETS, Cluster
from komputer.services.access import AccessRequest, Rights
from komputer.services.connectors import credentials
from komputer.services.connectors.reader import ConnectorReader, typed
from komputer.services.connectors.secrets import ConnectorSecrets, new_name
from komputer.services.namespaces import NamespaceService

ATTEMPTS: Final = 8
"""Maximum number of attempts of a change while others change the same connector."""


class Auth(NamedTuple):
    """The credential of a new connector: a token, or a key of a Secret that exists. Neither: no credential."""

    token: str | None = None
    secret_name: str | None = None
    secret_key: str | None = None


@dataclass(frozen=True, kw_only=True)
class NewConnector:
    """A connector that is to be created."""

    namespace: str
    name: str
    spec: Manifest
    auth: Auth = field(repr=False)
    request_id: str
    """Identifies the request: repeating it is not a conflict."""


class Connectors:
    """Creates, changes and deletes connectors."""

    def __init__(
        self,
        cluster: Cluster,
        reader: ConnectorReader,
        secrets: ConnectorSecrets,
        namespaces: NamespaceService,
        rules: AddressRules,
    ) -> None:
        self._cluster = cluster
        self._reader = reader
        self._secrets = secrets
        self._namespaces = namespaces
        self._rules = rules

    async def create(self, new: NewConnector, rights: Rights) -> Connector:
        """Create a connector. A token is stored in a Secret that the connector owns; if the Secret cannot be created,
        the connector is not created either.

        If an earlier attempt of the same request created the connector, the missing parts are created. Raises
        `Conflict` if another connector of the name exists, and `Forbidden` if the caller may not read the Secret that
        it names or create the one for its token.
        """
        if new.auth.secret_name:
            await rights.require(AccessRequest("get", SECRETS, new.namespace, new.auth.secret_name))

        async def carry_out() -> Connector:
            return await self._create(new, rights)

        return await self._namespaces.ensure_for(new.namespace, rights, carry_out)

    async def _create(self, new: NewConnector, rights: Rights) -> Connector:
        check_url(new.spec["url"], self._rules)
        ref: Manifest | None = None
        token = credentials.clean(new.auth.token) if new.auth.token is not None else None
        if token is not None:
            await rights.require(AccessRequest("create", SECRETS, new.namespace))
            ref = {"name": new_name(new.name), "key": DEFAULT_KEY}
        elif new.auth.secret_name:
            ref = {"name": new.auth.secret_name, "key": new.auth.secret_key or DEFAULT_KEY}
            await self._secrets.require_usable(new.namespace, ref, "")
        created = await self._ensure(
            {
                "apiVersion": names.API_VERSION,
                "kind": Connector.kind_name,
                "metadata": {
                    "name": new.name,
                    "namespace": new.namespace,
                    "labels": {names.SERVICE_LABEL: new.spec["service"]},
                    "annotations": {FOR_ANNOTATION: new.request_id},
                },
                "spec": new.spec | ({"authSecretKeyRef": ref} if ref else {}),
            },
            new.request_id,
        )
        # If the connector was changed after an earlier attempt created it, this token may not be meant for its present
        # address.
        is_unchanged = created["spec"]["url"] == new.spec["url"] and "authSecretKeyRef" in created["spec"]
        if token is not None and is_unchanged:
            try:
                await self._secrets.ensure(created, token)
            except BaseException:
                with contextlib.suppress(KomputerError):
                    uid = created["metadata"]["uid"]
                    await self._cluster.delete(CONNECTORS, new.name, new.namespace, uid=uid)
                raise
        self._reader.updated(created)
        return typed(created)

    async def _ensure(self, manifest: Manifest, request_id: str) -> Manifest:
        """Return the connector, created now or by an earlier attempt of the request. Raises `Conflict` for another."""
        name, namespace = manifest["metadata"]["name"], manifest["metadata"]["namespace"]
        try:
            return await self._cluster.create(CONNECTORS, manifest)
        except Conflict:
            with contextlib.suppress(NotFound):
                found = await self._cluster.get(CONNECTORS, name, namespace)
                if (found["metadata"].get("annotations") or {}).get(FOR_ANNOTATION) == request_id:
                    return found
            raise Conflict(
                f"connector {name!r} exists in namespace {namespace!r}; PATCH or delete it", code="exists"
            ) from None

    async def change(self, namespace: str, name: str, fields: Manifest, token: str | None, rights: Rights) -> Connector:
        """Set fields of spec in one patch.

        A token alone replaces the one in the Secret that was created for the connector. With other fields, or if the
        Secret is a user's own, it gets a new Secret, so that no address receives a token that was meant for another.
        Raises `Forbidden` if the caller may not write that Secret, or not read the one whose value a
        new address would receive.
        """
        before = await self._fresh(namespace, name)
        ref = before.spec.auth_secret_key_ref
        if ref and token is None and fields.keys() & {"url", "headerName"}:
            # A caller who can choose the address that receives a credential can read it there.
            await rights.require(AccessRequest("get", SECRETS, namespace, ref.name))
        if "url" in fields:
            check_url(fields["url"], self._rules)
        clean = credentials.clean(token) if token is not None else None
        if clean is None and ref and fields.get("url", before.spec.url) != before.spec.url:
            await self._secrets.require_usable(namespace, ref.to_wire(), before.metadata.uid)
        if clean is not None and not fields and await self._secrets.replace(before, clean, rights):
            await self._reader.reset_health(namespace, name)
            return before
        changes, secret_name = dict(fields), new_name(name)
        if clean is not None:
            await rights.require(AccessRequest("create", SECRETS, namespace))
            await self._secrets.create(before.to_wire(), secret_name, clean)
            changes["authSecretKeyRef"] = {"name": secret_name, "key": DEFAULT_KEY}
            if before.spec.auth_type in ("none", "oauth"):
                changes["authType"] = "token"
        try:
            patched = await self._patch(before, changes)
        except KomputerError:
            if clean is not None:
                await self._secrets.delete(before, secret_name)
            raise
        if clean is not None and ref:
            await self._secrets.delete(before, ref.name)
        await self._reader.reset_health(namespace, name)
        return typed(patched)

    async def _fresh(self, namespace: str, name: str) -> Connector:
        """Return the connector from the Kubernetes API, not from the cache: the patch tests the state on which it was
        decided."""
        await self._reader.one(namespace, name)
        try:
            manifest = await self._cluster.get(CONNECTORS, name, namespace)
        except NotFound:
            raise NotFound(f"connector {name!r} was deleted meanwhile", code="connector_not_found") from None
        return typed(manifest)

    async def _patch(self, before: Connector, changes: Manifest) -> Manifest:
        """Set fields of `spec`. Raises `Conflict` if the url or the credential changed meanwhile, because they belong
        together.

        Another change of `spec` in between is no conflict: the patch is tried again on top of it.
        """
        name, namespace = before.metadata.name, before.metadata.namespace or ""
        additions = [{"op": "add", "path": f"/spec/{key}", "value": value} for key, value in changes.items()]
        latest = before
        for _ in range(ATTEMPTS):
            operations: list[Manifest] = [
                {"op": "test", "path": "/metadata/uid", "value": latest.metadata.uid},
                {"op": "test", "path": "/metadata/generation", "value": latest.metadata.generation},
                *additions,
            ]
            try:
                patched = await self._cluster.json_patch(CONNECTORS, name, namespace, operations)
            except Conflict:
                latest = await self._fresh(namespace, name)
                if _credential_of(latest) != _credential_of(before):
                    break
                continue
            self._reader.updated(patched)
            return patched
        raise Conflict(f"connector {name!r} changed at the same time; read it and try again", code="changed")

    async def delete(self, namespace: str, name: str) -> list[str]:
        """Delete a connector with the Secret that was created for it. Return the agents that named it."""
        connector = await self._reader.one(namespace, name)
        uid = connector.metadata.uid
        await self._cluster.delete(CONNECTORS, name, namespace, uid=uid, propagation="Background")
        await self._reader.deleted(namespace, name)
        return self._reader.agents_of(namespace, name)


def _credential_of(connector: Connector) -> tuple[object, ...]:
    """Return what identifies the connector, its server and its credential."""
    return connector.metadata.uid, connector.spec.url, connector.spec.auth_secret_key_ref
