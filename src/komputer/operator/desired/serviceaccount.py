"""The identity of a namespace's pods."""

from komputer.resources import names
from komputer.resources.base import Manifest


def service_account(namespace: str) -> Manifest:
    """One for all agents of a namespace, without an owner and without any right."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {
            "name": names.SERVICE_ACCOUNT,
            "namespace": namespace,
            "labels": {names.MANAGED_BY_LABEL: names.MANAGED_BY},
        },
        "automountServiceAccountToken": False,
    }
