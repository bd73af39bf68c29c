"""One attempt at a task: one Claude process, from its start to its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from komputer.background import retry
from komputer.domain import money
from komputer.events.schema import Compaction, Event
from komputer.runtime.claude.process import Claude, ClaudeDied
from komputer.runtime.claude.translate import Translation, left_running, translated
from komputer.runtime.task.ending import Outcome, StopReason

if TYPE_CHECKING:
    from claude_agent_sdk import Message, ResultMessage

log = logging.getLogger(__name__)

RESULT_WAIT_S: Final = 4.0
"""How long Claude's result may take after an interrupt, before SIGTERM. It usually takes 25 ms."""
TERM_WAIT_S: Final = 4.0
"""How long Claude may take after SIGTERM to end its commands, before SIGKILL. It usually takes 2 to 3 s."""
OWED_TURN_WAIT_S: Final = 5.0
"""How long Claude may take to begin the turn that reports the end of a background command to the model. It usually
takes 0.2 s."""
COST_INTERVAL_S: Final = 0.25
"""Seconds between a message of Claude and a read of the cost, which also limits how often it is read."""


class AttemptObserver(Protocol):
    """Receives what happens during an attempt, immediately."""

    def on_event(self, event: Event) -> None: ...

    def on_step(self) -> None:
        """Called when a tool has returned."""

    def on_cost(self, attempt_usd: float) -> None:
        """Called with the session's cost since the attempt began, in US dollars."""

    def on_answer(self, unanswered: Collection[str]) -> None:
        """Called when the model has answered. `unanswered` are the uuids of messages that it has received but not
        answered."""

    def has_unsent_message(self) -> bool:
        """Whether there is a message to the task that was not sent to Claude yet."""


@dataclass(frozen=True, kw_only=True)
class AttemptLimits:
    stall_s: float
    """How long the model may send nothing before the attempt ends."""
    background_s: float
    """How long, after the last answer, the attempt waits for commands in the background."""


