"""What the runtime must not forget, and every decision about it, as pure functions over plain values.

The rules are those of the protocol's model (tests/model): `wait_start`, `exact`, `fresh`, `owe`, `adopt`, `fence`. Each
hello gives the ledger a new term, under which its events are numbered from 1 without a hole. A task's end is owed until
the assignment shows it accounted, whoever ended it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple
from uuid import NAMESPACE_URL, uuid5

from komputer.domain import money
from komputer.domain.agent import TaskKind
from komputer.domain.tasks import END_TYPES
from komputer.events.schema import TEXT_LIMIT, End, Event, TaskFailed, TaskStarted, clipped, to_wire
from komputer.protocol import wire

CLOSED_KEPT: Final = 1000
"""How many ended tasks are remembered. An assignment older than that many tasks is refused by its generation anyway."""
ASKED_LIMIT: Final = 4096
"""As many ids a hello or heartbeat may carry (wire.TaskIds)."""

Phase = Literal["written", "acted", "ended"]
"""Of the open task: in the ledger; the transcript has it and a tool may have run; its end stands in the outbox."""

ENDS_SESSION: Final = frozenset({"prompt_too_long", "model_context_window_exceeded", "session_lost"})
"""Errors after which the next task begins a new conversation: every one in the old would fail the same way."""

MESSAGE: Final = "message"
"""The cause of an attempt that only answers what somebody said when the task was about to end."""

SAYS_HELLO_AGAIN: Final = frozenset({"fenced", "hole", "ended", "stale"})
"""Answers after which the log and the ledger must come to one opinion by a new hello. After `stale` the new term also
refuses the same start, should it arrive again."""


class PendingMessage(NamedTuple):
    """What somebody said to the running task: a `user_message` of the log, by its id."""

    id: str
    content: str

    @property
    def uuid(self) -> str:
        """Under which Claude gets it, whoever gives it to it: so its transcript shows whether it has it."""
        return str(uuid5(NAMESPACE_URL, f"komputer:message:{self.id}"))


NOTHING_HEARD: Final = "0-0"


class Outgoing(NamedTuple):
    """An event that the log has not accepted yet. Only a start that was assigned just now carries a generation."""

    n: int
    task_id: str
    type: str
    payload: dict[str, Any]
    generation: int | None = None

    @property
    def is_end(self) -> bool:
        return self.type in END_TYPES


@dataclass(frozen=True, kw_only=True)
class OpenTask:
    """The task that the runtime holds. Written down before anything of it starts."""

    id: str
    instructions: str
    generation: int
    settings: wire.TaskSettings
    """As they were when the task began."""
    session_id: str
    is_resuming: bool
    """The session existed before this task."""
    kind: TaskKind | None = None
    prompt_uuid: str
    """Of the message with the original instructions: where the transcript has it, it is never given again."""
    started_at: float
    """Unix time in seconds."""
    phase: Phase = "written"
    attempt: int = 1
    """How often Claude was started for it, this time included."""
    barren: int = 1
    """How many of the last attempts brought no finished step, the present one included until it does."""
    crashes: int = 0
    cause: str | None = None
    """Why the last attempt broke off, where the runtime itself could still write it down."""
    spent_usd: float = 0.0
    """By earlier attempts."""
    baseline_usd: float | None = None
    """The session's total when the present attempt began."""
    attempt_usd: float = 0.0
    """By the present attempt, as last asked."""
    messages: tuple[PendingMessage, ...] = ()
    """All that was said to it, in order."""
    heard: str = NOTHING_HEARD
    """The last of them that the model has answered."""

    @property
    def is_asked(self) -> bool:
        """Somebody waits for an answer: the task may not be completed."""
        return bool(self.messages) and self.messages[-1].id != self.heard

    @property
    def cost_usd(self) -> float:
        return money.number(money.amount(money.added(money.amount(self.spent_usd), money.amount(self.attempt_usd))))


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """All that a restarted runtime finds."""

    uid: str | None = None
    """Of the agent. A workspace that belonged to another one starts anew."""
    term: int = 0
    n: int = 0
    """The last number given under `term`."""
    generation: int = 0
    """The newest assignment seen."""
    session_id: str | None = None
    """The conversation that the next task continues."""
    task: OpenTask | None = None
    outbox: tuple[Outgoing, ...] = ()
    owed: Mapping[str, Outgoing] = field(default_factory=dict)
    """Ends by task id: in the log as far as we know, and not shown as accounted yet."""
    closed: tuple[str, ...] = ()
    """Tasks that have ended, the newest last."""
    refused: tuple[str, int] | None = None
    """The task whose start was `stale`, and under which generation: it may begin only under a newer one. Not written
    down: a restarted runtime is refused once more."""


