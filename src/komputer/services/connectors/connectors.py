"""What is done with connectors: create, change, delete, look."""

import contextlib
import secrets as random_tokens
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import structlog
from pydantic import ValidationError

from komputer.domain import names
from komputer.domain.addresses import AddressRules, check_url
from komputer.domain.base import Manifest
from komputer.domain.config import Config
from komputer.domain.connector import DEFAULT_KEY, Connector, attached
from komputer.domain.errors import Conflict, Invalid, KomputerError, NotFound, Unavailable
from komputer.domain.ref import ObjectRef
from komputer.domain.secret import FOR_ANNOTATION, encoded
from komputer.kube import CONNECTORS, SECRETS, Cache, Cluster, Permission, everybody
from komputer.redis.connector_health import ConnectorHealth, HealthRecord
from komputer.services.connectors import credentials
from komputer.services.connectors.view import connector_body

log = structlog.get_logger(__name__)

ATTEMPTS: Final = 8
"""How often a change is tried again on top of other changes of the same connector."""


class Auth(NamedTuple):
    """What a caller says of the credential: a token of its own, or a Secret that is there."""

    token: str | None = None
    secret_name: str | None = None
    secret_key: str | None = None


class Connectors:
    """The connectors of the cluster, as a process with caches of connectors, agents and configs sees them."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        agents: Cache,
        health: ConnectorHealth,
        rules: AddressRules,
        configs: Callable[[], Sequence[Config]],
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._agents = agents
        self._health = health
        self._rules = rules
        self._configs = configs
        self._attached: tuple[int, dict[ObjectRef, list[str]]] = (-1, {})

    # ---- reads ------------------------------------------------------------------------------------------------
    async def one(self, namespace: str, name: str) -> Connector:
        """As it is; asked for where the cache does not know it. Raises `NotFound`."""
        if (manifest := await self._cache.find(namespace, name)) is None:
            raise NotFound(
                f"there is no connector {name[:100]!r} in namespace {namespace!r}", code="connector_not_found"
            )
        return typed(manifest)

    async def body(self, connector: Connector) -> dict[str, Any]:
        seen = await self._seen([connector])
        return self._body(connector, seen)

    async def bodies(self, namespace: str | None) -> list[dict[str, Any]]:
        """Ordered by namespace and name. One that is not as we know connectors is left out, and logged."""
        if not (self._cache.is_synced and self._agents.is_synced):
            raise Unavailable("the connectors have not been read yet; try again", code="starting", retry_after_s=1)
        found = []
        for manifest in self._cache.items(namespace):
            if manifest["metadata"].get("deletionTimestamp"):
                continue
            try:
                found.append(typed(manifest))
            except Unavailable as unreadable:
                log.warning("connector left out of a list", error=unreadable.message)
        found.sort(key=lambda each: each.ref)
        seen = await self._seen(found)
        return [self._body(connector, seen) for connector in found]

    def _body(self, connector: Connector, seen: Mapping[ObjectRef, HealthRecord]) -> dict[str, Any]:
        return connector_body(connector, self.agents_of(*connector.ref), seen.get(connector.ref))

    def agents_of(self, namespace: str, name: str) -> list[str]:
        """The agents that name it now."""
        if self._attached[0] != self._agents.version:
            self._attached = (self._agents.version, attached(self._agents.items()))
        return self._attached[1].get(ObjectRef(namespace, name), [])

    async def _seen(self, connectors: Sequence[Connector]) -> dict[ObjectRef, HealthRecord]:
        """Without the log's server connectors are shown all the same."""
        try:
            return await self._health.read([(each.ref, each.metadata.uid) for each in connectors])
        except Unavailable:
            return {}

    # ---- writes -----------------------------------------------------------------------------------------------
    async def create(
        self,
        namespace: str,
        name: str,
        spec: Manifest,
        auth: Auth,
        request: str,
        permission: Permission = everybody,
    ) -> Connector:
        """Raises `Conflict` where it exists, but not where this very request has made it before: then what is missing
        is made. A token is put into a Secret that the connector owns; if that cannot be made, there is no connector
        either. Raises `Forbidden` where the caller has no `permission` to make that Secret."""
        check_url(spec["url"], self._rules)
        ref: Manifest | None = None
        token = credentials.clean(auth.token) if auth.token is not None else None
        if token is not None:
            await permission("create", SECRETS)
            ref = {"name": _secret_name(name), "key": DEFAULT_KEY}
        elif auth.secret_name:
            ref = {"name": auth.secret_name, "key": auth.secret_key or DEFAULT_KEY}
            await self._admit(namespace, ref, "")
        manifest: Manifest = {
            "apiVersion": names.API_VERSION,
            "kind": Connector.kind_name,
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": {names.SERVICE_LABEL: spec["service"]},
                "annotations": {FOR_ANNOTATION: request},
            },
            "spec": spec | ({"authSecretKeyRef": ref} if ref else {}),
        }
        made = await self._made(manifest, request)
        # One that was changed since an earlier try made it may lead elsewhere, where this token is not to go.
        is_as_asked = made["spec"]["url"] == spec["url"] and "authSecretKeyRef" in made["spec"]
        if token is not None and is_as_asked:
            try:
                await self._keep(made, token)
            except BaseException:
                with contextlib.suppress(KomputerError):
                    await self._cluster.delete(CONNECTORS, name, namespace, uid=made["metadata"]["uid"])
                raise
        self._cache.put(made)
        return typed(made)

    async def _made(self, manifest: Manifest, request: str) -> Manifest:
        """The connector, made now or by an earlier try of the request. Raises `Conflict` for anybody else's."""
        name, namespace = manifest["metadata"]["name"], manifest["metadata"]["namespace"]
        try:
            return await self._cluster.create(CONNECTORS, manifest)
        except Conflict:
            with contextlib.suppress(NotFound):
                found = await self._cluster.get(CONNECTORS, name, namespace)
                if (found["metadata"].get("annotations") or {}).get(FOR_ANNOTATION) == request:
                    return found
            raise Conflict(
                f"connector {name!r} exists in namespace {namespace!r}; PATCH or delete it", code="exists"
            ) from None

    async def change(
        self, namespace: str, name: str, fields: Manifest, token: str | None, permission: Permission = everybody
    ) -> Connector:
        """Sets fields of spec in one patch. A token alone replaces the one in the Secret that we made; with other
        fields, or where the Secret is somebody's own, it gets a new Secret, so that no address ever sees a token that
        was meant for another. Raises `Forbidden` where the caller has no `permission` to write that Secret."""
        before = await self._fresh(namespace, name)
        if "url" in fields:
            check_url(fields["url"], self._rules)
        clean = credentials.clean(token) if token is not None else None
        ref = before.spec.auth_secret_key_ref
        if clean is None and ref and fields.get("url", before.spec.url) != before.spec.url:
            await self._admit(namespace, ref.to_wire(), before.metadata.uid)
        if clean is not None and not fields and await self._replaced(before, clean, permission):
            await self._forget_health(namespace, name)
            return before
        changes, made = dict(fields), _secret_name(name)
        if clean is not None:
            await permission("create", SECRETS)
            await self._cluster.create(SECRETS, _secret(before.to_wire(), made, clean))
            changes["authSecretKeyRef"] = {"name": made, "key": DEFAULT_KEY}
            if before.spec.auth_type in ("none", "oauth"):
                changes["authType"] = "token"
        try:
            patched = await self._patch(before, changes)
        except KomputerError:
            if clean is not None:
                await self._drop_secret(before, made)
            raise
        if clean is not None and ref:
            await self._drop_secret(before, ref.name)
        await self._forget_health(namespace, name)
        return typed(patched)

    async def _fresh(self, namespace: str, name: str) -> Connector:
        """As `one`, but never from the cache: what is decided on it is tested by the patch."""
        await self.one(namespace, name)
        try:
            manifest = await self._cluster.get(CONNECTORS, name, namespace)
        except NotFound:
            raise NotFound(f"connector {name!r} was deleted meanwhile", code="connector_not_found") from None
        return typed(manifest)

    async def _patch(self, before: Connector, changes: Manifest) -> Manifest:
        """Set fields of `spec`. Raises `Conflict` if the url or the credential changed meanwhile: they belong together.

        Another change of `spec` in between is no conflict: the patch is tried again on top of it.
        """
        name, namespace = before.metadata.name, before.metadata.namespace or ""
        added: list[Manifest] = []
        for field, value in changes.items():
            added.append({"op": "add", "path": f"/spec/{field}", "value": value})
        latest = before
        for _ in range(ATTEMPTS):
            tests: list[Manifest] = [
                {"op": "test", "path": "/metadata/uid", "value": latest.metadata.uid},
                {"op": "test", "path": "/metadata/generation", "value": latest.metadata.generation},
            ]
            try:
                patched = await self._cluster.json_patch(CONNECTORS, name, namespace, [*tests, *added])
            except Conflict:
                latest = await self._fresh(namespace, name)
                if _credential_of(latest) != _credential_of(before):
                    break
                continue
            self._cache.put(patched)
            return patched
        raise Conflict(f"connector {name!r} changed at the same time; look at it and try again", code="changed")

    async def delete(self, namespace: str, name: str) -> list[str]:
        """Answers the agents that lose it. A Secret that we made goes with it."""
        connector = await self.one(namespace, name)
        uid = connector.metadata.uid
        await self._cluster.delete(CONNECTORS, name, namespace, uid=uid, propagation="Background")
        if manifest := self._cache.get(namespace, name):
            self._cache.forget(manifest)
        await self._forget_health(namespace, name)
        return self.agents_of(namespace, name)

    # ---- Secrets ----------------------------------------------------------------------------------------------
    async def _admit(self, namespace: str, ref: Manifest, uid: str) -> None:
        """Raises `Invalid` for a Secret that is not there, `Forbidden` for one that is not for this connector."""
        try:
            secret = await self._cluster.get(SECRETS, ref["name"], namespace)
        except NotFound:
            raise Invalid(
                f"there is no Secret {ref['name'][:100]!r} in namespace {namespace!r}: make it first, or give a token",
                code="secret_not_found",
                field="authSecretName",
            ) from None
        credentials.admit(secret, uid, self._configs())
        if ref["key"] not in (secret.get("data") or {}):
            raise Invalid(
                f"Secret {ref['name']!r} has no key {ref['key'][:100]!r}",
                code="secret_not_found",
                field="authSecretKey",
            )

    async def _keep(self, connector: Manifest, token: str) -> None:
        """Put the token into the Secret that the connector names. One that is there stays as it is: an earlier try has
        made it, or somebody has since."""
        try:
            await self._cluster.create(
                SECRETS, _secret(connector, connector["spec"]["authSecretKeyRef"]["name"], token)
            )
        except Conflict as there:
            if there.code != "exists":
                raise

    async def _replaced(self, connector: Connector, token: str, permission: Permission) -> bool:
        """Whether the token could be put into the Secret that the connector has, since it is its own."""
        ref, namespace = connector.spec.auth_secret_key_ref, connector.metadata.namespace
        if ref is None or connector.spec.auth_type not in ("token", "header"):
            return False
        try:
            secret = await self._cluster.get(SECRETS, ref.name, namespace)
            if not credentials.is_owned(secret, connector.metadata.uid):
                return False
            await permission("update", SECRETS, ref.name)
            guard = {"uid": secret["metadata"]["uid"]}
            patch = {"metadata": guard, "data": encoded({ref.key: token})}
            await self._cluster.merge_patch(SECRETS, ref.name, namespace, patch)
        except (NotFound, Conflict):
            return False
        return True

    async def _drop_secret(self, connector: Connector, name: str) -> None:
        """The Secret before, where it was ours. What stays behind in a crash goes with the connector."""
        namespace = connector.metadata.namespace
        with contextlib.suppress(KomputerError):
            secret = await self._cluster.get(SECRETS, name, namespace)
            if credentials.is_owned(secret, connector.metadata.uid):
                await self._cluster.delete(SECRETS, name, namespace, uid=secret["metadata"]["uid"])

    async def _forget_health(self, namespace: str, name: str) -> None:
        with contextlib.suppress(Unavailable):
            await self._health.forget(ObjectRef(namespace, name))


def typed(manifest: Manifest) -> Connector:
    """Raises `Unavailable` for one that was made past our checks."""
    try:
        return Connector.salvaged(manifest, "status")[0]
    except ValidationError as wrong:
        metadata = manifest["metadata"]
        where = ".".join(str(part) for part in wrong.errors(include_input=False)[0]["loc"])
        raise Unavailable(
            f"connector {metadata['namespace']}/{metadata['name']} is not as we know connectors: see {where}",
            code="connector_unreadable",
        ) from None


def _credential_of(connector: Connector) -> tuple[object, ...]:
    """Which connector it is, and which server gets which credential."""
    return connector.metadata.uid, connector.spec.url, connector.spec.auth_secret_key_ref


def _secret_name(connector: str) -> str:
    """A new one each time, so that the Secret of an earlier connector of this name is never met."""
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
