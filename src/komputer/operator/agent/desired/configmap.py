"""The ConfigMap with the runtime's settings. It holds no secrets."""

from komputer.domain import names
from komputer.domain.agent import Agent
from komputer.domain.base import Manifest
from komputer.domain.config import ConfigSpec
from komputer.operator.agent.desired.metadata import metadata


def settings(agent: Agent, config: ConfigSpec) -> Manifest:
    """Return the ConfigMap with the variables of the pod's environment. Each start of the container reads it again."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(agent, names.settings_name(agent.metadata.name)),
        "data": {
            "KOMPUTER_AGENT": agent.metadata.name,
            "KOMPUTER_NAMESPACE": agent.metadata.namespace,
            "KOMPUTER_GATEWAY_URL": config.gateway_url,
        },
    }


def changed_settings(found: Manifest, desired: Manifest) -> Manifest | None:
    """Return the merge patch that restores the ConfigMap's data; None if the data is as desired."""
    return {"data": desired["data"]} if found.get("data") != desired["data"] else None
