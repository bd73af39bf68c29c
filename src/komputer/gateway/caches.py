"""The resources that a gateway watches, and the platform's configuration, which it reads from them."""

from collections.abc import Iterator
from typing import Any

import structlog
from pydantic import ValidationError

from komputer.domain import names
from komputer.domain.base import Manifest
from komputer.domain.config import Config
from komputer.gateway.settings import GatewaySettings
from komputer.kube import AGENTS, CONFIGS, CONNECTORS, PODS, Cache, Cluster

logger = structlog.get_logger(__name__)


class Caches:
    """The watched caches of one gateway. They are filled while their `run` runs."""

    def __init__(self, settings: GatewaySettings, cluster: Cluster) -> None:
        self.agents = Cache(cluster, AGENTS, namespaces=settings.namespaces)
        self.pods = Cache(cluster, PODS, namespaces=settings.namespaces, labels=names.AGENT_LABEL, strip=_identifying)
        self.configs = Cache(cluster, CONFIGS)
        self.connectors = Cache(cluster, CONNECTORS, namespaces=settings.namespaces)

    def __iter__(self) -> Iterator[Cache]:
        return iter((self.agents, self.pods, self.configs, self.connectors))

    @property
    def can_recognise_pods(self) -> bool:
        return all(cache.is_synced and cache.stale_s == 0 for cache in (self.agents, self.pods))

    def config(self) -> Config | None:
        """Return the platform's configuration; None, and so its defaults, if there is none or it is not valid."""
        manifest = self.configs.get(None, names.CONFIG_NAME)
        try:
            return Config.model_validate(manifest) if manifest else None
        except ValidationError as error:
            logger.warning("config not valid, defaults apply", errors=error.error_count())
            return None

    def all_configs(self) -> list[Config]:
        """Return every valid configuration: each may allow Secrets to agents."""
        return Config.understood(self.configs.items())


def _identifying(manifest: Manifest) -> Manifest:
    """Return only the fields of a pod that `identity` reads, to save memory: a pod's spec is large, and there may be
    thousands of pods."""
    kept = ("name", "namespace", "uid", "resourceVersion", "labels", "ownerReferences", "deletionTimestamp")
    metadata: dict[str, Any] = {key: value for key, value in manifest["metadata"].items() if key in kept}
    status = manifest.get("status")
    phase = status.get("phase") if isinstance(status, dict) else None
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {"phase": phase}}
