"""Creates the objects that the agents of a namespace share: a service account and a network policy."""

import contextlib

from komputer.domain.base import Manifest
from komputer.domain.config import ConfigSpec
from komputer.domain.errors import Conflict
from komputer.kube import NETWORK_POLICIES, SERVICE_ACCOUNTS, Cluster
from komputer.operator.agent import desired


class NamespaceSetup:
    """Creates the shared objects of a namespace once, and remembers which namespaces are prepared."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._policies: dict[str, Manifest | None] = {}
        """The policy of each prepared namespace."""

    def is_prepared(self, namespace: str, config: ConfigSpec | None) -> bool:
        """Return whether the shared objects are known to exist in the namespace; True without a configuration."""
        if config is None:
            return True
        return self._policies.get(namespace, ...) == desired.network_policy(namespace, config)

    async def prepare(self, namespace: str, config: ConfigSpec | None) -> None:
        """Create the shared objects, and update the policy, unless the namespace is prepared."""
        if config is None or self.is_prepared(namespace, config):
            return
        with contextlib.suppress(Conflict):
            await self._cluster.create(SERVICE_ACCOUNTS, desired.service_account(namespace))
        policy = desired.network_policy(namespace, config)
        if policy is not None:
            try:
                await self._cluster.create(NETWORK_POLICIES, policy)
            except Conflict:
                name = policy["metadata"]["name"]
                await self._cluster.json_patch(
                    NETWORK_POLICIES, name, namespace, [{"op": "replace", "path": "/spec", "value": policy["spec"]}]
                )
        self._policies[namespace] = policy

    def forget(self, namespace: str | None = None) -> None:
        """Make the next turn check this namespace (None: all) again: the objects may have been deleted."""
        if namespace is None:
            self._policies.clear()
        else:
            self._policies.pop(namespace, None)
