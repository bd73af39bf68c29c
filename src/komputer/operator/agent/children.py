"""The children of an agent. To add one, add an entry to `CHILDREN` and a function to `desired/`."""

from typing import Final

from komputer.domain import names
from komputer.domain.agent import Agent
from komputer.domain.base import Manifest
from komputer.domain.config import ConfigSpec
from komputer.domain.template import TemplateSpec
from komputer.kube import CONFIG_MAPS, PODS, PVCS
from komputer.operator.agent import desired, pod_replacement
from komputer.operator.agent.child import POD, PVC, SETTINGS, Child
from komputer.operator.agent.observed import Blocker

CHILDREN: Final = (
    Child(
        key=PVC,
        kind=PVCS,
        name=names.pvc_name,
        build=lambda agent, template, config: desired.workspace(agent, template),
        update=desired.grown,
    ),
    Child(
        key=SETTINGS,
        kind=CONFIG_MAPS,
        name=names.settings_name,
        build=lambda agent, template, config: desired.settings(agent, config),
        update=desired.changed_settings,
    ),
    Child(
        key=POD,
        kind=PODS,
        name=names.pod_name,
        build=desired.pod,
        stage=1,  # kubelet needs the PVC and the ConfigMap
        replace=pod_replacement.replacement,
        restores_label=False,  # without its label the NetworkPolicy did not apply to the pod either
    ),
)


def desired_children(
    agent: Agent, template: TemplateSpec | Blocker, config: ConfigSpec | Blocker
) -> dict[str, Manifest] | Blocker:
    """Return the objects that must exist for `agent`, by `Child.key`, or the first reason why none can."""
    if not names.is_agent_name(agent.metadata.name):
        return Blocker("InvalidName", "the name is not of lower-case letters, digits and hyphens, at most 63")
    if isinstance(config, Blocker):
        return config
    if isinstance(template, Blocker):
        return template
    try:
        return {child.key: child.build(agent, template, config) for child in CHILDREN}
    except desired.PodImpossible as why:
        return Blocker("TemplateInvalid", f"template {agent.spec.template_ref!r}: {why}")
