"""The assignment of an agent, and the task that it may work on now. Pure."""

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
"""The number of ended tasks that an assignment may name: the limit of `wire.TaskIds`. The status keeps fewer."""


NO_SECRETS: Final[Mapping[str, str]] = MappingProxyType({})


def assignment(agent: Agent, config: Config | None, environment: Mapping[str, str] | None = NO_SECRETS) -> Assignment:
    """Return the desired state of `agent`. `wanted` alone chooses the task. The assignment has no task while the
    operator has not recorded it, and while its `environment` is unknown (None). Without a `config` the defaults of a
    KomputerConfig apply."""
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
    """Return the task that is open in the log. It was wanted when it started (`intake.admitted`).

    Raises `Forbidden` (`no_open_task`) if there is none. Raises `Unavailable` (`no_open_task`) if a task is wanted that
    the log does not have: the log may have lost the start, which the runtime then repeats. Raises `Unavailable`
    (`task_cancelling`) for a task that is being cancelled: Claude retries until its runtime interrupts it, and gets no
    answer from the model meanwhile.
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
