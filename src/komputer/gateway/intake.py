"""What a runtime says of itself and of its tasks: checked here, then put before the log, which decides."""

from typing import Final

import orjson

from komputer.events import types
from komputer.events.log import Log, Numbered
from komputer.gateway.errors import Gone
from komputer.gateway.identity import Caller
from komputer.gateway.requests import serves
from komputer.gateway.tasks import TaskMetrics
from komputer.resources import door
from komputer.resources.agent import TASK_ID, Agent
from komputer.resources.errors import Conflict, Invalid

POST_LIMIT_BYTES: Final = 4 * 2**20
EVENT_LIMIT_BYTES: Final = 256 * 1024
"""Of one event's payload, its texts already cut: only a tool's input or a model's usage can be that large."""


def events_of(post: door.Post, agent: Agent) -> list[Numbered]:
    """The events as the log takes them: texts cut, and a start under no other model than the agent's. Raises `Invalid`
    (`invalid-event`) naming the first that cannot be one."""
    return [_event(numbered, agent) for numbered in post.events]


def _event(numbered: door.NumberedEvent, agent: Agent) -> Numbered:
    event = types.from_wire(numbered.type, numbered.payload)
    if isinstance(event, types.UserMessage):
        raise Invalid(f"event {numbered.n}: an agent does not speak to itself", code="invalid-event", field="type")
    # That the task is one of this agent's own, and open, is the log's to judge.
    if TASK_ID.fullmatch(event.task_id) is None:
        raise Invalid(f"event {numbered.n}: task_id is no task's id", code="invalid-event", field="task_id")
    if isinstance(event, types.TaskStarted) and not serves(agent.spec.model, event.model):
        # The log is believed when it says which model a task was started with (see model.py).
        event = event.model_copy(update={"model": agent.spec.model})
    return Numbered(numbered.n, bounded(types.clipped(event)), numbered.generation, numbered.heard)


def bounded(event: types.Event) -> types.Event:
    """The event, without what makes it larger than one may be: then it says `truncated`."""
    if len(orjson.dumps(types.to_wire(event)[1])) <= EVENT_LIMIT_BYTES:
        return event
    if isinstance(event, types.ToolCall | types.ToolResult):
        return event.model_copy(update={"input": {}, "truncated": True})
    if isinstance(event, types.TaskCompleted):
        return event.model_copy(update={"usage": {}, "last_usage": {}, "truncated": True})
    raise Invalid(f"event {event.type}: larger than {EVENT_LIMIT_BYTES // 1024} KiB", code="invalid-event")


class Intake:
    """Every call is of an agent's current pod. All raise `Unavailable` while the log does not answer."""

    def __init__(self, log: Log, metrics: TaskMetrics) -> None:
        self._log = log
        self._metrics = metrics

    async def hello(self, caller: Caller, body: door.Hello) -> door.Welcome:
        """Raises `Gone` for an agent that the log knows to be deleted, `Invalid` for a runtime newer than we are."""
        if body.format_version > door.FORMAT_VERSION:
            raise Invalid(
                f"This gateway speaks format {door.FORMAT_VERSION}; the runtime is newer. Update the gateway first.",
                code="format-version",
            )
        try:
            welcome = await self._log.hello(
                caller.key, old_term=body.term, asked=body.tasks, floor=caller.agent.status.last_event_id
            )
            # A runtime ends the open tasks that it does not know; what is no task's id it could never end.
            return welcome.model_copy(update={"open": [task for task in welcome.open if TASK_ID.fullmatch(task)]})
        except Conflict as dead:
            raise Gone(f"Agent {caller.agent.key} is deleted; its runtime ends.") from dead

    async def post(self, caller: Caller, body: door.Post) -> door.Posted:
        events = events_of(body, caller.agent)
        answers = await self._log.append(caller.key, body.term, events, floor=caller.agent.status.last_event_id)
        for numbered, answer in zip(events, answers, strict=False):
            if answer == "ok":
                self._metrics.accepted(caller.key.namespace, caller.agent.spec.model, numbered.event)
        return door.Posted(answers=answers)

    async def heartbeat(self, caller: Caller, body: door.Heartbeat) -> door.Pulse:
        return await self._log.pulse(caller.key, body.term, body.tasks)