class Attempt:
    """One attempt: call `open`, then `run` once, `send` while it runs, and `close` at the end; `stop` at any time.

    `last_byte_at` returns the event loop's time of the last byte that the model sent.
    """

    def __init__(
        self,
        claude: Claude,
        task_id: str,
        limits: AttemptLimits,
        observer: AttemptObserver,
        last_byte_at: Callable[[], float],
    ) -> None:
        self.stopped: StopReason | None = None
        self._claude = claude
        self._state = Translation(task_id=task_id)
        self._limits = limits
        self._observer = observer
        self._last_byte_at = last_byte_at
        self._sent: set[str] = set()
        self._unanswered: set[str] = set()
        """The uuids of messages that were sent to Claude and that the model has not answered yet."""
        self._turns = 0
        self._was_compacted = False
        self._has_prompt = asyncio.Event()
        self._has_new_message = asyncio.Event()
        self._last_message_at = 0.0
        self._baseline_usd = 0.0
        self._held: ResultMessage | None = None
        """The task's result while it is held back because commands still run in the background; else None."""
        self._waiting_since = 0.0
        self._is_in_turn = False
        """Whether Claude is between `init` and the turn's result."""
        self._finished: asyncio.Future[ResultMessage] = asyncio.get_running_loop().create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._reading: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return self._claude.pid

    async def open(self) -> float:
        """Start Claude and return the session's cost so far, in US dollars. Raises `ClaudeDied`, `SessionRefused`."""
        await self._claude.connect()
        self._reading = asyncio.create_task(self._read())
        self._baseline_usd = await self._claude.total_cost_usd()
        return self._baseline_usd

    async def run(self, prompt: str, uuid: str) -> Outcome:
        """Send the prompt, follow Claude until the end, and return the outcome. A failure of Claude is an outcome, not
        an exception."""
        self._mark_sent(uuid)
        beside = [
            asyncio.create_task(retry("stall watchdog", self._watch_for_stall)),
            asyncio.create_task(retry("reading of costs", self._read_costs)),
        ]
        try:
            await self._claude.send(prompt, uuid)
            self._has_prompt.set()
            result = await asyncio.shield(self._finished)
        except ClaudeDied as error:
            return Outcome(died=str(error), api_error=self._state.api_error)
        finally:
            self._has_prompt.set()
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
        self._observer.on_cost(self._since_baseline(result.total_cost_usd))
        return Outcome(
            result=result,
            api_error=self._state.api_error,
            last_usage=self._state.usage,
            turns=self._turns,
            was_compacted=self._was_compacted,
        )

    async def send(self, text: str, uuid: str) -> None:
        """Send another message while `run` runs. The model gets it with the next tool's result, or after its present
        answer. If the process is gone, `run` reports that."""
        await self._has_prompt.wait()
        self._mark_sent(uuid)
        with contextlib.suppress(ClaudeDied):
            await self._claude.send(text, uuid)

    def _mark_sent(self, uuid: str) -> None:
        self._sent.add(uuid)
        self._unanswered.add(uuid)
        self._last_message_at = asyncio.get_running_loop().time()

    def stop(self, reason: StopReason) -> None:
        """End the attempt: interrupt Claude, then send SIGTERM, then SIGKILL, with a pause after each. Later calls have
        no effect."""
        if self.stopped is None:
            self.stopped = reason
            self._stopping = asyncio.create_task(self._stop(gently=reason is not StopReason.DROP))

    async def close(self) -> None:
        """End the process, whatever the state of the attempt."""
        if self._stopping:
            self._stopping.cancel()
            await asyncio.gather(self._stopping, return_exceptions=True)
        if self._timer:
            self._timer.cancel()
        if self._reading and not self._reading.done() and self._sent:
            self._claude.kill(signal.SIGTERM)
            await asyncio.wait({self._reading}, timeout=TERM_WAIT_S)
            self._claude.kill(signal.SIGKILL)
        await self._claude.close()
        if self._reading:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._finished.done() and not self._finished.cancelled():
            self._finished.exception()  # retrieve it: otherwise asyncio logs that it was never retrieved

    async def _read(self) -> None:
        """Read Claude's messages until the end. They must be read all the time: otherwise the SDK does not process the
        answer to an interrupt."""
        try:
            async for message in self._claude.messages():
                self._take(message)
                if self._finished.done():
                    return
            raise ClaudeDied("Claude ended without a result")
        except Exception as error:  # passed on to `run`, whatever it is
            if not self._finished.done():
                self._finished.set_exception(error)

    def _take(self, message: Message) -> None:
        """Handle one message: report its events, and find out whether a turn has begun or ended. A message that cannot
        be translated is logged and causes no events, but the end of a turn in it is still handled."""
        from claude_agent_sdk import ResultMessage

        self._last_message_at = asyncio.get_running_loop().time()
        self._has_new_message.set()
        before = self._state
        try:
            self._state, events = translated(before, message, time.monotonic())
        except (ValueError, TypeError, AttributeError, RecursionError) as error:  # a model or a tool may send anything
            log.error("message of claude not understood", extra={"task": before.task_id, "error": repr(error)[:500]})
            events = []
        for event in events:
            self._was_compacted = self._was_compacted or isinstance(event, Compaction)
            self._observer.on_event(event)
        if self._state.steps != before.steps:
            self._observer.on_step()
        if getattr(message, "subtype", "") == "init":
            self._is_in_turn = True
            if self._timer:
                self._timer.cancel()
        if isinstance(message, ResultMessage):
            self._is_in_turn = False
            self._result(message)
        elif self._held and _waits_for(self._state) != _waits_for(before):
            self._wait_for_background(self._held)

    def _result(self, result: ResultMessage) -> None:
        """Handle the end of a turn. The task's result is the result of its last turn, even if Claude itself began that
        turn."""
        if self._is_ours(result):
            self._unanswered -= set(result.user_message_uuids or self._unanswered)
            self._waiting_since = 0.0
            self._observer.on_answer(frozenset(self._unanswered))
        elif not self._held:
            return
        self._turns += max(0, result.num_turns)
        self._held = None
        if self.stopped or not (self._unanswered or self._observer.has_unsent_message()):
            self._wait_for_background(result)

    def _wait_for_background(self, result: ResultMessage) -> None:
        """Hold `result` back until no command runs in the background and the model has had the turn that reports ended
        commands. Then finish the attempt with it."""
        if self._timer:
            self._timer.cancel()
        now = asyncio.get_running_loop().time()
        self._held, self._timer = result, None
        self._waiting_since = self._waiting_since or now
        left_s = self._waiting_since + self._limits.background_s - now
        if self.stopped or result.is_error:
            self._finish(result)
        elif self._state.background:
            log.info(
                "waiting for commands in the background", extra={"task": self._state.task_id, "seconds": round(left_s)}
            )
            self._timer = asyncio.get_running_loop().call_later(max(0.0, left_s), self._give_up, result)
        elif self._state.owes_turn:
            self._timer = asyncio.get_running_loop().call_later(
                OWED_TURN_WAIT_S, self._finish_unless_unanswered, result
            )
        elif not self._is_in_turn:
            self._finish(result)

    def _finish_unless_unanswered(self, result: ResultMessage) -> None:
        """Finish, unless a message was sent meanwhile: the turn that answers it has a result of its own."""
        if not self._unanswered:
            self._finish(result)

    def _give_up(self, result: ResultMessage) -> None:
        if self._unanswered:
            return
        waited_s = asyncio.get_running_loop().time() - self._waiting_since
        left = left_running(self._state, waited_s, time.monotonic())
        for event in left:
            self._observer.on_event(event)
        commands = "; ".join(str(each.input.get("command") or each.input.get("description") or "?") for each in left)
        note = f"(Ended with the task, unfinished after {waited_s:.0f} s in the background: {commands[:500]})"
        self._finish(replace(result, result=f"{result.result or ''}\n\n{note}".strip()))

    def _finish(self, result: ResultMessage) -> None:
        if not self._finished.done():
            self._finished.set_result(result)

    def _is_ours(self, result: ResultMessage) -> bool:
        """Whether the result is that of a turn that the runtime began. Claude itself begins a turn when a command in
        the background ends."""
        if result.user_message_uuids:
            return not self._sent.isdisjoint(result.user_message_uuids)
        return result.origin is None or result.origin["kind"] != "task-notification"

    async def _watch_for_stall(self) -> None:
        """Stop the attempt if the model's stream stalls. The clock does not run while a tool runs, or while only
        commands in the background are left: the model has nothing to send then."""
        now = asyncio.get_running_loop().time
        while True:
            last = max(self._last_message_at, self._last_byte_at())
            if self._state.calls or (self._held and not self._is_in_turn):
                last = now()
            if (left := last + self._limits.stall_s - now()) <= 0:
                log.warning("model sent nothing", extra={"task": self._state.task_id, "seconds": self._limits.stall_s})
                self.stop(StopReason.STALL)
                return
            await asyncio.sleep(min(left, self._limits.stall_s / 4) + 0.01)

    def _since_baseline(self, total_usd: object) -> float:
        return money.number(money.amount(money.amount(total_usd) - money.amount(self._baseline_usd)))

    async def _read_costs(self) -> None:
        """Read the cost regularly. Claude reports the total only at the end, so a crash would lose it."""
        while True:
            await self._has_new_message.wait()
            await asyncio.sleep(COST_INTERVAL_S)
            self._has_new_message.clear()
            try:
                self._observer.on_cost(self._since_baseline(await self._claude.total_cost_usd()))
            except ClaudeDied:
                return

    async def _stop(self, *, gently: bool) -> None:
        if self._held and not self._is_in_turn and not self._finished.done():
            self._finished.set_exception(ClaudeDied("only commands in the background were left"))
            return
        if gently:
            with contextlib.suppress(ClaudeDied):
                await self._claude.interrupt()
                await asyncio.wait({self._finished}, timeout=RESULT_WAIT_S)
        if not self._finished.done():
            self._claude.kill(signal.SIGTERM)
            await asyncio.wait({self._finished}, timeout=TERM_WAIT_S)
        if not self._finished.done():
            self._claude.kill(signal.SIGKILL)


def _waits_for(telling: Translation) -> tuple[object, ...]:
    """Return the state that keeps the task from ending: background commands, and the turn that reports their end."""
    return telling.background, telling.owes_turn
