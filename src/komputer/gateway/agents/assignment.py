"""What an agent is to do, as its runtime is told: the whole of it, again whenever the resource changes; and the task
that it may work on now. Pure."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from komputer.domain import tasks
from komputer.domain.agent import Agent
from komputer.domain.config import Config
from komputer.domain.errors import Forbidden, Unavailable
from komputer.domain.tasks import Unrecorded, WantedTask, wanted
from komputer.events.entries import Live, task_of
from komputer.protocol.wire import AssignedTask, Assignment, TaskSettings

ACCOUNTED_LIMIT = 4096
"""As `door.TaskIds`; status keeps fewer."""


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
        settings=TaskSettings.model_validate(agent.spec.given()),
        environment=dict(environment or {}),
        **limits,
    )


def open_task(agent: Agent, live: Live | None) -> str:
    """The task that the log shows open: it was wanted when it started (`intake.admitted`).

    Raises `Forbidden` (`no_open_task`) where there is none; `Unavailable` where one is wanted that the log does not
    show: it may have lost the start, which its runtime then repeats. For a task that is being cancelled it raises
    `Unavailable` (`task_cancelling`): Claude asks again until its runtime interrupts it, and one that is not
    interrupted gets nothing.
    """
    logged = task_of(live, agent.metadata.uid)
    if (task := tasks.open_task(agent.status, logged)) is not None:
        if task == agent.spec.cancel_task_id:
            raise Unavailable(f"The task of agent {agent.key} is being cancelled.", code="task_cancelling")
        return task
    if isinstance(tasks.next_task(agent.spec, agent.status, logged), WantedTask):
        raise Unavailable(f"The task of agent {agent.key} is not open yet; try again.", code="no_open_task")
    raise Forbidden(
        f"Agent {agent.key} has no open task; model and connectors are there for tasks only.", code="no_open_task"
    )