class Claim(NamedTuple):
    """What the log should hold of this runtime at one moment."""

    term: int
    taken: int
    owed: tuple[str, ...]


def fitting(text: str) -> str:
    """Short enough for an event to be made of it, long enough to be seen as cut: `clipped` does the rest."""
    return text[: 2 * TEXT_LIMIT]


# ---- being spoken to -------------------------------------------------------------------------------------------------


def told(ledger: Ledger, message: wire.TaskMessage) -> Ledger:
    """With what somebody said to the open task; also where its end is written, which the log then refuses (`unheard`).
    What is known, and what was said to other tasks, changes nothing."""
    task = ledger.task
    if task is None or task.id != message.task_id or any(each.id == message.id for each in task.messages):
        return ledger
    return replace(ledger, task=replace(task, messages=(*task.messages, PendingMessage(message.id, message.content))))


def heard_by(ledger: Ledger, entry: Outgoing) -> str | None:
    """What a completion must say of what it has heard; other ends, and those of earlier tasks, come in any case."""
    task = ledger.task
    is_its = task is not None and task.id == entry.task_id and entry.type == "task_completed"
    return task.heard if task and is_its else None


# ---- speaking to the log ---------------------------------------------------------------------------------------------


def noted(ledger: Ledger, event: Event, generation: int | None = None) -> Ledger:
    """With the event behind all others in the outbox; its long texts are cut."""
    kind, payload = to_wire(clipped(event))
    entry = Outgoing(ledger.n + 1, event.task_id, kind, payload, generation)
    return replace(ledger, n=entry.n, outbox=(*ledger.outbox, entry))


def opened(ledger: Ledger, task: OpenTask) -> Ledger:
    """With a new task and its start."""
    if ledger.task:
        raise ValueError(f"task {task.id} cannot be opened while {ledger.task.id} is")
    ledger = replace(ledger, task=task, session_id=task.session_id)
    return noted(ledger, start_of(task), task.generation)


def ended(ledger: Ledger, end: End) -> Ledger:
    """With the open task's end written down. Nothing of that task may follow; the next one goes on with the session,
    unless that cannot go on."""
    if not ledger.task or ledger.task.id != end.task_id or ledger.task.phase == "ended":
        raise ValueError(f"task {end.task_id} is not open")
    session_id = None if isinstance(end, TaskFailed) and end.code in ENDS_SESSION else ledger.session_id
    return replace(noted(ledger, end), task=replace(ledger.task, phase="ended"), session_id=session_id)


def start_of(task: OpenTask) -> TaskStarted:
    return TaskStarted(
        task_id=task.id,
        instructions=fitting(task.instructions),
        resuming_session=task.is_resuming,
        model=task.settings.model,
        kind=task.kind,
        session_id=task.session_id,
    )


def is_started(ledger: Ledger, task_id: str) -> bool:
    """The log has accepted the task's start, so Claude may be given the prompt (rule `wait_start`)."""
    held = ledger.task is not None and ledger.task.id == task_id and ledger.term > 0
    return held and not any(entry.type == "task_started" and entry.task_id == task_id for entry in ledger.outbox)


def claim(ledger: Ledger) -> Claim:
    taken = ledger.outbox[0].n - 1 if ledger.outbox else ledger.n
    return Claim(ledger.term, taken, tuple(ledger.owed)[-ASKED_LIMIT:])


def lacks(claimed: Claim, pulse: wire.Pulse, accounted: Collection[str]) -> bool:
    """Whether the log lacks what it had taken: then say hello again. `claimed` is from before the pulse was asked."""
    if pulse.term != claimed.term or pulse.taken < claimed.taken:
        return True
    return any(task not in pulse.ended and task not in accounted for task in claimed.owed)


