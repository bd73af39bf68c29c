"""The input of all decisions: one agent and everything that concerns it, at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from komputer.domain import names, tasks
from komputer.domain.agent import Agent, AgentStatus
from komputer.domain.base import Manifest
from komputer.domain.config import ConfigSpec
from komputer.domain.connector import Connector
from komputer.events.log import Live, LogEntry
from komputer.operator.agent.child import POD, PVC
from komputer.operator.settings import SilenceLimits


class Blocker(NamedTuple):
    """The reason why no runtime can hold the agent's task, as reason and message of a condition."""

    reason: str
    message: str
    requeue_at: datetime | None = None
    """The time at which the blocker may change although no object changes; None: never."""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """The input of all decisions about one agent. `live`, `ends` and `gateway_since` are meaningless unless the log
    answers. Times are by the clock of `now`."""

    agent: Agent
    desired: Mapping[str, Manifest] | Blocker
    """The desired children, by `Child.key`, or why none can exist."""
    children: Mapping[str, Manifest]
    """The existing objects with the names of the children, by `Child.key`, whoever created them."""
    config: ConfigSpec | None
    live: Live | None = None
    ends: tuple[LogEntry, ...] = ()
    log_answers: bool = True
    gateway_since: datetime | None = None
    """The time since which a gateway has been alive without interruption; None while there is none. Without a gateway
    no runtime can send a sign of life."""
    refused: str | None = None
    """The API server's message if it refused the last attempt to create the children; else None."""
    connectors: Mapping[str, Connector | None] = field(default_factory=dict)
    silence: SilenceLimits = field(default_factory=SilenceLimits)
    now: datetime

    @property
    def pod(self) -> Manifest | None:
        return self.children.get(POD)

    @property
    def pvc(self) -> Manifest | None:
        return self.children.get(PVC)

    def open_task(self, status: AgentStatus) -> str | None:
        """Return the task that has started and not ended, by the log and by `status`. `status` may count more ends than
        `agent.status` does."""
        return None if self.live is None else tasks.open_task(status, self.live.task)


def is_ours(child: Manifest, agent: Agent) -> bool:
    """Return whether this agent controls the object, by uid. An object that only has a child's name is not ours."""
    controller = _controller(child)
    return controller is not None and controller.get("uid") == agent.metadata.uid


def is_of_old_agent(child: Manifest, agent: Agent) -> bool:
    """Return whether an earlier agent of the same name controls the object. That agent has been deleted, since this one
    has its name. Call it only for an object that is not ours (`is_ours`)."""
    found = _controller(child)
    return (
        found is not None
        and found.get("kind") == Agent.kind_name
        and str(found.get("apiVersion", "")).startswith(f"{names.GROUP}/")
        and found.get("name") == agent.metadata.name
    )


def _controller(child: Manifest) -> Manifest | None:
    owners: list[Manifest] = child["metadata"].get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), None)
