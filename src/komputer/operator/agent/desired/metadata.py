"""What all children of an agent have in common: its labels, and it as their controller."""

from komputer.domain import labels, names
from komputer.domain.agent import Agent
from komputer.domain.base import Manifest


def metadata(agent: Agent, name: str) -> Manifest:
    """Metadata of a child. The person's own labels come along; ours win, and those we reserve are not theirs to set."""
    own = {key: value for key, value in (agent.spec.labels or {}).items() if not labels.is_reserved(key)}
    return {
        "name": name,
        "namespace": agent.metadata.namespace,
        "labels": {**own, names.AGENT_LABEL: agent.metadata.name, names.MANAGED_BY_LABEL: names.MANAGED_BY},
        "ownerReferences": [Agent.as_controller(agent.metadata.name, agent.metadata.uid)],
    }
