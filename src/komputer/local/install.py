"""Installs what the chart installs on a cluster: the resource definitions, the default template, the configuration."""

from komputer.domain import crds, names
from komputer.domain.base import Manifest
from komputer.domain.errors import Conflict
from komputer.kube import CLUSTER_TEMPLATES, CONFIGS, CRDS, Cluster, Kind

AGENT_IMAGE = "komputer-agent"
"""The image name that the local kubelet maps to the command of the runtime."""


def default_template() -> Manifest:
    return {
        "apiVersion": names.API_VERSION,
        "kind": "KomputerAgentClusterTemplate",
        "metadata": {"name": names.DEFAULT_TEMPLATE},
        "spec": {"podSpec": {"containers": [{"name": names.AGENT_CONTAINER, "image": AGENT_IMAGE}]}},
    }


def config(redis_address: str, api_url: str, gateway_url: str) -> Manifest:
    return {
        "apiVersion": names.API_VERSION,
        "kind": "KomputerConfig",
        "metadata": {"name": names.CONFIG_NAME},
        "spec": {"redis": {"address": redis_address}, "apiURL": api_url, "gatewayURL": gateway_url},
    }


async def install(cluster: Cluster, wanted_config: Manifest) -> None:
    """Create or update the definitions, create the template and the configuration if they are missing, and write the
    present addresses into the configuration. An existing template, and every other setting of the configuration,
    belongs to the user and is not changed."""
    for crd in crds.manifests():
        await _created_or_patched(cluster, CRDS, crd, {"spec": crd["spec"]})
    await _created_or_patched(cluster, CLUSTER_TEMPLATES, default_template(), None)
    await _created_or_patched(cluster, CONFIGS, wanted_config, {"spec": wanted_config["spec"]})


async def _created_or_patched(cluster: Cluster, kind: Kind, manifest: Manifest, patch: Manifest | None) -> None:
    try:
        await cluster.create(kind, manifest)
    except Conflict:
        if patch is not None:
            await cluster.merge_patch(kind, manifest["metadata"]["name"], None, patch)
