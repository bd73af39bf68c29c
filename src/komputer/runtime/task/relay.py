"""Between the ledger and the gateway: hello, the assignment, the outbox in order, heartbeats."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Sequence
from typing import Final

from komputer.domain.errors import Forbidden, Invalid, KomputerError, Unavailable
from komputer.protocol import wire
from komputer.runtime.changes import Changes
from komputer.runtime.gateway_client import BACKOFF, GatewayClient, PodDismissed
from komputer.runtime.ledger import ledger as decide
from komputer.runtime.ledger.ledger import Outgoing
from komputer.runtime.ledger.store import LedgerStore

log = logging.getLogger(__name__)

BATCH_EVENTS: Final = 100
BATCH_BYTES: Final = 512 * 1024
"""Of one post; a single event may be larger. Half of what the platform takes as a body."""
REPEATED_HELLO_S: Final = 5.0
"""A hello sooner than this after another one waits a growing while: two pods of one agent must not outshout each other
as fast as the network allows."""

FORBIDDEN_S: Final = 8.0
"""A pod that the gateway does not take for the agent's for so long leaves. A second may pass until the gateway has seen
a new pod; leaving too early costs a restart of the container, no more."""


class Superseded(KomputerError):
    """The agent has another pod: this one leaves its task as it is."""

    code = "superseded"


class Relay:
    """Brings ledger and log together. `assignment` is the newest one; `changes` rings when it or the ledger moved."""

    def __init__(self, store: LedgerStore, gateway: GatewayClient, changes: Changes) -> None:
        self.assignment: wire.Assignment | None = None
        self._store = store
        self._door = gateway
        self._changes = changes
        self.is_introduced = False
        """The ledger's term is the one that the log issued last, as far as we know."""
        self._must_beat = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled. Raises `PodDismissed` when the agent is deleted, `Superseded` when it has another pod."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen())
                group.create_task(self._speak())
                group.create_task(self._beat())
        except* (PodDismissed, Superseded) as ended:
            raise ended.exceptions[0] from None

    @property
    def is_quiet(self) -> bool:
        """The log has accepted everything."""
        return not self._store.ledger.outbox

    # ---- the assignment ----

    async def _listen(self) -> None:
        async for line in self._door.assignments():
            if isinstance(line, wire.Pulse):
                if self.is_introduced and self._finds_lacking(decide.claim(self._store.ledger), line):
                    self._must_beat.set()
                continue
            if isinstance(line, wire.TaskMessage):
                self._store.save(decide.told(self._store.ledger, line))
                self._changes.ring()
                continue
            self.assignment = line
            self._take_assignment()
            self._changes.ring()

    def _take_assignment(self) -> None:
        """Before the first hello of this process nothing is taken from it: whose the workspace is, is not known."""
        if self.is_introduced and self.assignment:
            after = decide.after_assignment(self._store.ledger, self.assignment)
            if after != self._store.ledger:
                self._store.save(after)

    # ---- hello and posts, one after the other ----

    async def _speak(self) -> None:
        failures, repeated_hellos = 0, 0
        last_hello_at, forbidden_since = -math.inf, 0.0
        now = asyncio.get_running_loop().time
        while True:
            try:
                if not self.is_introduced:
                    if now() - last_hello_at < REPEATED_HELLO_S:
                        repeated_hellos += 1
                        await asyncio.sleep(BACKOFF.delay_s(repeated_hellos))
                    else:
                        repeated_hellos = 0
                    last_hello_at = now()
                    await self._hello()
                    forbidden_since = 0.0
                elif self._store.ledger.outbox:
                    await self._post()
                    failures = 0
                    continue
                else:
                    failures = 0
                await self._changes.until(lambda: not self.is_introduced or bool(self._store.ledger.outbox))
                continue
            except Invalid as error:
                log.error("the gateway refused what it will never accept", extra={"error": error.message})
            except Forbidden as error:
                log.warning("this pod is not the agent's", extra={"error": error.message})
                forbidden_since = forbidden_since or now()
                if now() - forbidden_since > FORBIDDEN_S:
                    raise Superseded(error.message) from error
            except Unavailable as error:
                log.warning("gateway not reached", extra={"error": error.message})
            failures += 1
            await asyncio.sleep(BACKOFF.delay_s(failures))

    async def _hello(self) -> None:
        welcome = await self._door.hello(decide.hello(self._store.ledger))
        await self._changes.until(lambda: self.assignment is not None)
        assert self.assignment is not None
        after = decide.after_hello(self._store.ledger, welcome, self.assignment.accounted)
        after = decide.after_assignment(after, self.assignment)
        self._store.save(after, durable=True)
        self.is_introduced = True
        self._changes.ring()
        log.info("introduced to the log", extra={"term": welcome.term, "outbox": len(after.outbox)})

    async def _post(self) -> None:
        ledger = self._store.ledger
        batch = next_batch(ledger.outbox)
        try:
            posted = await self._posted(ledger.term, [(each, decide.heard_by(ledger, each)) for each in batch])
        except Invalid as error:
            log.error("the gateway refused an event", extra={"type": batch[0].type, "error": error.message})
            self._store.save(decide.without_first(self._store.ledger, error.message))
            self.is_introduced = False
            return
        after = self._store.ledger
        for answer in posted.answers:
            after = decide.after_post(after, answer)
            if answer in decide.SAYS_HELLO_AGAIN:
                self.is_introduced = False
            if answer not in ("ok", "duplicate"):
                log.info("the log refused an event", extra={"answer": answer, "term": ledger.term})
                break
        if self.is_introduced and self.assignment:
            after = decide.after_assignment(after, self.assignment)
        self._store.save(after)

    async def _posted(self, term: int, batch: list[tuple[Outgoing, str | None]]) -> wire.Posted:
        """Where one event of several is refused as malformed, the first goes alone. Raises `Invalid` if it is that."""
        try:
            return await self._door.post(term, batch)
        except Invalid:
            if len(batch) == 1:
                raise
            return await self._door.post(term, batch[:1])

    # ---- heartbeats ----

    async def _beat(self) -> None:
        while True:
            try:
                async with asyncio.timeout(wire.HEARTBEAT_S):
                    await self._must_beat.wait()
            except TimeoutError:
                pass
            self._must_beat.clear()
            if not self.is_introduced:
                continue
            claimed = decide.claim(self._store.ledger)
            try:
                pulse = await self._door.heartbeat(wire.Heartbeat(term=claimed.term, tasks=list(claimed.owed)))
            except (Unavailable, Forbidden, Invalid) as error:
                log.warning("heartbeat not answered", extra={"error": error.message})
                continue
            if self._finds_lacking(claimed, pulse) and claimed.term == self._store.ledger.term:
                log.warning("the log lacks what it had taken", extra={"term": claimed.term, "taken": pulse.taken})
                self.is_introduced = False
                self._changes.ring()

    def _finds_lacking(self, claimed: decide.Claim, pulse: wire.Pulse) -> bool:
        return decide.lacks(claimed, pulse, self.assignment.accounted if self.assignment else ())


def next_batch(outbox: Sequence[Outgoing]) -> list[Outgoing]:
    """The first entries, as many as one post may hold, at least one."""
    batch: list[Outgoing] = []
    size = 0
    for entry in outbox[:BATCH_EVENTS]:
        size += len(json.dumps(entry.payload))
        if batch and size > BATCH_BYTES:
            break
        batch.append(entry)
    return batch