def hello(ledger: Ledger) -> wire.Hello:
    asked = dict.fromkeys((*ledger.owed, *(entry.task_id for entry in ledger.outbox)))
    if ledger.task:
        asked[ledger.task.id] = None
    return wire.Hello(term=ledger.term, tasks=list(asked)[-ASKED_LIMIT:])


# ---- what the log answers --------------------------------------------------------------------------------------------


def after_hello(ledger: Ledger, welcome: wire.Welcome, accounted: Collection[str]) -> Ledger:
    """Ledger and log come to one opinion (steps 10 to 13 of the protocol).

    Dropped: what the log took under the old term, and what belongs to tasks that have ended there. Repeated: owed ends
    that the log lacks and that are not accounted, and a forgotten start. Tasks that only the log knows are ended.
    """
    if ledger.uid not in (None, welcome.uid):
        ledger = Ledger()
    taken, over = welcome.taken, set(welcome.ended)
    owed = dict(ledger.owed) | {e.task_id: e for e in ledger.outbox if e.n <= taken and e.is_end}
    left = [entry for entry in ledger.outbox if entry.n > taken]
    task = ledger.task
    mentioned = dict.fromkeys([*(entry.task_id for entry in left), *([task.id] if task else [])])
    for task_id in mentioned:
        if task_id in over:
            ours = next((entry for entry in left if entry.task_id == task_id and entry.is_end), None)
            owed.setdefault(task_id, ours or _entry(_ended_elsewhere(task_id)))
            left = [entry for entry in left if entry.task_id != task_id]
    closed = _closed(ledger.closed, owed)
    if task and task.id in owed:
        task = None
    if task and task.id not in welcome.started and not _has_start(left, task.id):
        left.insert(0, _entry(start_of(task)))
    missing = [entry for entry in owed.values() if entry.task_id not in over and entry.task_id not in accounted]
    known = {*closed, *accounted, *(entry.task_id for entry in left), *([task.id] if task else [])}
    strangers = [_entry(_workspace_lost(task_id)) for task_id in welcome.open if task_id not in known]
    out = _numbered([*missing, *left, *strangers], first=1)
    for entry in missing:
        del owed[entry.task_id]
    return replace(
        ledger, uid=welcome.uid, term=welcome.term, n=len(out), outbox=out, owed=owed, closed=closed, task=task
    )


def after_post(ledger: Ledger, answer: wire.AppendResult) -> Ledger:
    """After the log answered to the first entry of the outbox. For `SAYS_HELLO_AGAIN` nothing changes before that."""
    sent, *rest = ledger.outbox
    match answer:
        case "ok" | "duplicate":
            ledger = replace(ledger, outbox=tuple(rest))
            if not sent.is_end:
                return ledger
            owed = {**ledger.owed, sent.task_id: sent}
            task = None if ledger.task and ledger.task.id == sent.task_id else ledger.task
            return replace(ledger, owed=owed, closed=_closed(ledger.closed, [sent.task_id]), task=task)
        case "started":
            others = [entry for entry in rest if entry.task_id != sent.task_id]
            lost = _entry(_workspace_lost(sent.task_id))
            out = _numbered([lost, *others], first=sent.n)
            task = ledger.task
            if task and task.id == sent.task_id:
                task = replace(task, phase="ended")
            return replace(ledger, outbox=out, n=sent.n + len(others), task=task)
        case "stale":
            others = [entry for entry in rest if entry.task_id != sent.task_id]
            task = None if ledger.task and ledger.task.id == sent.task_id else ledger.task
            if sent.generation is None:  # repeated: the task has begun, so that it needs an end
                out = _numbered([_entry(_superseded(sent.task_id)), *others], first=sent.n)
                closed = _closed(ledger.closed, [sent.task_id])
                return replace(ledger, outbox=out, n=sent.n + len(others), task=task, closed=closed)
            refused = (sent.task_id, sent.generation)
            out = _numbered(others, first=sent.n)
            return replace(ledger, outbox=out, n=sent.n - 1 + len(others), task=task, refused=refused)
        case "unheard":
            others = [entry for entry in rest if entry.task_id != sent.task_id]
            task = ledger.task
            if task and task.id == sent.task_id:
                task = replace(task, phase="acted", cause=MESSAGE, barren=0)
            out = _numbered(others, first=sent.n)
            return replace(ledger, outbox=out, n=sent.n - 1 + len(others), task=task)
        case _:
            return ledger


