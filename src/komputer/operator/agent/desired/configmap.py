"""The runtime's settings. Nothing in them is secret."""

from komputer.domain import names
from komputer.domain.agent import Agent
from komputer.domain.base import Manifest
from komputer.domain.config import ConfigSpec
from komputer.operator.agent.desired.metadata import metadata


def settings(agent: Agent, config: ConfigSpec) -> Manifest:
    """The ConfigMap that the pod's environment is made from; a container that starts again reads it anew."""
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
