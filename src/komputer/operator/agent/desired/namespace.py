"""Objects that the agents of a namespace share: the pods' service account and their network policy."""

from typing import Any

from komputer.domain import names
from komputer.domain.base import Manifest
from komputer.domain.config import ConfigSpec


def service_account(namespace: str) -> Manifest:
    """Return the service account of all agents' pods. It has no owner and no rights."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _metadata(namespace),
        "automountServiceAccountToken": False,
    }


def network_policy(namespace: str, config: ConfigSpec) -> Manifest | None:
    """Return the NetworkPolicy with the spec in KomputerConfig `spec.agentNetworkPolicy`; None if that is not set."""
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
