"""Ownership of Secrets, and the environment variables that agents' tools get from them. Pure."""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from typing import Final

from komputer.domain import names
from komputer.domain.base import Manifest
from komputer.domain.config import Config

MANAGED_LABEL: Final = "komputer.ai/managed-by"
MANAGED: Final = "komputer-ai"
"""The value of `MANAGED_LABEL` on Secrets that the REST API created, which published clients rely on. The API changes
no other Secrets."""
NAME_LABEL: Final = "komputer.ai/secret-name"
FOR_ANNOTATION: Final = "komputer.ai/made-for"
"""Annotation on an object that the REST API created: the id of the request, by which a repeated request recognises the
object. While an agent's own Secret has no owner yet, only this request may use it."""

VALUE_LIMIT_BYTES: Final = 96 * 1024
"""Maximum size of one value in bytes. Linux does not start a program that has a variable of 128 KiB, including the
name."""
TOTAL_LIMIT_BYTES: Final = 512 * 1024
"""Maximum size of all variables of an agent, in bytes. Linux allows a quarter of the stack's limit (2 MiB by default)
for arguments and environment together."""
KEYS_LIMIT: Final = 256

PLATFORM_TYPES: Final = ("kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "helm.sh/")
"""Prefixes of the types of Secrets that belong to kubelets, controllers and Helm. Agents' tools never get them."""
PART_OF_LABEL: Final = "app.kubernetes.io/part-of"
"""Label whose value `komputer` marks a Secret of the platform itself, such as the credential of the model."""

_KEY: Final = re.compile(r"[A-Za-z0-9._-]{1,253}")


def fault(data: Mapping[str, str]) -> str | None:
    """Return what is wrong with a map of secrets, as the end of a sentence that shows no value; None if it is valid."""
    if len(data) > KEYS_LIMIT:
        return f"has more than {KEYS_LIMIT} keys"
    variables: dict[str, str] = {}
    for key, value in data.items():
        if not _KEY.fullmatch(key) or key in (".", ".."):
            return f"{key[:100]!r} is no key: 1 to 253 letters, digits, dots, dashes and underscores"
        if (other := variables.setdefault(word(key), key)) != key:
            return f"{other} and {key} would be one variable, {word(key)}"
        if "\0" in value:
            return f"{key}: a variable cannot hold a zero byte"
        if len(value.encode()) > VALUE_LIMIT_BYTES:
            return f"{key}: the value is longer than {VALUE_LIMIT_BYTES // 1024} KiB"
    if sum(len(key) + len(value.encode()) for key, value in data.items()) > TOTAL_LIMIT_BYTES:
        return f"is larger than {TOTAL_LIMIT_BYTES // 1024} KiB"
    return None


def word(text: str) -> str:
    """Return the text as part of a variable's name: in upper case, with underscores in place of other characters."""
    return re.sub(r"[^A-Z0-9_]", "_", text.upper())


def is_managed(manifest: Manifest) -> bool:
    """Return whether the REST API created this Secret, and so may change and delete it."""
    return (manifest["metadata"].get("labels") or {}).get(MANAGED_LABEL) == MANAGED


def is_platforms(manifest: Manifest, configs: Iterable[Config]) -> bool:
    """Return whether this Secret belongs to the platform: no agent and no connector may use it."""
    labels = manifest["metadata"].get("labels") or {}
    return (
        str(manifest.get("type") or "").startswith(PLATFORM_TYPES)
        or labels.get(PART_OF_LABEL) == "komputer"
        or names.PLATFORM_LABEL in labels
        or any(_is_named(manifest["metadata"], config) for config in configs)
    )


def _is_named(metadata: Manifest, config: Config) -> bool:
    """Return whether the config lists this Secret as the platform's. A reference without a namespace matches every
    namespace."""
    named = [config.spec.redis.password_secret, *config.spec.platform_secrets]
    return any(
        ref is not None and ref.name == metadata["name"] and ref.namespace in (None, metadata["namespace"])
        for ref in named
    )


def is_for_agents(manifest: Manifest, configs: Iterable[Config]) -> bool:
    """Return whether agents' tools may get this Secret: it belongs neither to the platform nor to a connector."""
    labels = manifest["metadata"].get("labels") or {}
    return names.CONNECTOR_LABEL not in labels and not is_platforms(manifest, configs)


def encoded(data: Mapping[str, str]) -> dict[str, str]:
    """Return the values in base64, as the `data` of a Secret."""
    return {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}


def texts(manifest: Manifest) -> dict[str, str]:
    """Return the values of a Secret that a variable can hold. Values that are not UTF-8 text, contain a zero byte or
    are longer than `VALUE_LIMIT_BYTES` are left out."""
    found = {}
    for key, value in (manifest.get("data") or {}).items():
        try:
            text = base64.b64decode(value or "", validate=True).decode()
        except (binascii.Error, ValueError):
            continue
        if "\0" not in text and len(text.encode()) <= VALUE_LIMIT_BYTES:
            found[key] = text
    return found


def environment(own: Manifest | None, others: Mapping[str, Manifest]) -> dict[str, str]:
    """Return the variables `SECRET_<KEY>` of the agent's own Secret, and `SECRET_<SECRET>_<KEY>` of those that its spec
    names. If two have the same name, the agent's own wins, then the first named. Variables beyond `TOTAL_LIMIT_BYTES`
    are left out."""
    found = {f"SECRET_{word(key)}": text for key, text in sorted(texts(own or {}).items())}
    for name, manifest in others.items():
        for key, text in sorted(texts(manifest).items()):
            found.setdefault(f"SECRET_{word(name)}_{word(key)}", text)
    size, kept = 0, {}
    for variable, text in found.items():
        size += len(variable) + len(text.encode()) + 2
        if size <= TOTAL_LIMIT_BYTES:
            kept[variable] = text
    return kept


def own_secret(agent: str, namespace: str, data: Mapping[str, str], made_for: str) -> Manifest:
    """Return the manifest of an agent's own Secret. The owner is added when the agent's uid is known."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": names.secrets_name(agent),
            "namespace": namespace,
            "labels": {
                MANAGED_LABEL: MANAGED,
                NAME_LABEL: label_value(names.secrets_name(agent)),
                names.AGENT_LABEL: agent,
            },
            "annotations": {FOR_ANNOTATION: made_for},
        },
        "type": "Opaque",
        "data": encoded(data),
    }


def label_value(name: str) -> str:
    """Return a name as the value of a label, cut at 63 characters."""
    return name[:63].rstrip("-.")
