"""What an agent is to do, as its runtime is told: the whole of it, again whenever the resource changes. Pure."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from komputer.resources.agent import Agent, Unrecorded, wanted
from komputer.resources.config import Config
from komputer.resources.door import AssignedTask, Assignment, TaskSettings

ACCOUNTED_LIMIT = 4096
"""As `door.TaskIds`; status keeps fewer."""


def settings(agent: Agent) -> TaskSettings:
    """How the agent's next task is run."""
    spec = agent.spec
    return TaskSettings(
        model=spec.model,
        role=spec.role,
        system_prompt=spec.system_prompt,
        connectors=spec.connectors or [],
        allowed_tools=spec.allowed_tools or None,
        disallowed_tools=spec.disallowed_tools or [],
        effort=spec.effort,
    )


NOTHING_SECRET: Final[Mapping[str, str]] = MappingProxyType({})


def assignment(
    agent: Agent, config: Config | None, environment: Mapping[str, str] | None = NOTHING_SECRET
) -> Assignment:
    """The desired state of `agent`. Which task that is, is decided by `wanted` alone; a task that the operator has not
    recorded yet is none. Without a `config` its defaults count. No task is handed out while its `environment` is not
    known (None)."""
    task = wanted(agent.spec, agent.status)
    limits = (
        {}
        if config is None
        else {
            "stall_seconds": config.spec.stall_seconds,
            "max_attempts": config.spec.max_attempts,
        }
    )
    return Assignment(
        uid=agent.metadata.uid,
        name=agent.metadata.name,
        namespace=agent.metadata.namespace or "",
        generation=agent.metadata.generation,
        task=None
        if task is None or environment is None or isinstance(task, Unrecorded)
        else AssignedTask(**task._asdict()),
        cancel_task_id=agent.spec.cancel_task_id,
        accounted=agent.status.ended_tasks[-ACCOUNTED_LIMIT:],
        settings=settings(agent),
        environment=dict(environment or {}),
        **limits,
    )
