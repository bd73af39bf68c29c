"""One task after the other, from the assignment to the end in the ledger."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from komputer.events.types import Compaction, End, Event, TaskCancelled, TaskCompleted, TaskFailed, TaskResumed
from komputer.resources import door
from komputer.runtime import ledger as decide
from komputer.runtime import plan, processes, transcript
from komputer.runtime.attempt import Attempt
from komputer.runtime.changes import Changes
from komputer.runtime.claude import Claude, ClaudeDied, SessionRefused
from komputer.runtime.ending import Asked, Outcome, Verdict, compacted, judged, nothing_to_compact
from komputer.runtime.ledger import Heard, OpenTask
from komputer.runtime.options import options, system_prompt
from komputer.runtime.relay import Relay
from komputer.runtime.settings import Settings
from komputer.runtime.store import Store

if TYPE_CHECKING:
    from komputer.runtime.forwarder import Forwarder

log = logging.getLogger(__name__)

REAP_S: Final = 10.0
RECORDED_S: Final = 5.0
"""How long a tool waits for Claude's own record of the task, which takes up to 0.1 s, and seconds on a busy machine. A
disk on which nothing can be written does not stop the work: a crash then ends the task as `session_lost`."""
RECORDED_LOOK_S: Final = 0.01
MESSAGE_S: Final = 60.0
"""How long a task whose end was refused waits for the message that the log knows of and the stream has not brought yet,
which takes milliseconds. It is given up only while the stream brings other things."""


class Worker:
    """`forwarder` and `cli` may still be on their way when the first task comes."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        relay: Relay,
        changes: Changes,
        forwarder: Awaitable[Forwarder],
        cli: Path,
    ) -> None:
        self._settings = settings
        self._store = store
        self._relay = relay
        self._changes = changes
        self._forwarder = asyncio.ensure_future(forwarder)
        self._cli = cli
        self._is_stopping = False
        self._heard = 0
        """So many of the task's messages the last attempt was given."""

    def stop(self) -> None:
        """The running task is interrupted and kept; `run` returns soon."""
        self._is_stopping = True
        self._changes.ring()

    async def run(self) -> None:
        """Until `stop`. A task that was left open by the runtime before is taken up first."""
        while True:
            await self._changes.until(lambda: self._is_stopping or self._has_work())
            if self._is_stopping:
                return
            await self._work()

    def _has_work(self) -> bool:
        if not self._relay.is_introduced:
            return False
        task = self._store.ledger.task
        if task:
            return task.phase != "ended"
        return decide.next_task(self._store.ledger, self._relay.assignment) is not None

    async def _work(self) -> None:
        """One task, until it is ended or must be left."""
        assignment = self._relay.assignment
        assert assignment is not None
        task = self._store.ledger.task
        start: plan.Start | None = None
        if task is None:
            assigned = decide.next_task(self._store.ledger, assignment)
            assert assigned is not None
            task = self._new(assigned, assignment)
            self._store.save(decide.opened(self._store.ledger, task), durable=True)
            log.info("task started", extra={"task": task.id, "session": task.session_id})
            start = plan.first(task)
            if task.kind == "compact" and not task.is_resuming:
                self._end(nothing_to_compact(task))
                return
        while (task := self._store.ledger.task) and self._asked(task) is None:
            start = start or await self._again(task)
            if start is None:
                break
            await self._try(start)
            start = None
        task = self._store.ledger.task
        if task and self._asked(task) is Asked.CANCEL:
            self._end(
                TaskCancelled(
                    task_id=task.id,
                    reason="cancelled by request",
                    cost_usd=task.cost_usd,
                    session_id=task.session_id,
                )
            )

    def _compaction(self, task: OpenTask) -> End | None:
        """The end of a task that compacts the conversation, where Claude has done that before it broke off."""
        found = task.compacted or transcript.compaction(self._settings.claude, task.session_id, task.transcript_bytes)
        if found is None:
            return None
        if task.compacted is None:
            before, after = found
            self._tell(Compaction(task_id=task.id, trigger="manual", tokens_before=before, tokens_after=after))
        return compacted(replace(task, compacted=found), Outcome(), time.time())

    def _new(self, assigned: door.AssignedTask, assignment: door.Assignment) -> OpenTask:
        session_id = self._store.ledger.session_id
        is_resuming = bool(session_id and transcript.has_conversation(self._settings.claude, session_id))
        size = transcript.size_bytes(self._settings.claude, session_id) if session_id and assigned.kind else 0
        return OpenTask(
            id=assigned.id,
            kind=assigned.kind,
            transcript_bytes=size,
            instructions=assigned.instructions,
            generation=assignment.generation,
            settings=assignment.settings,
            session_id=session_id if session_id and is_resuming else str(uuid.uuid4()),
            is_resuming=is_resuming,
            prompt_uuid=str(uuid.uuid4()),
            started_at=time.time(),
        )

    def _asked(self, task: OpenTask) -> Asked | None:
        """Whether the task is to be left, and why."""
        held = self._store.ledger.task
        if held is None or held.id != task.id or held.phase == "ended":
            return Asked.DROP
        if decide.is_cancelled(self._store.ledger, self._relay.assignment):
            return Asked.CANCEL
        return Asked.STOP if self._is_stopping else None

    def _recorded_of(self, task: OpenTask) -> plan.Recorded:
        claude, session_id = self._settings.claude, task.session_id
        uuids = [task.prompt_uuid, *(heard.uuid for heard in task.messages)]
        taken = transcript.taken_in(claude, session_id, uuids)
        return plan.Recorded(
            has_file=transcript.path(claude, session_id) is not None,
            has_conversation=transcript.has_conversation(claude, session_id),
            has_prompt=task.prompt_uuid in taken,
            messages=taken,
        )

    async def _go_on(self, task: OpenTask) -> plan.Start | None:
        """After an end that the log refused: with the message that must be answered first, when it is here."""
        now = asyncio.get_running_loop().time
        while not await self._changes.until(lambda: self._has_to_say(task, task.answered), timeout_s=MESSAGE_S):
            if now() - self._relay.heard_at < MESSAGE_S / 2:
                break
        if self._asked(task) is not None or (held := self._store.ledger.task) is None:
            return None
        start = plan.going_on(held, self._recorded_of(held), str(uuid.uuid4()))
        if isinstance(start, TaskFailed):
            self._end(start)
            return None
        self._store.update_task(durable=True, phase="acted")
        log.info("task goes on with a message", extra={"task": task.id})
        return start

    def _has_to_say(self, task: OpenTask, heard: int) -> bool:
        return self._asked(task) is not None or bool(self._news(task.id, heard))

    def _news(self, task_id: str, heard: int) -> tuple[Heard, ...]:
        """What was said to the task behind so many messages."""
        task = self._store.ledger.task
        return task.messages[heard:] if task and task.id == task_id else ()

    async def _again(self, task: OpenTask) -> plan.Start | None:
        """Write down that another attempt begins, after its pause; or how the task ends. None: do not begin."""
        assert self._relay.assignment is not None
        await processes.outwait(self._settings.claude_process)
        if task.phase == "unheard":
            return await self._go_on(task)
        if task.kind == "compact" and self._asked(task) is None and (done := self._compaction(task)):
            self._end(done)
            return None
        recorded = self._recorded_of(task)
        start = plan.again(task, recorded, self._relay.assignment.max_attempts, str(uuid.uuid4()))
        if isinstance(start, TaskFailed):
            self._end(start)
            return None
        if await self._changes.until(lambda: self._asked(task) is not None, timeout_s=plan.pause_s(task)):
            return None
        cause = task.cause or "runtime_died"
        resumed = replace(
            task,
            attempt=task.attempt + 1,
            barren=task.barren + 1,
            crashes=task.crashes + (cause != "shutdown"),
            cause=None,
            session_id=start.session_id,
            is_resuming=start.resume,
            baseline_usd=task.baseline_usd if start.session_id == task.session_id else None,
        )
        event = TaskResumed(task_id=task.id, attempt=resumed.attempt, cause=cause)
        ledger = replace(self._store.ledger, task=resumed, session_id=start.session_id)
        self._store.save(decide.noted(ledger, event), durable=True)
        log.info("task resumed", extra={"task": task.id, "attempt": resumed.attempt, "cause": cause})
        return start

    async def _try(self, start: plan.Start) -> None:
        """One attempt; what it means stands in the ledger before Claude has left."""
        task, assignment = self._store.ledger.task, self._relay.assignment
        assert task is not None
        assert assignment is not None
        forwarder = await asyncio.shield(self._forwarder)
        self._settings.system_prompt.write_text(system_prompt(task.settings))
        given = options(
            self._settings,
            assignment,
            task.settings,
            start,
            cli=self._cli,
            url=forwarder.url,
            key=forwarder.new_key(),
            before_tools=partial(
                self._recorded, task.id, transcript.size_bytes(self._settings.claude, start.session_id)
            ),
        )
        claude = Claude(given)
        attempt = Attempt(
            claude,
            task.id,
            stall_s=assignment.stall_seconds,
            heard_at=lambda: forwarder.heard_at,
            tells=self._tell,
            steps=self._step,
            costs=self._cost,
        )
        reaping = asyncio.create_task(_reap(claude))
        try:
            asked, outcome = await self._follow(attempt, task, start)
            self._conclude(outcome, asked, assignment)
        finally:
            reaping.cancel()
            forwarder.revoke()
            await attempt.close()
            await processes.sweep()

    async def _follow(self, attempt: Attempt, task: OpenTask, start: plan.Start) -> tuple[Asked | None, Outcome]:
        """Start Claude while the log takes the start; then the prompt; then until the end."""
        opening = asyncio.create_task(attempt.open())
        opening.add_done_callback(lambda _: self._changes.ring())
        await self._changes.until(lambda: opening.done() or self._asked(task) is not None)
        if asked := self._asked(task):
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
            return asked, Outcome(died="not begun")
        try:
            baseline_usd = opening.result()
        except ClaudeDied as error:
            return None, Outcome(died=str(error), was_refused=isinstance(error, SessionRefused))
        processes.remember(attempt.pid, self._settings.claude_process)
        self._store.update_task(**plan.costs_before(task, start.session_id, baseline_usd))
        await self._changes.until(
            lambda: decide.is_started(self._store.ledger, task.id) or self._asked(task) is not None
        )
        if asked := self._asked(task):
            return asked, Outcome(died="not begun")
        running, self._heard = asyncio.create_task(attempt.run(start)), start.heard
        running.add_done_callback(lambda _: self._changes.ring())
        try:
            while not running.done():
                await self._changes.until(
                    lambda: running.done() or (attempt.asked is None and self._has_to_say(task, self._heard))
                )
                if not running.done() and (asked := self._asked(task)):
                    attempt.stop(asked)
                elif not running.done() and (news := self._news(task.id, self._heard)):
                    if not await attempt.say(news[0]):
                        await asyncio.wait({running})
                        break
                    self._heard += 1
            return attempt.asked, running.result()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def _conclude(self, outcome: Outcome, asked: Asked | None, assignment: door.Assignment) -> None:
        task = self._store.ledger.task
        if task is None or self._asked(task) is Asked.DROP:
            return
        usage = transcript.last_usage(self._settings.claude, task.session_id)
        outcome = replace(outcome, last_usage=usage or outcome.last_usage)
        verdict = judged(task, outcome, asked, assignment.stall_seconds, time.time())
        match verdict:
            case Verdict.KEEP:
                self._store.update_task(durable=True, cause="shutdown", barren=max(0, task.barren - 1))
                log.info("task kept for the next runtime", extra={"task": task.id})
            case Verdict.AGAIN:
                self._store.update_task(durable=True, cause="session_refused" if outcome.was_refused else "claude_died")
                log.warning("claude broke off", extra={"task": task.id, "error": outcome.died})
            case TaskCompleted() as end:
                answered = self._news(task.id, 0)[: self._heard]
                last = answered[-1].id if answered else None
                self._end(end.model_copy(update={"last_message_id": last}))
            case end:
                self._end(end)

    def _end(self, end: End) -> None:
        self._store.save(decide.ended(self._store.ledger, end), durable=True)
        log.info("task ended", extra={"task": end.task_id, "type": end.type, "cost_usd": end.cost_usd})

    # ---- what the attempt tells ----

    def _tell(self, event: Event) -> None:
        """A task that has ended elsewhere says nothing more."""
        task = self._store.ledger.task
        if task and task.id == event.task_id and task.phase != "ended":
            ledger = decide.noted(self._store.ledger, event)
            if isinstance(event, Compaction):
                told = (event.tokens_before, event.tokens_after)
                ledger = replace(ledger, task=replace(task, compacted=told))
            self._store.save(ledger)

    def _step(self) -> None:
        task = self._store.ledger.task
        if task and task.phase != "ended" and task.barren:
            self._store.update_task(barren=0)

    async def _recorded(self, task_id: str, from_byte: int) -> None:
        """Before Claude's first tool does anything: its transcript, which it writes a little late, has the task. From
        then on the task is never given from its start again; until then it may be, since nothing was done."""
        deadline = time.monotonic() + RECORDED_S
        while (task := self._store.ledger.task) and task.id == task_id and task.phase == "written":
            known = transcript.has_prompt(self._settings.claude, task.session_id, task.prompt_uuid, from_byte=from_byte)
            if known or time.monotonic() > deadline:
                self._store.update_task(durable=True, phase="acted")
                return
            await asyncio.sleep(RECORDED_LOOK_S)

    def _cost(self, attempt_usd: float) -> None:
        task = self._store.ledger.task
        if task and task.phase != "ended" and task.attempt_usd != attempt_usd:
            self._store.update_task(attempt_usd=attempt_usd)
            log.debug("cost known", extra={"task": task.id, "attempt_usd": attempt_usd})


async def _reap(claude: Claude) -> None:
    while True:
        await asyncio.sleep(REAP_S)
        processes.reap_orphans(claude.pid)
