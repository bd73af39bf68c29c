"""What a decision is made from: one agent and everything around it, at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from komputer.domain import names, tasks
from komputer.domain.agent import Agent, AgentStatus
from komputer.domain.base import Manifest
from komputer.domain.config import ConfigSpec
from komputer.domain.connector import Connector
from komputer.domain.template import TemplateSpec
from komputer.events.log import Live, LogEntry
from komputer.operator.agent.desired import Children, PodImpossible, children


class Fault(NamedTuple):
    """Why no pod can be made: a condition's reason and message."""

    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Observed:
    """`desired` is what must exist, or why it cannot. `refused` is what the API server said to it, if it said no.
    Without an answering log `live`, `ends` and `gateway_since` mean nothing. All times are of the clock of `now`."""

    agent: Agent
    desired: Children | Fault
    config: ConfigSpec | None
    pvc: Manifest | None = None
    settings: Manifest | None = None
    pod: Manifest | None = None
    live: Live | None = None
    ends: tuple[LogEntry, ...] = ()
    log_answers: bool = True
    gateway_since: datetime | None = None
    """Since when a gateway has been alive without a gap; None while there is none, so that nobody can be heard."""
    refused: str | None = None
    connectors: Mapping[str, Connector | None] = field(default_factory=dict)
    now: datetime

    @property
    def children(self) -> tuple[Manifest, ...]:
        return tuple(child for child in (self.pvc, self.settings, self.pod) if child is not None)

    def open_task(self, status: AgentStatus) -> str | None:
        """The task that has started and not ended, by the log and by `status`, which may count more ends than the
        agent's own."""
        return None if self.live is None else tasks.open_task(status, self.live.task)


def desired(agent: Agent, template: TemplateSpec | Fault, config: ConfigSpec | Fault) -> Children | Fault:
    """What must exist for `agent`, or the first reason why nothing can."""
    if not names.is_agent_name(agent.metadata.name):
        return Fault("InvalidName", "the name is not of lower-case letters, digits and hyphens, at most 63")
    if isinstance(config, Fault):
        return config
    if isinstance(template, Fault):
        return template
    try:
        return children(agent, template, config)
    except PodImpossible as why:
        return Fault("TemplateInvalid", f"template {agent.spec.template_ref!r}: {why}")


def is_ours(child: Manifest, agent: Agent) -> bool:
    """Whether this very agent controls the object: a name alone makes it nobody's."""
    controller = _controller(child)
    return controller is not None and controller.get("uid") == agent.metadata.uid


def is_of_old_agent(child: Manifest, agent: Agent) -> bool:
    """Of a child that is not ours: whether an earlier agent of this name controls it. That agent is no more, since this
    one has its name."""
    found = _controller(child)
    return (
        found is not None
        and found.get("kind") == Agent.kind_name
        and str(found.get("apiVersion", "")).startswith(f"{names.GROUP}/")
        and found.get("name") == agent.metadata.name
    )


def is_going(child: Manifest) -> bool:
    return child["metadata"].get("deletionTimestamp") is not None


def _controller(child: Manifest) -> Manifest | None:
    owners: list[Manifest] = child["metadata"].get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), None)
