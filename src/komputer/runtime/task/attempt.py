"""One attempt at a task: one Claude process, from its start to its last word."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from komputer.background import retry
from komputer.domain import money
from komputer.events.schema import Compaction, Event
from komputer.runtime.claude.process import Claude, ClaudeDied
from komputer.runtime.claude.translate import Telling, left_running, tell
from komputer.runtime.task.ending import Outcome, StopReason

if TYPE_CHECKING:
    from claude_agent_sdk import Message, ResultMessage

log = logging.getLogger(__name__)

ANSWER_S: Final = 4.0
"""How long Claude's result may take after an interrupt; it takes some 25 ms. Then SIGTERM."""
TERM_S: Final = 4.0
"""How long Claude may take to end its commands after SIGTERM; 2 to 3 s. Then SIGKILL."""
OWED_TURN_S: Final = 5.0
"""How long Claude may take to begin the turn in which it tells the model that a command has ended; some 0.2 s."""
COST_PAUSE_S: Final = 0.25
"""Costs are asked for at most so often, and so long after Claude's last word."""


class Attempt:
    """`run` once; `say` while it runs; `stop` at any time. `tells` gets each event as it happens, `steps` is called
    whenever a tool has answered, `costs` gets what the session has cost since the attempt began, in US dollars.
    After the last answer it waits up to `background_s` for commands in the background.
    `answers` is called when the model has answered; `is_asked` tells whether there is more to be said to it."""

    def __init__(
        self,
        claude: Claude,
        task_id: str,
        *,
        stall_s: float,
        background_s: float,
        heard_at: Callable[[], float],
        tells: Callable[[Event], None],
        steps: Callable[[], None],
        costs: Callable[[float], None],
        answers: Callable[[], None],
        is_asked: Callable[[], bool],
    ) -> None:
        self.asked: StopReason | None = None
        self._claude = claude
        self._telling = Telling(task_id=task_id)
        self._stall_s = stall_s
        self._background_s = background_s
        self._heard_at = heard_at
        self._tells, self._steps, self._costs = tells, steps, costs
        self._answers, self._is_asked = answers, is_asked
        self._said: set[str] = set()
        self._turns = 0
        self._was_compacted = False
        self._is_begun = asyncio.Event()
        self.waiting: set[str] = set()
        """Uuids of what was said and is not answered yet."""
        self._spoke = asyncio.Event()
        self._last_word_s = 0.0
        self._baseline_usd = 0.0
        self._held: ResultMessage | None = None
        """The task's result, while commands in the background still run."""
        self._waiting_since_s = 0.0
        self._is_in_turn = False
        """Between Claude's `init` and the turn's result."""
        self._finished: asyncio.Future[ResultMessage] = asyncio.get_running_loop().create_future()
        self._patience: asyncio.TimerHandle | None = None
        self._reading: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return self._claude.pid

    async def open(self) -> float:
        """Start Claude. The answer is what the session has cost before. Raises `ClaudeDied`, `SessionRefused`."""
        await self._claude.connect()
        self._reading = asyncio.create_task(self._read())
        self._baseline_usd = await self._claude.total_cost_usd()
        return self._baseline_usd

    async def run(self, prompt: str, uuid: str) -> Outcome:
        """Give the prompt and follow until the end. Never raises for Claude's sake; call `close` afterwards."""
        self._noted(uuid)
        beside = [
            asyncio.create_task(retry("watch for silence", self._watch)),
            asyncio.create_task(retry("reading of costs", self._ask_costs)),
        ]
        try:
            await self._claude.give(prompt, uuid)
            self._is_begun.set()
            result = await asyncio.shield(self._finished)
        except ClaudeDied as error:
            return Outcome(died=str(error), api_error=self._telling.api_error)
        finally:
            self._is_begun.set()
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
        self._costs(self._since_baseline(result.total_cost_usd))
        return Outcome(
            result=result,
            api_error=self._telling.api_error,
            last_usage=self._telling.usage,
            turns=self._turns,
            was_compacted=self._was_compacted,
        )

    async def say(self, text: str, uuid: str) -> None:
        """Another message while `run` runs. Claude hears it with the next tool's result, or after the present answer.
        Where Claude is gone already `run` says so."""
        await self._is_begun.wait()
        self._noted(uuid)
        with contextlib.suppress(ClaudeDied):
            await self._claude.give(text, uuid)

    def _noted(self, uuid: str) -> None:
        self._said.add(uuid)
        self.waiting.add(uuid)
        self._last_word_s = asyncio.get_running_loop().time()

    def stop(self, asked: StopReason) -> None:
        """End the attempt: interrupt, then SIGTERM, then SIGKILL, each after its time. The first reason stays."""
        if self.asked is None:
            self.asked = asked
            self._stopping = asyncio.create_task(self._stop(gently=asked is not StopReason.DROP))

    async def close(self) -> None:
        """End the process, whatever it does."""
        if self._stopping:
            self._stopping.cancel()
            await asyncio.gather(self._stopping, return_exceptions=True)
        if self._patience:
            self._patience.cancel()
        if self._reading and not self._reading.done() and self._said:
            self._claude.kill(signal.SIGTERM)
            await asyncio.wait({self._reading}, timeout=TERM_S)
            self._claude.kill(signal.SIGKILL)
        await self._claude.close()
        if self._reading:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._finished.done() and not self._finished.cancelled():
            self._finished.exception()  # taken, so that nobody is told of an error that nobody waited for

    async def _read(self) -> None:
        """Always drains: an SDK that nobody reads answers no interrupt."""
        try:
            async for message in self._claude.messages():
                self._take(message)
                if self._finished.done():
                    return
            raise ClaudeDied("Claude ended without a result")
        except Exception as error:  # whoever waits for the result gets it, whatever it is
            if not self._finished.done():
                self._finished.set_exception(error)

    def _take(self, message: Message) -> None:
        from claude_agent_sdk import ResultMessage

        self._last_word_s = asyncio.get_running_loop().time()
        self._spoke.set()
        before = self._telling
        try:
            self._telling, events = tell(before, message, time.monotonic())
        except (ValueError, TypeError, AttributeError, RecursionError) as error:  # what a model or a tool said
            log.error("a message was not understood", extra={"task": before.task_id, "error": repr(error)[:500]})
            events = []
        for event in events:
            self._was_compacted = self._was_compacted or isinstance(event, Compaction)
            self._tells(event)
        if self._telling.steps != before.steps:
            self._steps()
        if getattr(message, "subtype", "") == "init":
            self._is_in_turn = True
            if self._patience:
                self._patience.cancel()
        if isinstance(message, ResultMessage):
            self._is_in_turn = False
            self._result(message)
        elif self._held and _waits_for(self._telling) != _waits_for(before):
            self._wait_for_background(self._held)

    def _result(self, result: ResultMessage) -> None:
        """A turn is over. The task's result is that of the last turn, turns that Claude began by itself included."""
        if self._is_ours(result):
            self.waiting -= set(result.user_message_uuids or self.waiting)
            self._waiting_since_s = 0.0
            self._answers()
        elif not self._held:
            return
        self._turns += max(0, result.num_turns)
        self._held = None
        if self.asked or not (self.waiting or self._is_asked()):
            self._wait_for_background(result)

    def _wait_for_background(self, result: ResultMessage) -> None:
        """Finish with `result`, after the commands in the background and what the model says of them."""
        if self._patience:
            self._patience.cancel()
        now = asyncio.get_running_loop().time()
        self._held, self._patience = result, None
        self._waiting_since_s = self._waiting_since_s or now
        left_s = self._waiting_since_s + self._background_s - now
        if self.asked or result.is_error:
            self._finish(result)
        elif self._telling.background:
            log.info("waiting for background commands", extra={"task": self._telling.task_id, "seconds": round(left_s)})
            self._patience = asyncio.get_running_loop().call_later(max(0.0, left_s), self._give_up, result)
        elif self._telling.owes_turn:
            self._patience = asyncio.get_running_loop().call_later(OWED_TURN_S, self._finish_unless_asked, result)
        elif not self._is_in_turn:
            self._finish(result)

    def _finish_unless_asked(self, result: ResultMessage) -> None:
        """What was said meanwhile is answered first: that turn has a result of its own."""
        if not self.waiting:
            self._finish(result)

    def _give_up(self, result: ResultMessage) -> None:
        if self.waiting:
            return
        waited_s = asyncio.get_running_loop().time() - self._waiting_since_s
        left = left_running(self._telling, waited_s, time.monotonic())
        for event in left:
            self._tells(event)
        commands = "; ".join(str(each.input.get("command") or each.input.get("description") or "?") for each in left)
        note = f"(Ended with the task, unfinished after {waited_s:.0f} s in the background: {commands[:500]})"
        self._finish(replace(result, result=f"{result.result or ''}\n\n{note}".strip()))

    def _finish(self, result: ResultMessage) -> None:
        if not self._finished.done():
            self._finished.set_result(result)

    def _is_ours(self, result: ResultMessage) -> bool:
        """Turns that Claude begins by itself, when a background command ends, have results of their own."""
        if result.user_message_uuids:
            return not self._said.isdisjoint(result.user_message_uuids)
        return result.origin is None or result.origin["kind"] != "task-notification"

    async def _watch(self) -> None:
        """Act on silence of the model's stream; while a tool runs, silence is all right."""
        now = asyncio.get_running_loop().time
        while True:
            last = max(self._last_word_s, self._heard_at())
            if self._telling.calls or (self._held and not self._is_in_turn):
                last = now()
            if (left := last + self._stall_s - now()) <= 0:
                log.warning("the model is silent", extra={"task": self._telling.task_id, "seconds": self._stall_s})
                self.stop(StopReason.STALL)
                return
            await asyncio.sleep(min(left, self._stall_s / 4) + 0.01)

    def _since_baseline(self, total_usd: object) -> float:
        return money.number(money.amount(money.amount(total_usd) - money.amount(self._baseline_usd)))

    async def _ask_costs(self) -> None:
        """So that a crash does not lose what was spent: Claude itself writes its total down only when it ends."""
        while True:
            await self._spoke.wait()
            await asyncio.sleep(COST_PAUSE_S)
            self._spoke.clear()
            try:
                self._costs(self._since_baseline(await self._claude.total_cost_usd()))
            except ClaudeDied:
                return

    async def _stop(self, *, gently: bool) -> None:
        if self._held and not self._is_in_turn and not self._finished.done():
            self._finished.set_exception(ClaudeDied("only commands in the background were left"))
            return
        if gently:
            with contextlib.suppress(ClaudeDied):
                await self._claude.interrupt()
                await asyncio.wait({self._finished}, timeout=ANSWER_S)
        if not self._finished.done():
            self._claude.kill(signal.SIGTERM)
            await asyncio.wait({self._finished}, timeout=TERM_S)
        if not self._finished.done():
            self._claude.kill(signal.SIGKILL)


def _waits_for(telling: Telling) -> tuple[object, ...]:
    """What must be over before the task is."""
    return telling.background, telling.owes_turn
