"""Resources to the objects that must exist. Pure: one file per object, no clock, no cluster."""

from typing import NamedTuple

from komputer.domain.agent import Agent
from komputer.domain.base import Manifest
from komputer.domain.config import ConfigSpec
from komputer.domain.template import TemplateSpec
from komputer.operator.agent.desired.configmap import settings
from komputer.operator.agent.desired.namespace import network_policy, service_account
from komputer.operator.agent.desired.pod import PodImpossible, digest, pod
from komputer.operator.agent.desired.pvc import grown, workspace

__all__ = [
    "Children",
    "PodImpossible",
    "children",
    "digest",
    "grown",
    "network_policy",
    "pod",
    "service_account",
    "settings",
    "workspace",
]


class Children(NamedTuple):
    """What an agent that may run has."""

    pvc: Manifest
    settings: Manifest
    pod: Manifest


def children(agent: Agent, template: TemplateSpec, config: ConfigSpec) -> Children:
    """Everything that must exist for `agent`. Raises `PodImpossible` where the template makes no pod."""
    return Children(workspace(agent, template), settings(agent, config), pod(agent, template, config))
