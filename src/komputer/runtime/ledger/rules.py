"""Every decision about the ledger, as pure functions over plain values.

The rules are those of the protocol's model (tests/model): `wait_start`, `exact`, `fresh`, `owe`, `adopt`, `fence`. Each
hello gives the ledger a new term, under which its events are numbered from 1 without a gap. The runtime keeps the end
of a task, whoever wrote it, until an assignment shows that the agent's status counts it (the end is `owed`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Final

from komputer.domain import money
from komputer.events.schema import TEXT_LIMIT, End, Event, TaskFailed, TaskStarted, clipped, to_wire
from komputer.protocol import wire
from komputer.runtime.ledger.ledger import MESSAGE, Claim, Ledger, OpenTask, Outgoing, PendingMessage

CLOSED_KEPT: Final = 1000
"""How many ended tasks the ledger keeps. An assignment with an older task is refused because of its generation."""
TASKS_LIMIT: Final = 4096
"""How many task ids a hello or heartbeat may carry (`wire.TaskIds`)."""

ENDS_SESSION: Final = frozenset({"prompt_too_long", "model_context_window_exceeded", "session_lost"})
"""Error codes after which the next task begins a new conversation: in the old one every task would fail in the same
way."""

REQUIRES_HELLO: Final = frozenset({"fenced", "gap", "ended", "stale"})
"""Answers of the log after which the runtime must say hello, so that log and ledger agree again. After `stale` this
also ensures that a late copy of the refused start, under the old term, is not accepted."""


def fitting(text: str) -> str:
    """Return the text, cut to a size that fits into an event but is long enough that `clipped` marks it as cut."""
    return text[: 2 * TEXT_LIMIT]


# ---- messages to the task --------------------------------------------------------------------------------------------


def with_message(ledger: Ledger, message: wire.TaskMessage) -> Ledger:
    """Add a message to the open task, even if the outbox has the task's end: the log will refuse that end as
    `unacknowledged`. A message to another task, or one that the ledger has already, changes nothing."""
    task = ledger.task
    if task is None or task.id != message.task_id or any(each.id == message.id for each in task.messages):
        return ledger
    return replace(ledger, task=replace(task, messages=(*task.messages, PendingMessage(message.id, message.content))))


def acked_by(ledger: Ledger, entry: Outgoing) -> str | None:
    """Return the id of the last answered message if the entry completes the open task, else None. The log compares it
    with the newest message of the task; it accepts other ends, and ends of earlier tasks, without it."""
    task = ledger.task
    if task is None or task.id != entry.task_id or entry.type != "task_completed":
        return None
    return task.acked_message_id


# ---- events for the log ----------------------------------------------------------------------------------------------


def with_event(ledger: Ledger, event: Event, generation: int | None = None) -> Ledger:
    """Append the event to the outbox, its long texts cut."""
    kind, payload = to_wire(clipped(event))
    entry = Outgoing(ledger.seq + 1, event.task_id, kind, payload, generation)
    return replace(ledger, seq=entry.seq, outbox=(*ledger.outbox, entry))


def with_task(ledger: Ledger, task: OpenTask) -> Ledger:
    """Open a task and append its start."""
    if ledger.task:
        raise ValueError(f"task {task.id} cannot be opened while {ledger.task.id} is")
    ledger = replace(ledger, task=task, session_id=task.session_id)
    return with_event(ledger, start_of(task), task.generation)


def with_end(ledger: Ledger, end: End) -> Ledger:
    """Append the open task's end. No event of the task may follow. The next task continues the session, unless the
    session itself caused the failure (`ENDS_SESSION`)."""
    if not ledger.task or ledger.task.id != end.task_id or ledger.task.phase == "ended":
        raise ValueError(f"task {end.task_id} is not open")
    session_id = None if isinstance(end, TaskFailed) and end.code in ENDS_SESSION else ledger.session_id
    return replace(with_event(ledger, end), task=replace(ledger.task, phase="ended"), session_id=session_id)


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
    """Whether the log has accepted the task's start, so that Claude may get the prompt (rule `wait_start`)."""
    held = ledger.task is not None and ledger.task.id == task_id and ledger.term > 0
    return held and not any(entry.type == "task_started" and entry.task_id == task_id for entry in ledger.outbox)


