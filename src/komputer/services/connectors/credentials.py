"""Decides which Secret may be sent to a connector's server, and in which header. The value is used nowhere else."""

import base64
import binascii
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from komputer.domain import names
from komputer.domain.agent import Agent
from komputer.domain.base import Manifest
from komputer.domain.config import Config
from komputer.domain.connector import Connector
from komputer.domain.errors import Forbidden, Invalid, KomputerError, NotFound, ServerFailed
from komputer.domain.ref import ObjectRef
from komputer.domain.secret import is_platforms
from komputer.kube import SECRETS, Cluster

VALUE_LIMIT_BYTES: Final = 8 * 1024
"""Maximum length of one header that servers accept."""
KEPT_S: Final = 2.0
"""How long a Secret is cached: a replaced token takes effect within this time."""
SECRETS_CACHED: Final = 1_000


@dataclass(frozen=True)
class ConnectorCredential:
    """A header and its value, which appears in no repr."""

    name: str
    value: str = field(repr=False)
    secret: str = field(repr=False)
    """The value without its scheme. It must never be logged or shown."""


def admit(secret: Manifest, connector_uid: str, configs: Iterable[Config] = ()) -> None:
    """Check that the connector of this uid (empty: one that is about to be created) may use this Secret. No other code
    decides this. The operations check whether the caller may name the Secret.

    Raises `Forbidden` for a Secret that belongs to something else: to the platform, to an agent, to another connector.
    """
    metadata = secret["metadata"]
    labels: dict[str, Any] = metadata.get("labels") or {}
    refusal = Forbidden(
        f"Secret {metadata['name']!r} is not for connectors; name one of your own, or give a token",
        code="secret_not_allowed",
    )
    if secret.get("type") not in (None, "", "Opaque"):
        raise refusal
    if is_platforms(secret, configs):
        raise refusal
    for owner in metadata.get("ownerReferences") or ():
        is_ours = str(owner.get("apiVersion", "")).startswith(f"{names.GROUP}/")
        if is_ours and (owner.get("kind") == Agent.kind_name or owner.get("uid") != connector_uid):
            raise refusal
    if names.CONNECTOR_LABEL in labels and not is_owned(secret, connector_uid):
        raise refusal


def is_owned(secret: Manifest, connector_uid: str) -> bool:
    """Return whether the Secret was created for this connector."""
    owners = secret["metadata"].get("ownerReferences") or ()
    return bool(connector_uid) and any(
        owner.get("uid") == connector_uid and owner.get("controller") for owner in owners
    )


def clean(token: str) -> str:
    """Return the token as it is sent. Raises `Invalid` if a header cannot contain it."""
    value = token.strip()
    if not value or len(value) > VALUE_LIMIT_BYTES or not value.isascii() or not value.isprintable():
        raise Invalid(f"token must be 1 to {VALUE_LIMIT_BYTES} printable ASCII characters on one line", field="token")
    return value


def value_in(secret: Manifest, key: str) -> str:
    """Return the value of a key. Raises `ServerFailed` (`mcp_secret_missing`, `mcp_secret_invalid`)."""
    name, raw = secret["metadata"]["name"], (secret.get("data") or {}).get(key)
    if raw is None:
        raise ServerFailed(
            f"Secret {name!r} has no key {key!r}: add it, or give the connector a token.", code="mcp_secret_missing"
        )
    try:
        return clean(base64.b64decode(raw, validate=True).decode())
    except (binascii.Error, UnicodeDecodeError, Invalid):
        raise ServerFailed(
            f"Key {key!r} of Secret {name!r} holds no credential that can be sent: one line of printable ASCII.",
            code="mcp_secret_invalid",
        ) from None


def header(connector: Connector, value: str) -> ConnectorCredential:
    """Return the header that the connector's `authType` requires."""
    if connector.spec.auth_type == "header":
        return ConnectorCredential((connector.spec.header_name or "Authorization").lower(), value, value)
    return ConnectorCredential("authorization", f"Bearer {value}", value)


class CredentialReader:
    """Reads the credentials of connectors, with a cache of `kept_s` seconds."""

    def __init__(self, cluster: Cluster, kept_s: float = KEPT_S) -> None:
        self._cluster = cluster
        self._kept_s = kept_s
        self._read: dict[ObjectRef, tuple[float, Manifest]] = {}

    async def of(self, connector: Connector, configs: Iterable[Config]) -> ConnectorCredential | None:
        """Return the credential for the connector's server; None if it needs none. `configs` are the platform's. Raises
        `ServerFailed`."""
        spec, ref = connector.spec, connector.spec.auth_secret_key_ref
        if spec.auth_type == "none" or (ref is None and spec.auth_type == "token"):
            return None
        if spec.auth_type == "oauth" or ref is None:
            raise ServerFailed(
                f"Connector {connector.metadata.name!r} has no credential: its authType is {spec.auth_type!r}"
                + (", which is not supported yet." if spec.auth_type == "oauth" else "; give it a token."),
                code="mcp_secret_missing",
            )
        namespace = connector.metadata.namespace or ""
        try:
            secret = await self._secret(namespace, ref.name)
        except NotFound:
            if ref.optional:
                return None
            raise ServerFailed(
                f"There is no Secret {ref.name!r} in namespace {namespace!r}: make it, or give the connector a token.",
                code="mcp_secret_missing",
            ) from None
        try:
            admit(secret, connector.metadata.uid, configs)
        except Forbidden as refused:
            raise ServerFailed(f"{refused.message}.", code="mcp_secret_not_allowed") from None
        return header(connector, value_in(secret, ref.key))

    async def _secret(self, namespace: str, name: str) -> Manifest:
        ref, now = ObjectRef(namespace, name), time.monotonic()
        known = self._read.get(ref)
        if known and known[0] > now:
            return known[1]
        try:
            secret = await self._cluster.get(SECRETS, name, namespace)
        except KomputerError:
            self._read.pop(ref, None)
            raise
        while len(self._read) >= SECRETS_CACHED:
            del self._read[next(iter(self._read))]
        self._read[ref] = (now + self._kept_s, secret)
        return secret
