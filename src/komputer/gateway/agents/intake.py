"""Accepts hellos, events and heartbeats of runtimes: checks them and passes them to the log, which decides."""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

import orjson
import structlog

from komputer.domain.agent import TASK_ID, Agent
from komputer.domain.errors import Conflict, Invalid, Unavailable
from komputer.domain.tasks import may_start
from komputer.events import schema
from komputer.events.entries import task_of
from komputer.events.log import Live, Log, Numbered
from komputer.gateway.agents.identity import Identity, PodIdentity
from komputer.gateway.errors import AgentGone
from komputer.gateway.model.requests import serves
from komputer.gateway.task_metrics import TaskMetrics
from komputer.protocol import wire

POST_LIMIT_BYTES: Final = 4 * 2**20
EVENT_LIMIT_BYTES: Final = 256 * 1024
"""The limit of an event's payload after its texts were cut: only a tool's input or a model's usage can exceed it."""

NEVER: Final = -1
"""A generation that no log accepts, since each log begins at 0."""
REREAD_INTERVAL_S: Final = 1.0
REREAD_WAIT_S: Final = 5.0
log = structlog.get_logger(__name__)


def events_of(post: wire.Post, agent: Agent) -> list[Numbered]:
    """Return the events for the log. Long texts are cut, and the model of a start is the one in the agent's spec.
    Raises `Invalid` (`invalid_event`) for the first event that is not valid."""
    return [_event(numbered, agent) for numbered in post.events]


def _event(numbered: wire.NumberedEvent, agent: Agent) -> Numbered:
    event = schema.from_wire(numbered.type, numbered.payload)
    if isinstance(event, schema.UserMessage):
        raise Invalid(
            f"event {numbered.seq}: an agent cannot send messages to itself", code="invalid_event", field="type"
        )
    # The log decides whether the task is open and one of this agent's.
    if TASK_ID.fullmatch(event.task_id) is None:
        raise Invalid(f"event {numbered.seq}: task_id is not the id of a task", code="invalid_event", field="task_id")
    if isinstance(event, schema.TaskStarted) and not serves(agent.spec.model, event.model):
        # model/assigned.py reads from the log which model a task was started with, so a pod must not choose it.
        event = event.model_copy(update={"model": agent.spec.model})
    return Numbered(numbered.seq, bounded(schema.clipped(event)), numbered.generation, numbered.acked_message_id)


class Admitted(NamedTuple):
    """The events that may reach the log. With `is_cut`, the event that follows them is refused."""

    events: list[Numbered]
    is_cut: bool


def is_known(numbered: Numbered, agent: Agent) -> bool:
    """Whether this copy of the agent wants the event's task now. Ends always pass: they open no task, and a runtime
    must also send them for tasks that no resource names any more."""
    return isinstance(numbered.event, schema.End) or may_start(agent.spec, agent.status, numbered.event.task_id)


def admitted(events: Sequence[Numbered], agent: Agent, live: Live | None) -> Admitted:
    """Return the events that may reach the log (rule `wanted`): an agent cannot open a task that it was not assigned.

    A start of a task that is not wanted now gets the generation `NEVER`. The log then answers it, and every repetition
    of it, but never accepts it. Any other event of a task that is neither wanted nor open ends the list. A task that
    was wanted when it started stays open until its end, even if the manifest changes.
    """
    logged = task_of(live, agent.metadata.uid)
    accepted: list[Numbered] = []
    for numbered in events:
        if not is_known(numbered, agent):
            if isinstance(numbered.event, schema.TaskStarted):
                numbered = numbered._replace(generation=NEVER)
            elif logged.has_ended or logged.id != numbered.event.task_id:
                return Admitted(accepted, True)
        accepted.append(numbered)
    return Admitted(accepted, False)


