"""Metadata that all children of an agent share: labels, and the agent as controller."""

from komputer.domain import labels, names
from komputer.domain.agent import Agent
from komputer.domain.base import Manifest


def metadata(agent: Agent, name: str) -> Manifest:
    """Return the metadata of a child. It has the labels in the agent's spec, except reserved ones. Labels of the
    operator take precedence."""
    own = {key: value for key, value in (agent.spec.labels or {}).items() if not labels.is_reserved(key)}
    return {
        "name": name,
        "namespace": agent.metadata.namespace,
        "labels": {**own, names.AGENT_LABEL: agent.metadata.name, names.MANAGED_BY_LABEL: names.MANAGED_BY},
        "ownerReferences": [Agent.as_controller(agent.metadata.name, agent.metadata.uid)],
    }