def without_first(ledger: Ledger, reason: str) -> Ledger:
    """Without the first entry of the outbox, which the gateway refuses as malformed; an end is replaced by a plain one.

    Nothing is renumbered for it: the caller says hello, which numbers anew.
    """
    sent, *rest = ledger.outbox
    if not sent.is_end:
        return replace(ledger, outbox=tuple(rest))
    cost = sent.payload.get("cost_usd")
    plain = TaskFailed(
        task_id=sent.task_id,
        error=fitting(f"The task ended with {sent.type}, which the log did not take: {reason}"),
        code="internal",
        cost_usd=money.number(money.amount(cost)),
    )
    return replace(ledger, outbox=(_entry(plain)._replace(n=sent.n), *rest))


# ---- what the gateway assigns ----------------------------------------------------------------------------------------


def is_current(ledger: Ledger, assignment: wire.Assignment) -> bool:
    """Not of another agent, and not older than one that the ledger has seen."""
    return assignment.uid == ledger.uid and assignment.generation >= ledger.generation


def after_assignment(ledger: Ledger, assignment: wire.Assignment) -> Ledger:
    """With the assignment's generation seen, and without the debts that it shows as accounted."""
    if not is_current(ledger, assignment):
        return ledger
    owed = {task: entry for task, entry in ledger.owed.items() if task not in assignment.accounted}
    return replace(ledger, generation=assignment.generation, owed=owed)


def next_task(ledger: Ledger, assignment: wire.Assignment | None) -> wire.AssignedTask | None:
    """What to begin now: nothing while a task is open or the log has not accepted all of the last one."""
    if assignment is None or ledger.task or ledger.outbox or not ledger.term or not is_current(ledger, assignment):
        return None
    task = assignment.task
    if task is None or task.id in ledger.closed or task.id in ledger.owed or task.id in assignment.accounted:
        return None
    if ledger.refused and ledger.refused[0] == task.id and assignment.generation <= ledger.refused[1]:
        return None
    return task


def is_cancelled(ledger: Ledger, assignment: wire.Assignment | None) -> bool:
    """The open task is the one that is to be cancelled."""
    if assignment is None or ledger.task is None or ledger.task.phase == "ended":
        return False
    return is_current(ledger, assignment) and assignment.cancel_task_id == ledger.task.id


# ---- parts -----------------------------------------------------------------------------------------------------------


def _entry(event: Event) -> Outgoing:
    kind, payload = to_wire(clipped(event))
    return Outgoing(0, event.task_id, kind, payload)


def _numbered(entries: Iterable[Outgoing], first: int) -> tuple[Outgoing, ...]:
    """Numbered without a hole. A start that is repeated carries no generation: it was fenced when it was new."""
    return tuple(entry._replace(n=n) for n, entry in enumerate(entries, start=first))


def _has_start(entries: Iterable[Outgoing], task_id: str) -> bool:
    return any(entry.type == "task_started" and entry.task_id == task_id for entry in entries)


def _closed(closed: Iterable[str], more: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*closed, *more)))[-CLOSED_KEPT:]


def _workspace_lost(task_id: str) -> TaskFailed:
    return TaskFailed(
        task_id=task_id,
        error="The agent's workspace lost its record of this task, so it cannot be continued. "
        "See in the events how far it came, then assign what is left.",
        code="workspace_lost",
    )


def _superseded(task_id: str) -> TaskFailed:
    return TaskFailed(
        task_id=task_id,
        error="The event log lost the start of this task, and another task is wanted meanwhile. See in the workspace "
        "how far it came, then assign what is left.",
        code="superseded",
    )


def _ended_elsewhere(task_id: str) -> TaskFailed:
    return TaskFailed(
        task_id=task_id, error="The platform ended this task while the agent could not be reached.", code="runtime_lost"
    )
