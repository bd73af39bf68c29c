"""The desired objects of an agent, as pure functions of resources. One file per object."""

from komputer.operator.agent.desired.configmap import changed_settings, settings
from komputer.operator.agent.desired.namespace import network_policy, service_account
from komputer.operator.agent.desired.pod import PodImpossible, digest, pod
from komputer.operator.agent.desired.pvc import grown, workspace

__all__ = [
    "PodImpossible",
    "changed_settings",
    "digest",
    "grown",
    "network_policy",
    "pod",
    "service_account",
    "settings",
    "workspace",
]
