"""One task after the other, from the assignment to the end in the ledger."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from komputer.background import retry
from komputer.domain.errors import Unavailable
from komputer.events.schema import End, Event, TaskCancelled, TaskCompleted, TaskResumed
from komputer.protocol import wire
from komputer.runtime import processes, workspace
from komputer.runtime.changes import Changes
from komputer.runtime.claude import transcript
from komputer.runtime.claude.options import options, servers, system_prompt
from komputer.runtime.claude.process import Claude, ClaudeDied, SessionRefused
from komputer.runtime.ledger import ledger as decide
from komputer.runtime.ledger.ledger import MESSAGE, OpenTask, PendingMessage
from komputer.runtime.ledger.store import SPACE_LOOK_S, SPACE_WAIT_S, LedgerStore
from komputer.runtime.masking import E, Mask
from komputer.runtime.settings import RuntimeSettings
from komputer.runtime.task import plan
from komputer.runtime.task.attempt import Attempt
from komputer.runtime.task.ending import (
    AttemptVerdict,
    Outcome,
    StopReason,
    judged,
    no_conversation,
    workspace_unusable,
)
from komputer.runtime.task.plan import permitted
from komputer.runtime.task.relay import Relay

if TYPE_CHECKING:
    from komputer.runtime.proxy import Forwarder

log = logging.getLogger(__name__)

REAP_S: Final = 10.0
RECORDED_S: Final = 5.0
"""How long a tool waits for Claude's own record of the task, which takes up to 0.1 s, and seconds on a busy machine. A
disk on which Claude cannot write does not stop the work: a crash then ends the task as `session_lost`."""
WRITTEN_S: Final = 50.0
"""How long a tool waits for a disk on which the ledger cannot be written; below `options.HOOK_S`. Then it does not
run, and the model is told why."""
MESSAGE_S: Final = 60.0
"""How long a task whose end was refused waits for the message. Then Claude is asked to end it, which the log judges."""
RECORDED_LOOK_S: Final = 0.01


class Worker:
    """`forwarder` may still be on its way when the first task comes. `temporary` is TMPDIR, `token` reads the pod's."""

    def __init__(
        self,
        settings: RuntimeSettings,
        store: LedgerStore,
        relay: Relay,
        changes: Changes,
        forwarder: Awaitable[Forwarder],
        cli: Path,
        temporary: Path,
        token: Callable[[], str],
    ) -> None:
        self._settings = settings
        self._store = store
        self._relay = relay
        self._changes = changes
        self._forwarder = asyncio.ensure_future(forwarder)
        self._cli = cli
        self._temporary = temporary
        self._token = token
        self._mask = Mask()
        self._is_stopping = False

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
            # The task before may have locked the transcripts. Where they cannot be unlocked, the attempt says so.
            with contextlib.suppress(OSError):
                await asyncio.to_thread(workspace.rebuild, self._settings, self._temporary)
            task = self._new(assigned, assignment)
            self._store.save(decide.opened(self._store.ledger, task), durable=True)
            log.info("task started", extra={"task": task.id, "session": task.session_id})
            if task.kind == "compact" and not task.is_resuming:
                self._end(no_conversation(task))
                return
            start = plan.first(task)
        while (task := self._store.ledger.task) and self._asked(task) is None:
            start = start or await self._again(task)
            if start is None:
                break
            await self._try(start)
            start = None
        task = self._store.ledger.task
        if task and self._asked(task) is StopReason.CANCEL:
            self._end(
                TaskCancelled(
                    task_id=task.id,
                    reason="cancelled by request",
                    cost_usd=task.cost_usd,
                    session_id=task.session_id,
                )
            )

    def _new(self, assigned: wire.AssignedTask, assignment: wire.Assignment) -> OpenTask:
        session_id = self._store.ledger.session_id
        is_resuming = bool(session_id and transcript.has_conversation(self._settings.claude, session_id))
        return OpenTask(
            id=assigned.id,
            instructions=assigned.instructions,
            kind=assigned.kind,
            generation=assignment.generation,
            settings=assignment.settings,
            session_id=session_id if session_id and is_resuming else str(uuid.uuid4()),
            is_resuming=is_resuming,
            prompt_uuid=str(uuid.uuid4()),
            started_at=time.time(),
        )

    def _asked(self, task: OpenTask) -> StopReason | None:
        """Whether the task is to be left, and why."""
        held = self._store.ledger.task
        if held is None or held.id != task.id or held.phase == "ended":
            return StopReason.DROP
        if decide.is_cancelled(self._store.ledger, self._relay.assignment):
            return StopReason.CANCEL
        return StopReason.STOP if self._is_stopping else None

    async def _again(self, task: OpenTask) -> plan.Start | None:
        """Write down that another attempt begins, after its pause; or how the task ends. None: do not begin."""
        assert self._relay.assignment is not None
        await processes.outwait(self._settings.claude_process)
        if task.cause == MESSAGE:
            # The log refused the end for a message that is on its way to us, unless the log has lost it meanwhile.
            await self._changes.until(lambda: self._asked(task) is not None or self._is_asked(), MESSAGE_S)
        if self._asked(task) is not None or not (held := self._store.ledger.task):
            return None
        task = held  # it may have been spoken to meanwhile
        claude, session_id = self._settings.claude, task.session_id
        recorded = plan.Recorded(
            has_file=transcript.path(claude, session_id) is not None,
            has_conversation=transcript.has_conversation(claude, session_id),
            has_prompt=transcript.has_prompt(claude, session_id, task.prompt_uuid),
            messages=frozenset(
                each.id for each in task.messages if transcript.has_message(claude, session_id, each.uuid)
            ),
        )
        start = plan.again(task, recorded, self._relay.assignment.max_attempts, str(uuid.uuid4()), time.time())
        if not isinstance(start, plan.Start):
            self._end(start)
            return None
        if await self._changes.until(lambda: self._asked(held) is not None, timeout_s=plan.pause_s(held)):
            return None
        task = self._store.ledger.task
        assert task is not None
        if task.cause == MESSAGE:
            self._store.update_task(durable=True, cause=None, barren=1)
            return start
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
        assignment, task = permitted(assignment, task)
        key = forwarder.new_key()
        self._mask.learn({**assignment.environment, "KEY": key})
        if not await self._rebuilt(task, forwarder.url, key):
            forwarder.revoke()
            return
        chosen = options(
            self._settings,
            assignment,
            task.settings,
            start,
            cli=self._cli,
            launcher=processes.launcher(),
            url=forwarder.url,
            key=key,
            is_command=task.kind is not None,
            before_tools=partial(
                self._recorded, task.id, transcript.size_bytes(self._settings.claude, start.session_id)
            ),
        )
        claude, given = Claude(chosen), set(start.given)
        attempt = Attempt(
            claude,
            task.id,
            stall_s=assignment.stall_seconds,
            background_s=self._settings.background_s,
            heard_at=lambda: forwarder.heard_at,
            tells=self._tell,
            steps=self._step,
            costs=self._cost,
            answers=lambda: self._heard(attempt, task.id, given),
            is_asked=lambda: bool(self._ungiven(task.id, given)),
        )
        reaping = asyncio.create_task(retry("reaping of orphans", partial(_reap, claude)))
        try:
            asked, outcome = await self._follow(attempt, task, start, given)
            self._conclude(outcome, asked, assignment)
        finally:
            reaping.cancel()
            forwarder.revoke()
            await attempt.close()
            await processes.sweep()

    async def _rebuilt(self, task: OpenTask, url: str, key: str) -> bool:
        """Make everything new that steers Claude. Where the disk is full, wait for space; then, and where the workspace
        cannot be used, the task ends with that reason."""
        deadline = time.monotonic() + SPACE_WAIT_S
        while True:
            try:
                await asyncio.to_thread(workspace.rebuild, self._settings, self._temporary)
                workspace.write_private(self._settings.system_prompt, system_prompt(task.settings))
                workspace.write_private(self._settings.servers, json.dumps(servers(task.settings, url, key)))
            except OSError as error:
                is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
                log.error("the workspace cannot be used", extra={"task": task.id, "error": str(error)})
                if is_full and time.monotonic() < deadline:
                    if await self._changes.until(lambda: self._asked(task) is not None, timeout_s=SPACE_LOOK_S):
                        return False
                    continue
                if self._asked(task) is None:
                    self._end(workspace_unusable(task, str(error), is_full=is_full))
                return False
            self._store.catch_up()
            return True

    async def _follow(
        self, attempt: Attempt, task: OpenTask, start: plan.Start, given: set[str]
    ) -> tuple[StopReason | None, Outcome]:
        """Start Claude while the log takes the start; then the prompt and what is said meanwhile, until the end.
        `given` are the ids of messages that Claude has."""
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
        running = asyncio.create_task(attempt.run(start.prompt, start.prompt_uuid))
        running.add_done_callback(lambda _: self._changes.ring())
        try:
            while not running.done():
                await self._changes.until(
                    lambda: (
                        running.done()
                        or (attempt.asked is None and self._asked(task) is not None)
                        or (attempt.asked is None and bool(self._ungiven(task.id, given)))
                    )
                )
                if not running.done() and (asked := self._asked(task)):
                    attempt.stop(asked)
                for message in [] if running.done() or attempt.asked else self._ungiven(task.id, given):
                    given.add(message.id)
                    await attempt.say(message.content, message.uuid)
            return attempt.asked, running.result()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def _conclude(self, outcome: Outcome, asked: StopReason | None, assignment: wire.Assignment) -> None:
        task = self._store.ledger.task
        if task is None or self._asked(task) is StopReason.DROP:
            return
        usage = transcript.last_usage(self._settings.claude, task.session_id)
        outcome = replace(outcome, last_usage=usage or outcome.last_usage)
        verdict = judged(task, outcome, asked, assignment.stall_seconds, time.time())
        match verdict:
            case AttemptVerdict.KEEP:
                self._store.update_task(durable=True, cause="shutdown", barren=max(0, task.barren - 1))
                log.info("task kept for the next runtime", extra={"task": task.id})
            case AttemptVerdict.AGAIN:
                self._store.update_task(durable=True, cause="session_refused" if outcome.was_refused else "claude_died")
                log.warning("claude broke off", extra={"task": task.id, "error": outcome.died})
            case TaskCompleted() if self._is_asked():
                self._store.update_task(durable=True, cause=MESSAGE, barren=0)
                log.info("task goes on for a message", extra={"task": task.id})
            case end:
                self._end(end)

    def _is_asked(self) -> bool:
        """Somebody has spoken to the open task and was not answered."""
        task = self._store.ledger.task
        return task is not None and task.is_asked

    def _ungiven(self, task_id: str, given: set[str]) -> list[PendingMessage]:
        task = self._store.ledger.task
        return plan.ungiven(task, given) if task and task.id == task_id and task.phase != "ended" else []

    def _heard(self, attempt: Attempt, task_id: str, given: set[str]) -> None:
        """The model has answered: to all messages up to the first that it has not got or not answered."""
        task = self._store.ledger.task
        if task is None or task.id != task_id or task.phase == "ended":
            return
        heard = task.heard
        for message in task.messages:
            if message.id not in given or message.uuid in attempt.waiting:
                break
            heard = message.id
        if heard != task.heard:
            self._store.update_task(heard=heard)

    def _end(self, end: End) -> None:
        self._store.save(decide.ended(self._store.ledger, self._masked(end)), durable=True)
        log.info("task ended", extra={"task": end.task_id, "type": end.type, "cost_usd": end.cost_usd})

    # ---- what the attempt tells ----

    def _tell(self, event: Event) -> None:
        """A task that has ended elsewhere says nothing more."""
        task = self._store.ledger.task
        if task and task.id == event.task_id and task.phase != "ended":
            self._store.save(decide.noted(self._store.ledger, self._masked(event)))

    def _masked(self, event: E) -> E:
        with contextlib.suppress(Unavailable):
            self._mask.learn({"TOKEN": self._token()})
        return self._mask.masked(event)

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
                break
            await asyncio.sleep(RECORDED_LOOK_S)
        # Were this not on the disk, a crash could run the same tool twice.
        if not await self._changes.until(lambda: not self._store.is_behind, timeout_s=WRITTEN_S):
            raise RuntimeError(f"The agent's records cannot be written, so no tool may run: {self._store.trouble}.")

    def _cost(self, attempt_usd: float) -> None:
        task = self._store.ledger.task
        if task and task.phase != "ended" and task.attempt_usd != attempt_usd:
            self._store.update_task(attempt_usd=attempt_usd)
            log.debug("cost known", extra={"task": task.id, "attempt_usd": attempt_usd})


async def _reap(claude: Claude) -> None:
    while True:
        await asyncio.sleep(REAP_S)
        processes.reap_orphans(claude.pid)
