"""One attempt at a task: one Claude process, from its start to its last word."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from komputer.events.types import Event
from komputer.runtime.claude import Claude, ClaudeDied
from komputer.runtime.ending import Asked, Outcome, together
from komputer.runtime.ledger import Heard
from komputer.runtime.plan import Start
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
    """`run` once; `stop` at any time. `tells` gets each event as it happens, `steps` is called whenever a tool has
    answered, `costs` gets what the session has cost since the attempt began, in US dollars."""

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
    ) -> None:
        self.asked: Asked | None = None
        self._claude = claude
        self._telling = Telling(task_id=task_id)
        self._stall_s = stall_s
        self._heard_at = heard_at
        self._tells, self._steps, self._costs = tells, steps, costs
        self._given = set[str]()
        self._unanswered = set[str]()
        """Messages of which no result has told yet."""
        self._has_prompt = asyncio.Event()
        self._results: list[ResultMessage] = []
        self._spoke = asyncio.Event()
        self._last_word_s = 0.0
        self._baseline_usd = 0.0
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

    async def run(self, start: Start) -> Outcome:
        """Give the prompt and what was said since, and follow until all of it is answered. Never raises for Claude's
        sake; call `close` afterwards."""
        assert self._reading is not None
        self._last_word_s = asyncio.get_running_loop().time()
        beside = [asyncio.create_task(self._watch()), asyncio.create_task(self._ask_costs())]
        try:
            try:
                await self._give(start.prompt, start.prompt_uuid)
                for heard in start.messages:
                    await self._give(heard.content, heard.uuid)
            finally:
                self._has_prompt.set()
            await asyncio.shield(self._reading)
        except ClaudeDied as error:
            return Outcome(died=str(error), api_error=self._telling.api_error)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
        result = together(self._results)
        self._costs(max(0.0, (result.total_cost_usd or 0.0) - self._baseline_usd))
        return Outcome(
            result=result,
            api_error=self._telling.api_error,
            last_usage=self._telling.usage,
            is_answered=not self._unanswered,
            compact_error=self._telling.compact_error,
        )

    async def say(self, heard: Heard) -> bool:
        """Give what somebody said to the running task. False where the attempt is over: then Claude did not get it, or
        will not answer it."""
        await self._has_prompt.wait()
        if self._reading is None or self._reading.done():
            return False
        try:
            await self._give(heard.content, heard.uuid)
        except ClaudeDied:
            return False
        return True

    async def _give(self, text: str, uuid: str) -> None:
        self._given.add(uuid)
        self._unanswered.add(uuid)
        await self._claude.give(text, uuid)

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
        if self._reading and not self._reading.done() and self._given:
            self._claude.kill(signal.SIGTERM)
            await asyncio.wait({self._reading}, timeout=TERM_S)
            self._claude.kill(signal.SIGKILL)
        await self._claude.close()
        if self._reading:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        """Always drains: an SDK that nobody reads answers no interrupt."""
        from claude_agent_sdk import ResultMessage

        async for message in self._claude.messages():
            self._last_word_s = asyncio.get_running_loop().time()
            self._spoke.set()
            before, (self._telling, events) = self._telling, tell(self._telling, message, time.monotonic())
            for event in events:
                self._tells(event)
            if self._telling.steps != before.steps:
                self._steps()
            if isinstance(message, ResultMessage) and self._is_last(message):
                return
        raise ClaudeDied("Claude ended without a result")

    def _is_last(self, result: ResultMessage) -> bool:
        """Whether nothing is to be awaited behind this result. What is said while a tool runs is answered in the same
        turn; what is said while the model speaks has a turn and a result of its own. So have turns that Claude begins
        by itself, when a background command ends."""
        told = set(result.user_message_uuids or ())
        if told and not told & self._given:
            return False
        if not told and result.origin is not None and result.origin["kind"] == "task-notification":
            return False
        self._results.append(result)
        self._unanswered -= told or set(self._unanswered)
        return not self._unanswered or result.is_error or self.asked is not None

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
