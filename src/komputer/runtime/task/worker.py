"""Works on one task after the other, each from its assignment to the end in the ledger."""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from dataclasses import replace
from typing import Final

from komputer.events.schema import TaskCancelled, TaskResumed
from komputer.protocol import wire
from komputer.runtime import processes
from komputer.runtime.changes import Changes
from komputer.runtime.claude import transcript
from komputer.runtime.ledger import rules
from komputer.runtime.ledger.ledger import MESSAGE, OpenTask
from komputer.runtime.ledger.store import LedgerStore
from komputer.runtime.task import plan
from komputer.runtime.task.ending import StopReason, no_conversation
from komputer.runtime.task.launcher import Launcher
from komputer.runtime.task.recorder import Recorder
from komputer.runtime.task.relay import Relay
from komputer.runtime.task.runner import AttemptRunner

log = logging.getLogger(__name__)

MESSAGE_WAIT_S: Final = 60.0
"""How long a task whose end was refused waits for the unanswered message. After that Claude is asked to end the task,
and the log decides again."""


class Worker:
    """Decides which task the runtime works on, and whether another attempt at it begins."""

    def __init__(
        self, store: LedgerStore, relay: Relay, changes: Changes, launcher: Launcher, recorder: Recorder
    ) -> None:
        self._settings = launcher.settings
        self._store = store
        self._relay = relay
        self._changes = changes
        self._launcher = launcher
        self._recorder = recorder
        self._attempts = AttemptRunner(store, changes, launcher, recorder, self._stop_reason)
        self._is_stopping = False

    def stop(self) -> None:
        """Interrupt the running task and keep it for the next runtime; `run` returns soon."""
        self._is_stopping = True
        self._changes.notify()

    async def run(self) -> None:
        """Work on tasks until `stop`. A task that an earlier runtime left open comes first."""
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
        return rules.next_task(self._store.ledger, self._relay.assignment) is not None

    async def _work(self) -> None:
        """Work on one task until it has ended, or until `_stop_reason` gives a reason to stop."""
        start = None if self._store.ledger.task else await self._begin()
        while (task := self._store.ledger.task) and self._stop_reason(task) is None:
            start = start or await self._next_start(task)
            if start is None:
                break
            task, assignment = self._store.ledger.task, self._relay.assignment
            assert task is not None
            assert assignment is not None
            await self._attempts.run(start, task, assignment)
            start = None
        task = self._store.ledger.task
        if task and self._stop_reason(task) is StopReason.CANCEL:
            self._recorder.end(
                TaskCancelled(
                    task_id=task.id,
                    reason="cancelled by request",
                    cost_usd=task.cost_usd,
                    session_id=task.session_id,
                )
            )

    async def _begin(self) -> plan.Start | None:
        """Open the assigned task in the ledger, and return how its first attempt starts; None if the task has ended
        already."""
        assignment = self._relay.assignment
        assert assignment is not None
        assigned = rules.next_task(self._store.ledger, assignment)
        assert assigned is not None
        # The previous task may have locked the transcripts. If they cannot be unlocked, the attempt reports it.
        with contextlib.suppress(OSError):
            await self._launcher.rebuild()
        task = self._new_task(assigned, assignment)
        self._store.save(rules.with_task(self._store.ledger, task), durable=True)
        log.info("task started", extra={"task": task.id, "session": task.session_id})
        if task.kind == "compact" and not task.is_resuming:
            self._recorder.end(no_conversation(task))
            return None
        return plan.first(task)

    def _new_task(self, assigned: wire.AssignedTask, assignment: wire.Assignment) -> OpenTask:
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

    def _stop_reason(self, task: OpenTask) -> StopReason | None:
        """Return why the work on the task must stop now, or None."""
        held = self._store.ledger.task
        if held is None or held.id != task.id or held.phase == "ended":
            return StopReason.DROP
        if rules.is_cancelled(self._store.ledger, self._relay.assignment):
            return StopReason.CANCEL
        return StopReason.STOP if self._is_stopping else None

    async def _next_start(self, task: OpenTask) -> plan.Start | None:
        """Return how the next attempt at an open task starts; None if there is none. The pause before the attempt is
        over when this returns, and the attempt is recorded. Ends the task if it may not be attempted again."""
        assert self._relay.assignment is not None
        await processes.wait_for_former(self._settings.claude_process)
        if task.cause == MESSAGE:
            # The log refused the end because of a message that this runtime does not have yet. Wait for it, but not for
            # ever: the log may have lost it meanwhile.
            await self._changes.until(
                lambda: self._stop_reason(task) is not None or self._has_unanswered_message(), MESSAGE_WAIT_S
            )
        if self._stop_reason(task) is not None or not (current := self._store.ledger.task):
            return None
        task = current  # a message may have been added during the wait
        start = plan.again(
            task, self._recorded(task), self._relay.assignment.max_attempts, str(uuid.uuid4()), time.time()
        )
        if not isinstance(start, plan.Start):
            self._recorder.end(start)
            return None
        if await self._changes.until(lambda: self._stop_reason(current) is not None, timeout_s=plan.pause_s(current)):
            return None
        self._record_attempt(start)
        return start

    def _recorded(self, task: OpenTask) -> plan.Recorded:
        claude, session_id = self._settings.claude, task.session_id
        return plan.Recorded(
            has_file=transcript.path(claude, session_id) is not None,
            has_conversation=transcript.has_conversation(claude, session_id),
            has_prompt=transcript.has_prompt(claude, session_id, task.prompt_uuid),
            messages=frozenset(
                each.id for each in task.messages if transcript.has_message(claude, session_id, each.uuid)
            ),
        )

    def _record_attempt(self, start: plan.Start) -> None:
        """Record that another attempt begins. An attempt that only answers a message is not counted."""
        task = self._store.ledger.task
        assert task is not None
        if task.cause == MESSAGE:
            self._store.update_task(durable=True, cause=None, barren=1)
            return
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
        self._store.save(rules.with_event(ledger, event), durable=True)
        log.info("task resumed", extra={"task": task.id, "attempt": resumed.attempt, "cause": cause})

    def _has_unanswered_message(self) -> bool:
        task = self._store.ledger.task
        return task is not None and task.has_unanswered_message