def bounded(event: schema.Event) -> schema.Event:
    """Return the event if it is within `EVENT_LIMIT_BYTES`; otherwise without its large fields and marked `truncated`.
    Raises `Invalid` (`invalid_event`) for an event without such fields."""
    if len(orjson.dumps(schema.to_wire(event)[1])) <= EVENT_LIMIT_BYTES:
        return event
    if isinstance(event, schema.ToolCall | schema.ToolResult):
        return event.model_copy(update={"input": {}, "truncated": True})
    if isinstance(event, schema.TaskCompleted):
        return event.model_copy(update={"usage": {}, "last_usage": {}, "truncated": True})
    raise Invalid(f"event {event.type}: larger than {EVENT_LIMIT_BYTES // 1024} KiB", code="invalid_event")


class Intake:
    """Handles the calls of agents' current pods. All methods raise `Unavailable` while the log does not answer."""

    def __init__(self, log: Log, metrics: TaskMetrics, identity: Identity) -> None:
        self._log = log
        self._metrics = metrics
        self._identity = identity
        self._due: dict[str, float] = {}

    async def hello(self, caller: PodIdentity, body: wire.Hello) -> wire.Welcome:
        """Return a new term for a runtime, and the state of its tasks in the log. Raises `AgentGone` for a deleted
        agent, `Invalid` (`format_version`) for a runtime that is newer than the gateway."""
        if body.format_version > wire.FORMAT_VERSION:
            raise Invalid(
                f"This gateway speaks format {wire.FORMAT_VERSION}; the runtime is newer. Update the gateway first.",
                code="format_version",
            )
        try:
            welcome = await self._log.hello(
                caller.key, old_term=body.term, asked=body.tasks, floor=caller.agent.status.last_event_id
            )
            # A runtime ends open tasks that it does not know. It could never end one without a valid id.
            return welcome.model_copy(update={"open": [task for task in welcome.open if TASK_ID.fullmatch(task)]})
        except Conflict as fenced:
            raise AgentGone(f"Agent {caller.agent.key} is deleted; its runtime ends.") from fenced

    async def post(self, caller: PodIdentity, body: wire.Post) -> wire.Posted:
        events, is_cut = await self._admitted(caller, events_of(body, caller.agent))
        answers: list[wire.AppendResult] = []
        if events:
            answers = await self._log.append(caller.key, body.term, events, floor=caller.agent.status.last_event_id)
        if is_cut and all(answer in ("ok", "duplicate") for answer in answers):
            answers.append("fenced")
        for numbered, answer in zip(events, answers, strict=False):
            if answer == "ok":
                self._metrics.accepted(caller.key.namespace, caller.agent.spec.model, numbered.event)
        return wire.Posted(answers=answers, format_version=body.format_version)

    async def _admitted(self, caller: PodIdentity, events: list[Numbered]) -> Admitted:
        """Admit events by the cached agent. If that would refuse one, decide by the agent and the log as they are now:
        the cache may lag."""
        if all(is_known(numbered, caller.agent) for numbered in events):
            return Admitted(events, False)
        await self._wait_for_turn(caller.key.uid)
        caller = await self._identity.reread(caller.pod)
        live = await self._log.live(caller.key.namespace, caller.key.name)
        found = admitted(events, caller.agent, live)
        if found.events != events:
            log.warning("events of an unassigned task refused", agent=caller.agent.key)
        return found

    async def _wait_for_turn(self, uid: str) -> None:
        """Wait, so that one agent causes at most one read per `REREAD_INTERVAL_S`. Raises `Unavailable` if the wait
        would exceed `REREAD_WAIT_S`."""
        now = asyncio.get_running_loop().time()
        due = max(now, self._due.get(uid, 0.0))
        if due > now + REREAD_WAIT_S:
            raise Unavailable("The agent reports too many tasks that it was not assigned.", code="too_many_requests")
        self._due[uid] = due + REREAD_INTERVAL_S
        await asyncio.sleep(due - now)

    def forget(self, uid: str) -> None:
        """Drop what is kept about a deleted agent."""
        self._due.pop(uid, None)

    async def heartbeat(self, caller: PodIdentity, body: wire.Heartbeat) -> wire.Pulse:
        return await self._log.pulse(caller.key, body.term, body.tasks)
