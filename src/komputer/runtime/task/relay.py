"""Keeps the ledger and the log in agreement: hello, assignments, the outbox in order, heartbeats."""

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
from komputer.runtime.ledger import rules
from komputer.runtime.ledger.ledger import Claim, Outgoing
from komputer.runtime.ledger.store import LedgerStore

log = logging.getLogger(__name__)

BATCH_EVENTS: Final = 100
BATCH_BYTES: Final = 512 * 1024
"""The largest size of one post with several events; a single event may be larger. An eighth of the gateway's limit."""
REPEATED_HELLO_S: Final = 5.0
"""A hello within this time after another one is delayed, by a delay that grows. Otherwise two pods of one agent would
fence each other as fast as the network allows."""

FORBIDDEN_S: Final = 8.0
"""How long the gateway may refuse this pod before the runtime exits. A gateway may take a second until it knows a new
pod. To exit too early only costs a restart of the container."""


class Superseded(KomputerError):
    """The agent has another pod, which continues the task of this runtime."""

    code = "superseded"


class Relay:
    """Exchanges state between ledger and gateway. `assignment` is the newest assignment. `changes` is notified when it
    or the ledger changes."""

    def __init__(self, store: LedgerStore, gateway: GatewayClient, changes: Changes) -> None:
        self.assignment: wire.Assignment | None = None
        self._store = store
        self._gateway = gateway
        self._changes = changes
        self.is_introduced = False
        """Whether the ledger's term is the newest one of the log, as far as the runtime knows. If not, `_send_outbox`
        says hello before it posts."""
        self._must_send_heartbeat = asyncio.Event()

    async def run(self) -> None:
        """Run until cancelled. Raises `PodDismissed` if the agent is deleted, `Superseded` if it has another pod."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._receive_assignments())
                group.create_task(self._send_outbox())
                group.create_task(self._send_heartbeats())
        except* (PodDismissed, Superseded) as ended:
            raise ended.exceptions[0] from None

    @property
    def is_quiet(self) -> bool:
        """Whether the log has accepted every event."""
        return not self._store.ledger.outbox

    # ---- the assignment ----

    async def _receive_assignments(self) -> None:
        async for line in self._gateway.assignments():
            if isinstance(line, wire.Pulse):
                if self.is_introduced and self._log_lacks(rules.claim(self._store.ledger), line):
                    self._must_send_heartbeat.set()
                continue
            if isinstance(line, wire.TaskMessage):
                self._store.save(rules.with_message(self._store.ledger, line))
                self._changes.notify()
                continue
            self.assignment = line
            self._apply_assignment()
            self._changes.notify()

    def _apply_assignment(self) -> None:
        """Apply the newest assignment to the ledger. Nothing is applied before the first hello, which shows whether the
        ledger is this agent's."""
        if self.is_introduced and self.assignment:
            after = rules.after_assignment(self._store.ledger, self.assignment)
            if after != self._store.ledger:
                self._store.save(after)

    # ---- hello and posts, one after the other ----

    async def _send_outbox(self) -> None:
        """Say hello whenever `is_introduced` is false, and post the outbox otherwise. Hellos and posts are never
        concurrent, since a hello numbers the outbox again. Raises `Superseded` after `FORBIDDEN_S` of refusals."""
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
                log.error("gateway refused a request for good", extra={"error": error.message})
            except Forbidden as error:
                log.warning("pod is not the agent's current one", extra={"error": error.message})
                forbidden_since = forbidden_since or now()
                if now() - forbidden_since > FORBIDDEN_S:
                    raise Superseded(error.message) from error
            except Unavailable as error:
                log.warning("gateway not reachable", extra={"error": error.message})
            failures += 1
            await asyncio.sleep(BACKOFF.delay_s(failures))

    async def _hello(self) -> None:
        """Get a new term. The first assignment is awaited, since it says which ends the agent's status counts. The
        ledger with the term is on the disk before anything is posted under it."""
        welcome = await self._gateway.hello(rules.hello(self._store.ledger))
        await self._changes.until(lambda: self.assignment is not None)
        assert self.assignment is not None
        after = rules.after_hello(self._store.ledger, welcome, self.assignment.accounted)
        after = rules.after_assignment(after, self.assignment)
        self._store.save(after, durable=True)
        self.is_introduced = True
        self._changes.notify()
        log.info("introduced to the log", extra={"term": welcome.term, "outbox": len(after.outbox)})

    async def _post(self) -> None:
        """Post the first entries of the outbox, and apply the answers in order up to the first refusal: the log has not
        accepted the entries after that. They are applied to the ledger as it is after the post, since events may have
        been added meanwhile."""
        ledger = self._store.ledger
        batch = next_batch(ledger.outbox)
        try:
            posted = await self._posted(ledger.term, [(each, rules.acked_by(ledger, each)) for each in batch])
        except Invalid as error:
            log.error("gateway refused an event", extra={"type": batch[0].type, "error": error.message})
            self._store.save(rules.without_first(self._store.ledger, error.message))
            self.is_introduced = False
            return
        after = self._store.ledger
        for answer in posted.answers:
            after = rules.after_post(after, answer)
            if answer in rules.REQUIRES_HELLO:
                self.is_introduced = False
            if answer not in ("ok", "duplicate"):
                log.info("log refused an event", extra={"answer": answer, "term": ledger.term})
                break
        if self.is_introduced and self.assignment:
            after = rules.after_assignment(after, self.assignment)
        self._store.save(after)

    async def _posted(self, term: int, batch: list[tuple[Outgoing, str | None]]) -> wire.Posted:
        """Send a batch. If one of its events is refused as malformed, send only the first one. Raises `Invalid` if that
        is the malformed one."""
        try:
            return await self._gateway.post(term, batch)
        except Invalid:
            if len(batch) == 1:
                raise
            return await self._gateway.post(term, batch[:1])

    # ---- heartbeats ----

    async def _send_heartbeats(self) -> None:
        """Send a heartbeat every `wire.HEARTBEAT_S`, and at once if the assignment stream shows that the log may have
        lost events. If the answer confirms a loss, and no hello has changed the term since the request, say hello."""
        while True:
            try:
                async with asyncio.timeout(wire.HEARTBEAT_S):
                    await self._must_send_heartbeat.wait()
            except TimeoutError:
                pass
            self._must_send_heartbeat.clear()
            if not self.is_introduced:
                continue
            claimed = rules.claim(self._store.ledger)
            try:
                pulse = await self._gateway.heartbeat(wire.Heartbeat(term=claimed.term, tasks=list(claimed.owed)))
            except (Unavailable, Forbidden, Invalid) as error:
                log.warning("heartbeat not answered", extra={"error": error.message})
                continue
            if self._log_lacks(claimed, pulse) and claimed.term == self._store.ledger.term:
                log.warning("log has lost events", extra={"term": claimed.term, "last_seq": pulse.last_seq})
                self.is_introduced = False
                self._changes.notify()

    def _log_lacks(self, claimed: Claim, pulse: wire.Pulse) -> bool:
        return rules.lacks(claimed, pulse, self.assignment.accounted if self.assignment else ())


def next_batch(outbox: Sequence[Outgoing]) -> list[Outgoing]:
    """Return the first entries of the outbox: as many as fit into one post, but at least one."""
    batch: list[Outgoing] = []
    size = 0
    for entry in outbox[:BATCH_EVENTS]:
        size += len(json.dumps(entry.payload))
        if batch and size > BATCH_BYTES:
            break
        batch.append(entry)
    return batch
