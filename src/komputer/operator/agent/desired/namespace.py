"""What a namespace with agents has, once for all of them: who its pods are, and what they may reach."""

from typing import Any

from komputer.domain import names
from komputer.domain.base import Manifest
from komputer.domain.config import ConfigSpec


def service_account(namespace: str) -> Manifest:
    """Without an owner and without any right."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _metadata(namespace),
        "automountServiceAccountToken": False,
    }


def network_policy(namespace: str, config: ConfigSpec) -> Manifest | None:
    """What the configuration says of all agents; None where it says nothing."""
    spec: dict[str, Any] | None = config.agent_network_policy
    if spec is None:
        return None
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(namespace),
        "spec": spec,
    }


def _metadata(namespace: str) -> Manifest:
    return {
        "name": names.SERVICE_ACCOUNT,
        "namespace": namespace,
        "labels": {names.MANAGED_BY_LABEL: names.MANAGED_BY},
    }