def claim(ledger: Ledger) -> Claim:
    last_seq = ledger.outbox[0].seq - 1 if ledger.outbox else ledger.seq
    return Claim(ledger.term, last_seq, tuple(ledger.owed)[-TASKS_LIMIT:])


def lacks(claimed: Claim, pulse: wire.Pulse, accounted: Collection[str]) -> bool:
    """Whether the log has lost events that it had accepted; if so, the runtime must say hello. `claimed` must have been
    taken before the pulse was requested."""
    if pulse.term != claimed.term or pulse.last_seq < claimed.last_seq:
        return True
    return any(task not in pulse.ended and task not in accounted for task in claimed.owed)


def hello(ledger: Ledger) -> wire.Hello:
    asked = dict.fromkeys((*ledger.owed, *(entry.task_id for entry in ledger.outbox)))
    if ledger.task:
        asked[ledger.task.id] = None
    return wire.Hello(term=ledger.term, tasks=list(asked)[-TASKS_LIMIT:])


# ---- answers of the log ----------------------------------------------------------------------------------------------


def after_hello(ledger: Ledger, welcome: wire.Welcome, accounted: Collection[str]) -> Ledger:
    """Make the ledger agree with the log (steps 10 to 13 of the protocol).

    Events that the log accepted under the old term are dropped, and so are events of tasks that have ended in the log.
    An owed end is sent again if the log lacks it and the status does not count it. A start that the log has lost is
    sent again. A task that only the log has as open gets an end. The outbox is numbered again from 1.
    """
    if ledger.uid not in (None, welcome.uid):
        ledger = Ledger()
    last_seq, ended = welcome.last_seq, set(welcome.ended)
    owed = dict(ledger.owed) | {e.task_id: e for e in ledger.outbox if e.seq <= last_seq and e.is_end}
    left = [entry for entry in ledger.outbox if entry.seq > last_seq]
    task = ledger.task
    mentioned = dict.fromkeys([*(entry.task_id for entry in left), *([task.id] if task else [])])
    for task_id in mentioned:
        if task_id in ended:
            ours = next((entry for entry in left if entry.task_id == task_id and entry.is_end), None)
            owed.setdefault(task_id, ours or _entry(_ended_elsewhere(task_id)))
            left = [entry for entry in left if entry.task_id != task_id]
    closed = _closed(ledger.closed, owed)
    if task and task.id in owed:
        task = None
    if task and task.id not in welcome.started and not _has_start(left, task.id):
        left.insert(0, _entry(start_of(task)))
    missing = [entry for entry in owed.values() if entry.task_id not in ended and entry.task_id not in accounted]
    known = {*closed, *accounted, *(entry.task_id for entry in left), *([task.id] if task else [])}
    unknown = [_entry(_workspace_lost(task_id)) for task_id in welcome.open if task_id not in known]
    out = _numbered([*missing, *left, *unknown], first=1)
    for entry in missing:
        del owed[entry.task_id]
    return replace(
        ledger, uid=welcome.uid, term=welcome.term, seq=len(out), outbox=out, owed=owed, closed=closed, task=task
    )


