"""What a runtime says of itself and of its tasks: checked here, then put before the log, which decides."""

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
"""Of one event's payload, its texts already cut: only a tool's input or a model's usage can be that large."""

NEVER: Final = -1
"""A generation that no log accepts: each log begins at 0."""
READ_EVERY_S: Final = 1.0
READ_WAIT_S: Final = 5.0
log = structlog.get_logger(__name__)


def events_of(post: wire.Post, agent: Agent) -> list[Numbered]:
    """The events as the log takes them: texts cut, and a start under no other model than the agent's. Raises `Invalid`
    (`invalid_event`) naming the first that cannot be one."""
    return [_event(numbered, agent) for numbered in post.events]


def _event(numbered: wire.NumberedEvent, agent: Agent) -> Numbered:
    event = schema.from_wire(numbered.type, numbered.payload)
    if isinstance(event, schema.UserMessage):
        raise Invalid(f"event {numbered.n}: an agent does not speak to itself", code="invalid_event", field="type")
    # That the task is one of this agent's own, and open, is the log's to judge.
    if TASK_ID.fullmatch(event.task_id) is None:
        raise Invalid(f"event {numbered.n}: task_id is no task's id", code="invalid_event", field="task_id")
    if isinstance(event, schema.TaskStarted) and not serves(agent.spec.model, event.model):
        # The log is believed when it says which model a task was started with (see model.py).
        event = event.model_copy(update={"model": agent.spec.model})
    return Numbered(numbered.n, bounded(schema.clipped(event)), numbered.generation, numbered.heard)


class Admitted(NamedTuple):
    """`events` are for the log, which decides; the one after them, if `is_cut`, is refused."""

    events: list[Numbered]
    is_cut: bool


def is_known(numbered: Numbered, agent: Agent) -> bool:
    """Whether this copy of the agent wants the event's task now. Ends, which open nothing, pass in any case: a runtime
    owes them also for tasks that nothing names any more."""
    return isinstance(numbered.event, schema.End) or may_start(agent.spec, agent.status, numbered.event.task_id)


def admitted(events: Sequence[Numbered], agent: Agent, live: Live | None) -> Admitted:
    """The events as far as they may reach the log (rule `wanted`): what an agent says of itself opens nothing.

    A start of a task that is not to be run now gets a generation below all others: the log answers to it as it must, to
    a repeated one too, and never accepts it. Another event of a task that is neither wanted nor open ends the list. A
    task that was wanted when it started stays open until its end, whatever becomes of the manifest.
    """
    logged = task_of(live, agent.metadata.uid)
    taken: list[Numbered] = []
    for numbered in events:
        if not is_known(numbered, agent):
            if isinstance(numbered.event, schema.TaskStarted):
                numbered = numbered._replace(generation=NEVER)
            elif logged.has_ended or logged.id != numbered.event.task_id:
                return Admitted(taken, True)
        taken.append(numbered)
    return Admitted(taken, False)


def bounded(event: schema.Event) -> schema.Event:
    """The event, without what makes it larger than one may be: then it says `truncated`."""
    if len(orjson.dumps(schema.to_wire(event)[1])) <= EVENT_LIMIT_BYTES:
        return event
    if isinstance(event, schema.ToolCall | schema.ToolResult):
        return event.model_copy(update={"input": {}, "truncated": True})
    if isinstance(event, schema.TaskCompleted):
        return event.model_copy(update={"usage": {}, "last_usage": {}, "truncated": True})
    raise Invalid(f"event {event.type}: larger than {EVENT_LIMIT_BYTES // 1024} KiB", code="invalid_event")


class Intake:
    """Every call is of an agent's current pod. All raise `Unavailable` while the log does not answer."""

    def __init__(self, log: Log, metrics: TaskMetrics, identity: Identity) -> None:
        self._log = log
        self._metrics = metrics
        self._identity = identity
        self._due: dict[str, float] = {}

    async def hello(self, caller: PodIdentity, body: wire.Hello) -> wire.Welcome:
        """Introduce a runtime. Raises `AgentGone` for a deleted agent, `Invalid` for a newer runtime."""
        if body.format_version > wire.FORMAT_VERSION:
            raise Invalid(
                f"This gateway speaks format {wire.FORMAT_VERSION}; the runtime is newer. Update the gateway first.",
                code="format_version",
            )
        try:
            welcome = await self._log.hello(
                caller.key, old_term=body.term, asked=body.tasks, floor=caller.agent.status.last_event_id
            )
            # A runtime ends the open tasks that it does not know; what is no task's id it could never end.
            return welcome.model_copy(update={"open": [task for task in welcome.open if TASK_ID.fullmatch(task)]})
        except Conflict as dead:
            raise AgentGone(f"Agent {caller.agent.key} is deleted; its runtime ends.") from dead

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
        return wire.Posted(answers=answers)

    async def _admitted(self, caller: PodIdentity, events: list[Numbered]) -> Admitted:
        """Judged by the cache, and, before anything is refused, by what the Kubernetes API and the log say now."""
        if all(is_known(numbered, caller.agent) for numbered in events):
            return Admitted(events, False)
        await self._turn(caller.key.uid)
        caller = await self._identity.anew(caller.pod)
        live = await self._log.live(caller.key.namespace, caller.key.name)
        found = admitted(events, caller.agent, live)
        if found.events != events:
            log.warning("events of a task refused that the agent was not given", agent=caller.agent.key)
        return found

    async def _turn(self, uid: str) -> None:
        """One agent asks the Kubernetes API at most once in `READ_EVERY_S`. Raises `Unavailable` where many wait."""
        now = asyncio.get_running_loop().time()
        due = max(now, self._due.get(uid, 0.0))
        if due > now + READ_WAIT_S:
            raise Unavailable("The agent speaks of too many tasks that it was not given.", code="too_many_requests")
        self._due[uid] = due + READ_EVERY_S
        await asyncio.sleep(due - now)

    def forget(self, uid: str) -> None:
        """The agent is gone."""
        self._due.pop(uid, None)

    async def heartbeat(self, caller: PodIdentity, body: wire.Heartbeat) -> wire.Pulse:
        return await self._log.pulse(caller.key, body.term, body.tasks)
