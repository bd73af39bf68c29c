"""Runs one attempt at the open task: prepares and starts Claude, sends the prompt and the messages to the task, and
records the outcome."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

from komputer.background import retry
from komputer.events.schema import TaskCompleted
from komputer.protocol import wire
from komputer.runtime import processes
from komputer.runtime.changes import Changes
from komputer.runtime.claude import transcript
from komputer.runtime.claude.options import Loopback
from komputer.runtime.claude.process import Claude, ClaudeDied, SessionRefused
from komputer.runtime.ledger import rules
from komputer.runtime.ledger.ledger import MESSAGE, OpenTask
from komputer.runtime.ledger.store import SPACE_POLL_S, SPACE_WAIT_S, LedgerStore
from komputer.runtime.task import plan
from komputer.runtime.task.attempt import Attempt, AttemptLimits
from komputer.runtime.task.ending import AttemptVerdict, Outcome, StopReason, judged, workspace_unusable
from komputer.runtime.task.launcher import Launcher
from komputer.runtime.task.recorder import AttemptRecorder, Recorder

log = logging.getLogger(__name__)

PROCESSES_CHECK_S: Final = 10.0
"""Interval between two checks for dead orphans and for a Claude process that was stopped."""
TRANSCRIPT_WAIT_S: Final = 5.0
"""How long a tool waits until Claude's transcript has the prompt. That usually takes up to 0.1 s, and seconds on a busy
machine. If Claude cannot write its transcript, the work continues; a crash then ends the task with `session_lost`."""
TRANSCRIPT_POLL_S: Final = 0.01
LEDGER_WAIT_S: Final = 50.0
"""How long a tool waits while the ledger cannot be written. After that the tool does not run, and the model gets the
reason. It must be less than `options.HOOK_S`."""


class AttemptRunner:
    """Runs attempts one after the other. `stop_reason` returns why the work on a task must stop now, or None."""

    def __init__(
        self,
        store: LedgerStore,
        changes: Changes,
        launcher: Launcher,
        recorder: Recorder,
        stop_reason: Callable[[OpenTask], StopReason | None],
    ) -> None:
        self._store = store
        self._changes = changes
        self._launcher = launcher
        self._settings = launcher.settings
        self._recorder = recorder
        self._stop_reason = stop_reason

    async def run(self, start: plan.Start, task: OpenTask, assignment: wire.Assignment) -> None:
        """Run one attempt. Its outcome is written to the ledger before the Claude process is ended, so that a crash in
        between does not repeat the attempt."""
        forwarder = await self._launcher.forwarder()
        assignment, task = plan.permitted(assignment, task)
        loopback = Loopback(forwarder.url, forwarder.new_key())
        self._recorder.mask.learn({**assignment.environment, "KEY": loopback.key})
        if not await self._prepared(task, loopback):
            forwarder.revoke()
            return
        size_before = transcript.size_bytes(self._settings.claude, start.session_id)
        before_tools = partial(self._before_tools, task.id, size_before)
        claude = self._launcher.claude(assignment, task, start, loopback, before_tools)
        records = AttemptRecorder(self._recorder, task.id, start.given)
        limits = AttemptLimits(stall_s=assignment.stall_seconds, background_s=self._settings.background_s)
        attempt = Attempt(claude, task.id, limits, records, lambda: forwarder.last_byte_at)
        watching = asyncio.create_task(retry("watch of processes", partial(_watch_processes, claude)))
        try:
            stopped, outcome = await self._follow(attempt, task, start, records)
            self._conclude(outcome, stopped, assignment)
        finally:
            watching.cancel()
            forwarder.revoke()
            await attempt.close()
            await processes.sweep()

    async def _prepared(self, task: OpenTask, loopback: Loopback) -> bool:
        """Prepare the workspace and return whether the attempt can begin. On a full disk, wait up to `SPACE_WAIT_S`. If
        there is still no space, or the workspace cannot be used, end the task with that reason."""
        deadline = time.monotonic() + SPACE_WAIT_S
        while True:
            try:
                await self._launcher.prepare(task, loopback)
            except OSError as error:
                is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
                log.error("workspace cannot be used", extra={"task": task.id, "error": str(error)})
                if is_full and time.monotonic() < deadline:
                    if await self._changes.until(lambda: self._stop_reason(task) is not None, timeout_s=SPACE_POLL_S):
                        return False
                    continue
                if self._stop_reason(task) is None:
                    self._recorder.end(workspace_unusable(task, str(error), is_full=is_full))
                return False
            self._store.catch_up()
            return True

    async def _follow(
        self, attempt: Attempt, task: OpenTask, start: plan.Start, records: AttemptRecorder
    ) -> tuple[StopReason | None, Outcome]:
        """Start Claude, and concurrently wait until the log has accepted the task's start. Then send the prompt, and
        messages as they arrive, until the attempt ends. Return why it was stopped (None: it was not) and its outcome.
        """
        opening = asyncio.create_task(attempt.open())
        opening.add_done_callback(lambda _: self._changes.notify())
        await self._changes.until(lambda: opening.done() or self._stop_reason(task) is not None)
        if stopped := self._stop_reason(task):
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
            return stopped, Outcome(died="not begun")
        try:
            baseline_usd = opening.result()
        except ClaudeDied as error:
            return None, Outcome(died=str(error), was_refused=isinstance(error, SessionRefused))
        processes.write_pid(attempt.pid, self._settings.claude_process)
        self._store.update_task(**plan.costs_before(task, start.session_id, baseline_usd))
        await self._changes.until(
            lambda: rules.is_started(self._store.ledger, task.id) or self._stop_reason(task) is not None
        )
        if stopped := self._stop_reason(task):
            return stopped, Outcome(died="not begun")
        running = asyncio.create_task(attempt.run(start.prompt, start.prompt_uuid))
        running.add_done_callback(lambda _: self._changes.notify())

        def must_act() -> bool:
            if running.done():
                return True
            return attempt.stopped is None and (self._stop_reason(task) is not None or records.has_unsent_message())

        try:
            while not running.done():
                await self._changes.until(must_act)
                if not running.done() and (stopped := self._stop_reason(task)):
                    attempt.stop(stopped)
                for message in [] if running.done() or attempt.stopped else records.unsent():
                    records.mark_sent(message)
                    await attempt.send(message.content, message.uuid)
            return attempt.stopped, running.result()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def _conclude(self, outcome: Outcome, stopped: StopReason | None, assignment: wire.Assignment) -> None:
        """Record what follows from the attempt: the task's end, or why another attempt is needed."""
        task = self._store.ledger.task
        if task is None or self._stop_reason(task) is StopReason.DROP:
            return
        usage = transcript.last_usage(self._settings.claude, task.session_id)
        outcome = replace(outcome, last_usage=usage or outcome.last_usage)
        match judged(task, outcome, stopped, assignment.stall_seconds, time.time()):
            case AttemptVerdict.KEEP:
                self._store.update_task(durable=True, cause="shutdown", barren=max(0, task.barren - 1))
                log.info("task kept for the next runtime", extra={"task": task.id})
            case AttemptVerdict.AGAIN:
                self._store.update_task(durable=True, cause="session_refused" if outcome.was_refused else "claude_died")
                log.warning("claude died", extra={"task": task.id, "error": outcome.died})
            case TaskCompleted() if task.has_unanswered_message:
                self._store.update_task(durable=True, cause=MESSAGE, barren=0)
                log.info("task continues for a message", extra={"task": task.id})
            case end:
                self._recorder.end(end)

    async def _before_tools(self, task_id: str, transcript_size_bytes: int) -> None:
        """Wait until transcript and ledger say on the disk that tools may have run.

        This is called before the first tool does anything. A task whose prompt is not in the transcript has done
        nothing, so it may be started from its instructions again. One whose prompt is there must never be. Claude
        writes its transcript with a short delay, so the tool has to wait for it.
        """
        deadline = time.monotonic() + TRANSCRIPT_WAIT_S
        while (task := self._store.ledger.task) and task.id == task_id and task.phase == "written":
            has_prompt = transcript.has_prompt(
                self._settings.claude, task.session_id, task.prompt_uuid, from_byte=transcript_size_bytes
            )
            if has_prompt or time.monotonic() > deadline:
                self._store.update_task(durable=True, phase="acted")
                break
            await asyncio.sleep(TRANSCRIPT_POLL_S)
        # Without this on the disk, a crash could cause the same tool to run twice.
        if not await self._changes.until(lambda: not self._store.is_behind, timeout_s=LEDGER_WAIT_S):
            raise RuntimeError(f"The agent's records cannot be written, so no tool may run: {self._store.problem}.")


async def _watch_processes(claude: Claude) -> None:
    while True:
        await asyncio.sleep(PROCESSES_CHECK_S)
        processes.reap_orphans(claude.pid)
        processes.resume_stopped(claude.pid)
