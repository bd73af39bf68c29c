"""Consumer groups: each event goes to one member of a group, at least once.

A group is a Redis consumer group of the agent's stream. So it is shared by all processes, and deleted with the agent's
keys. A member must confirm the events that it gets. When it leaves, it hands back those that it has not confirmed; if
its process crashes, other members claim them after `CLAIM_AFTER_S`. Retention removes events even if a group has not
got them yet.
"""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final
from uuid import uuid4

from redis.exceptions import ResponseError

from komputer.domain.errors import Invalid, KomputerError, Unavailable
from komputer.domain.event_ids import id_of, micros_near
from komputer.domain.ref import ObjectRef
from komputer.events.entries import READ_FIELDS, State, rows_of
from komputer.events.follow.cursors import Cursor
from komputer.events.follow.notifier import Notifier
from komputer.events.follow.sources import Delivery, delivery, gap
from komputer.events.log import Log
from komputer.redis.connection import unavailable

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
GROUPS_LIMIT: Final = 64
"""Maximum number of groups of one agent."""
TAKE_AT_ONCE: Final = 8
"""Maximum number of events that a member gets at once, so that a free member gets the next ones."""
RENEW_S: Final = 5.0
"""Interval in seconds at which a member renews its claims, and claims events that other members have abandoned."""
CLAIM_AFTER_S: Final = 15.0
"""How long a claim is valid without a renewal, in seconds."""
CONFIRM_WITHIN_S: Final = 60.0
"""How long a member may take to confirm events, in seconds."""
FORGET_MEMBER_S: Final = 3600.0
"""Time in seconds after which an idle member without unconfirmed events is deleted."""
LEFT: Final = "left"
"""Name of the member that holds the events which others have handed back. No client has it."""
HAND_BACK: Final = """
local stream, group, name, heir, idle = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
for i = 5, #ARGV do redis.call('XACK', stream, group, ARGV[i]) end
local held = redis.call('XPENDING', stream, group, '-', '+', 1000, name)
for _, entry in ipairs(held) do redis.call('XCLAIM', stream, group, heir, 0, entry[1], 'IDLE', idle, 'JUSTID') end
redis.call('XGROUP', 'DELCONSUMER', stream, group, name)
return #held
"""
"""Acknowledges the confirmed events of a member, moves the others to `LEFT`, and deletes the member. This is one atomic
script: an event that Redis assigns to the member in between would be deleted with it."""


def checked(group: str) -> str:
    """Return `group` if it is a valid name. Raises `Invalid` for any other text."""
    if not NAME.fullmatch(group):
        raise Invalid(
            "group must be 1 to 63 letters, digits, dots, hyphens and underscores, beginning with a letter or digit",
            field="group",
        )
    return group