def after_post(ledger: Ledger, answer: wire.AppendResult) -> Ledger:
    """Apply the log's answer to the first entry of the outbox.

    `ok` and `duplicate` remove the entry; an end is owed from then on. `started` means that the log had the start
    already, which this ledger does not know: the workspace was lost, and the task ends with that. `stale` refuses a
    start: the task is dropped, or ended if it had begun before. `unacknowledged` refuses an end because of a message
    that the model has not answered: the task continues. The other answers change nothing before the hello.
    """
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
            out = _numbered([lost, *others], first=sent.seq)
            task = ledger.task
            if task and task.id == sent.task_id:
                task = replace(task, phase="ended")
            return replace(ledger, outbox=out, seq=sent.seq + len(others), task=task)
        case "stale":
            others = [entry for entry in rest if entry.task_id != sent.task_id]
            task = None if ledger.task and ledger.task.id == sent.task_id else ledger.task
            if sent.generation is None:  # a repeated start: the task had begun, so it needs an end
                out = _numbered([_entry(_superseded(sent.task_id)), *others], first=sent.seq)
                closed = _closed(ledger.closed, [sent.task_id])
                return replace(ledger, outbox=out, seq=sent.seq + len(others), task=task, closed=closed)
            refused = (sent.task_id, sent.generation)
            out = _numbered(others, first=sent.seq)
            return replace(ledger, outbox=out, seq=sent.seq - 1 + len(others), task=task, refused=refused)
        case "unacknowledged":
            others = [entry for entry in rest if entry.task_id != sent.task_id]
            task = ledger.task
            if task and task.id == sent.task_id:
                task = replace(task, phase="acted", cause=MESSAGE, barren=0)
            out = _numbered(others, first=sent.seq)
            return replace(ledger, outbox=out, seq=sent.seq - 1 + len(others), task=task)
        case _:
            return ledger


def without_first(ledger: Ledger, reason: str) -> Ledger:
    """Remove the first entry of the outbox, which the gateway refuses as malformed. If it is an end, replace it by a
    plain error end, so that the task still ends.

    The other entries keep their numbers until the caller says hello, which numbers them again.
    """
    sent, *rest = ledger.outbox
    if not sent.is_end:
        return replace(ledger, outbox=tuple(rest))
    cost = sent.payload.get("cost_usd")
    plain = TaskFailed(
        task_id=sent.task_id,
        error=fitting(f"The task ended with {sent.type}, which the log did not accept: {reason}"),
        code="internal",
        cost_usd=money.number(money.amount(cost)),
    )
    return replace(ledger, outbox=(_entry(plain)._replace(seq=sent.seq), *rest))


# ---- assignments of the gateway --------------------------------------------------------------------------------------


def is_current(ledger: Ledger, assignment: wire.Assignment) -> bool:
    """Whether the assignment is for this agent, and not older than the newest one that the ledger knows."""
    return assignment.uid == ledger.uid and assignment.generation >= ledger.generation


def after_assignment(ledger: Ledger, assignment: wire.Assignment) -> Ledger:
    """Record the assignment's generation, and drop the owed ends that the agent's status counts."""
    if not is_current(ledger, assignment):
        return ledger
    owed = {task: entry for task, entry in ledger.owed.items() if task not in assignment.accounted}
    return replace(ledger, generation=assignment.generation, owed=owed)


def next_task(ledger: Ledger, assignment: wire.Assignment | None) -> wire.AssignedTask | None:
    """Return the task to begin now. None while a task is open, while the log has not accepted all events of the last
    task, or if nothing new is assigned."""
    if assignment is None or ledger.task or ledger.outbox or not ledger.term or not is_current(ledger, assignment):
        return None
    task = assignment.task
    if task is None or task.id in ledger.closed or task.id in ledger.owed or task.id in assignment.accounted:
        return None
    if ledger.refused and ledger.refused[0] == task.id and assignment.generation <= ledger.refused[1]:
        return None
    return task


def is_cancelled(ledger: Ledger, assignment: wire.Assignment | None) -> bool:
    """Whether the assignment cancels the open task."""
    if assignment is None or ledger.task is None or ledger.task.phase == "ended":
        return False
    return is_current(ledger, assignment) and assignment.cancel_task_id == ledger.task.id


# ---- entries of the outbox -------------------------------------------------------------------------------------------


def _entry(event: Event) -> Outgoing:
    kind, payload = to_wire(clipped(event))
    return Outgoing(0, event.task_id, kind, payload)


def _numbered(entries: Iterable[Outgoing], first: int) -> tuple[Outgoing, ...]:
    """Number the entries without a gap."""
    return tuple(entry._replace(seq=seq) for seq, entry in enumerate(entries, start=first))


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
