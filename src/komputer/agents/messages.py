"""Talking to an agent that is at work."""

from komputer.agents.agents import Agents
from komputer.agents.view import live_task, running_task
from komputer.events.log import Log, LogKey
from komputer.resources.agent import Agent
from komputer.resources.errors import Conflict


async def compact(agents: Agents, namespace: str, name: str, instructions: str | None) -> None:
    """Have the conversation of an idle agent compacted, as a task of its own. Raises `Busy`."""
    await agents.assign(namespace, name, f"/compact {instructions or ''}".strip(), {}, "compact")


async def send(agents: Agents, log: Log, namespace: str, name: str, content: str) -> str:
    """Say something to the running task; the id of the event. It is in the log then, and the task does not end as
    completed before the model has answered it. Raises `Conflict` where no task runs."""
    agent = Agent.model_validate(agents.cached(namespace, name))
    live = await log.live(namespace, name)
    task = live_task(agent, live)
    if task.id is None or task.has_ended or task.id in agent.status.ended_tasks:
        if running_task(agent, live):
            raise Conflict(f"the task of agent {name!r} has not started yet; try again in a moment", code="not-started")
        raise Conflict(f"agent {name!r} has no running task to send a message to; assign it one", code="idle")
    if agent.spec.task and agent.spec.task.id == task.id and agent.spec.task.kind == "compact":
        raise Conflict(f"agent {name!r} is compacting its conversation; try again when that is done", code="compacting")
    key = LogKey(namespace, name, agent.metadata.uid)
    return await log.message(key, task.id, content, floor=agent.status.last_event_id)