class Member:
    """One member of a group. Its name is random: a client that reconnects is a new member."""

    def __init__(
        self,
        log: Log,
        notifier: Notifier,
        ref: ObjectRef,
        uid: str,
        group: str,
        cursor: Cursor | None,
        *,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = uuid4().hex
        self._log, self._ref, self._uid, self._group = log, ref, uid, checked(group)
        self._redis: Any = log.server.redis
        self._stream, self._live = log.stream_and_live(ref)
        self._start = cursor
        """The position at which a new group starts; None: now."""
        self._has_joined = False
        self._gaps: list[Delivery] = []
        self._held: list[str] = []
        self._confirmed: list[str] = []
        self._claim_from = "0-0"
        self._reached = cursor or Cursor(0)
        self._end: KomputerError | None = None
        self._woken = asyncio.Event()
        self._unsubscribe = notifier.on(ref, self._woken.set)
        self._on_close = on_close

    @property
    def cursor(self) -> Cursor:
        """The newest event that this member got."""
        return self._reached

    def end_with(self, reason: KomputerError) -> None:
        """Make `take` raise `reason`."""
        self._end = reason
        self._woken.set()

    async def begin(self) -> None:
        """Set the position at which a new group starts, and create the group unless the agent has no log yet. Raises
        `Unavailable`."""
        state = await self._log.state(self._ref)
        if self._start is None:
            self._start = Cursor(state.last if state.uid == self._uid else 0)
        await self._join(state)

    async def take(self) -> list[Delivery]:
        """Wait for events, and return those that this member has to handle. Raises the reason given to `end_with`."""
        while True:
            try:
                if not self._has_joined:
                    await self._join(await self._log.state(self._ref))
                deliveries, self._gaps = self._gaps, []
                if self._has_joined:
                    deliveries += await self._next_events()
                if deliveries:
                    return deliveries
            except Unavailable as away:
                await asyncio.sleep(min(1.0, away.retry_after_s))
            if self._end:
                raise self._end
            try:
                async with asyncio.timeout(RENEW_S):
                    await self._woken.wait()
            except TimeoutError:
                continue
            self._woken.clear()

    async def confirm(self, deliveries: list[Delivery], ponged: Callable[[], Awaitable[None]] | None) -> None:
        """Confirm these events once the client has answered a ping that was sent after them. Their claims are renewed
        meanwhile. Redis gets the acknowledgement with the next read. Raises `TimeoutError` after `CONFIRM_WITHIN_S`."""
        if ponged and self._held:
            async with asyncio.timeout(CONFIRM_WITHIN_S):
                waiting = asyncio.ensure_future(ponged())
                try:
                    while not (await asyncio.wait({waiting}, timeout=RENEW_S))[0]:
                        await self._renew()
                finally:
                    waiting.cancel()
        self._confirmed += self._held
        self._held = []

    async def close(self) -> None:
        """Hand back the events that were not confirmed. If the log does not answer, other members claim them after
        `CLAIM_AFTER_S`."""
        self._unsubscribe()
        self._on_close()
        if not self._has_joined:
            return
        arguments = (self._stream, self._group, self.name, LEFT, int(CLAIM_AFTER_S * 1000), *self._confirmed)
        with contextlib.suppress(Unavailable):
            if await self._log.server.translated(lambda: self._hand_back(arguments)):
                await self._log.notify(self._ref)

    async def _hand_back(self, arguments: tuple[Any, ...]) -> int:
        try:
            return int(await self._redis.eval(HAND_BACK, 1, *arguments))
        except ResponseError:  # the group went with the agent's keys
            return 0

    async def _join(self, state: State) -> None:
        """Join the group, and create it if it is new. Do nothing before the stream has an event: Redis would create the
        key with the group, but only `append.lua` may create it."""
        if state.uid != self._uid:
            return
        start = self._start or Cursor(0)
        try:
            groups = {
                group["name"].decode(errors="replace"): group for group in await self._call(self._redis.xinfo_groups)
            }
            if self._group not in groups:
                if len(groups) >= GROUPS_LIMIT:
                    raise Invalid(f"agent {self._ref.name!r} has {GROUPS_LIMIT} groups; use one of them", field="group")
                await self._create(start)
            low = (
                micros_near(groups[self._group]["last-delivered-id"].decode()) if self._group in groups else start.base
            )
        except ResponseError as missing:
            if "no such key" in str(missing):
                return
            raise unavailable(missing) from missing
        if 0 < low < state.lost:
            self._gaps.append(gap(self._ref, low, state.lost))
        await self._delete_idle_members()
        self._has_joined = True

    async def _create(self, start: Cursor) -> None:
        try:
            await self._call(lambda stream: self._redis.xgroup_create(stream, self._group, id_of(start.base)))
        except ResponseError as exists:
            if "BUSYGROUP" not in str(exists):
                raise

    async def _delete_idle_members(self) -> None:
        members = await self._call(lambda stream: self._redis.xinfo_consumers(stream, self._group))
        for member in members:
            if member["pending"] == 0 and member["idle"] > FORGET_MEMBER_S * 1000:
                name = member["name"]
                await self._call(lambda stream, name=name: self._redis.xgroup_delconsumer(stream, self._group, name))

    async def _call(self, command: Callable[..., Awaitable[Any]]) -> Any:
        """Run a command on the stream. Raises `ResponseError` if the server refuses it, else `Unavailable`."""
        refused: list[ResponseError] = []

        async def call() -> Any:
            try:
                return await command(self._stream)
            except ResponseError as refusal:
                refused.append(refusal)

        answer = await self._log.server.translated(call)
        if refused:
            raise refused[0]
        return answer

    async def _next_events(self) -> list[Delivery]:
        """Return abandoned events of other members first, then new ones. The confirmed events are acknowledged in the
        same transaction."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hmget(self._live, READ_FIELDS)
            self._acknowledge(pipe)
            idle = int(CLAIM_AFTER_S * 1000)
            pipe.xautoclaim(self._stream, self._group, self.name, idle, start_id=self._claim_from, count=TAKE_AT_ONCE)
            pipe.xreadgroup(self._group, self.name, {self._stream: ">"}, count=TAKE_AT_ONCE)
            answers = await self._log.server.translated(lambda: pipe.execute(raise_on_error=False))
        held, claimed, read = answers[0], answers[-2], answers[-1]
        if isinstance(held, Exception):
            raise unavailable(held) from held
        if (
            self._log.observe(self._ref, held).uid != self._uid
            or isinstance(claimed, ResponseError)
            or isinstance(read, ResponseError)
        ):
            # The log or the group is gone. A new log of this agent is read from its beginning.
            self._has_joined, self._start, self._confirmed = False, Cursor(0), []
            return []
        self._confirmed = []
        self._claim_from = claimed[0].decode()
        entries = [entry for entry in claimed[1] if entry[1]] + [entry for _, new in read for entry in new]
        deliveries = [delivery(self._ref, row) for row in rows_of(entries)]
        self._held = [entry[0].decode() for entry in entries]  # also the entries that are not delivered
        if not deliveries:
            self._held, self._confirmed = [], self._held
        else:
            self._reached = Cursor(max(self._reached.base, deliveries[-1].micros))
        return deliveries

    def _acknowledge(self, pipe: Any) -> None:
        if self._confirmed:
            pipe.xack(self._stream, self._group, *self._confirmed)

    async def _renew(self) -> None:
        """Renew the claim on the events that were not confirmed yet."""
        with contextlib.suppress(Unavailable):
            await self._log.server.translated(
                lambda: self._redis.xclaim(self._stream, self._group, self.name, 0, self._held, justid=True)
            )
