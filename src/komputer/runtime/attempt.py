"""One attempt at a task: one Claude process, from its start to its last word."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from komputer.background import retried
from komputer.events.types import Compaction, Event
from komputer.runtime.claude import Claude, ClaudeDied
from komputer.runtime.ending import Asked, Outcome
from komputer.runtime.translate import Telling, tell

if TYPE_CHECKING:
    from claude_agent_sdk import ResultMessage

log = logging.getLogger(__name__)

ANSWER_S: Final = 4.0
"""How long Claude's result may take after an interrupt; it takes some 25 ms. Then SIGTERM."""
TERM_S: Final = 4.0
"""How long Claude may take to end its commands after SIGTERM; 2 to 3 s. Then SIGKILL."""
COST_PAUSE_S: Final = 0.25
"""Costs are asked for at most so often, and so long after Claude's last word."""


class Attempt:
    """`run` once; `say` while it runs; `stop` at any time. `tells` gets each event as it happens, `steps` is called
    whenever a tool has answered, `costs` gets what the session has cost since the attempt began, in US dollars.
    `answers` is called when the model has answered; `is_asked` tells whether there is more to be said to it."""

    def __init__(
        self,
        claude: Claude,
        task_id: str,
        *,
        stall_s: float,
        heard_at: Callable[[], float],
        tells: Callable[[Event], None],
        steps: Callable[[], None],
        costs: Callable[[float], None],
        answers: Callable[[], None],
        is_asked: Callable[[], bool],
    ) -> None:
        self.asked: Asked | None = None
        self._claude = claude
        self._telling = Telling(task_id=task_id)
        self._stall_s = stall_s
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
        self._reading: asyncio.Task[ResultMessage] | None = None
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
        assert self._reading is not None
        self._noted(uuid)
        beside = [
            asyncio.create_task(retried("watch for silence", self._watch)),
            asyncio.create_task(retried("reading of costs", self._ask_costs)),
        ]
        try:
            await self._claude.give(prompt, uuid)
            self._is_begun.set()
            result = await asyncio.shield(self._reading)
        except ClaudeDied as error:
            return Outcome(died=str(error), api_error=self._telling.api_error)
        finally:
            self._is_begun.set()
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
        self._costs(max(0.0, (result.total_cost_usd or 0.0) - self._baseline_usd))
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

    def stop(self, asked: Asked) -> None:
        """End the attempt: interrupt, then SIGTERM, then SIGKILL, each after its time. The first reason stays."""
        if self.asked is None:
            self.asked = asked
            self._stopping = asyncio.create_task(self._stop(gently=asked is not Asked.DROP))

    async def close(self) -> None:
        """End the process, whatever it does."""
        if self._stopping:
            self._stopping.cancel()
            await asyncio.gather(self._stopping, return_exceptions=True)
        if self._reading and not self._reading.done() and self._said:
            self._claude.kill(signal.SIGTERM)
            await asyncio.wait({self._reading}, timeout=TERM_S)
            self._claude.kill(signal.SIGKILL)
        await self._claude.close()
        if self._reading:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> ResultMessage:
        """Always drains: an SDK that nobody reads answers no interrupt."""
        from claude_agent_sdk import ResultMessage

        async for message in self._claude.messages():
            self._last_word_s = asyncio.get_running_loop().time()
            self._spoke.set()
            before, (self._telling, events) = self._telling, tell(self._telling, message, time.monotonic())
            for event in events:
                self._was_compacted = self._was_compacted or isinstance(event, Compaction)
                self._tells(event)
            if self._telling.steps != before.steps:
                self._steps()
            if isinstance(message, ResultMessage) and self._is_ours(message):
                self._turns += max(0, message.num_turns)
                self.waiting -= set(message.user_message_uuids or self.waiting)
                self._answers()
                if self.asked or not (self.waiting or self._is_asked()):
                    return message
        raise ClaudeDied("Claude ended without a result")

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
            if self._telling.calls:
                last = now()
            if (left := last + self._stall_s - now()) <= 0:
                log.warning("the model is silent", extra={"task": self._telling.task_id, "seconds": self._stall_s})
                self.stop(Asked.STALL)
                return
            await asyncio.sleep(min(left, self._stall_s / 4) + 0.01)

    async def _ask_costs(self) -> None:
        """So that a crash does not lose what was spent: Claude itself writes its total down only when it ends."""
        while True:
            await self._spoke.wait()
            await asyncio.sleep(COST_PAUSE_S)
            self._spoke.clear()
            try:
                self._costs(max(0.0, await self._claude.total_cost_usd() - self._baseline_usd))
            except ClaudeDied:
                return

    async def _stop(self, *, gently: bool) -> None:
        assert self._reading is not None
        if gently:
            with contextlib.suppress(ClaudeDied):
                await self._claude.interrupt()
                await asyncio.wait({self._reading}, timeout=ANSWER_S)
        if not self._reading.done():
            self._claude.kill(signal.SIGTERM)
            await asyncio.wait({self._reading}, timeout=TERM_S)
        if not self._reading.done():
            self._claude.kill(signal.SIGKILL)
