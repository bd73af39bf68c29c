"""Consumer groups: of all who follow an agent under one group's name, each event goes to one, at least once.

A group is a consumer group of the agent's stream, so it is the same for every process, and it goes with the agent's
keys. What a member was given it must confirm. A member that leaves hands back what it did not; what one left behind
whose process died is taken over when it was not heard of for `CLAIM_AFTER_S`. Retention does not wait for a group.
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
from komputer.events.follow.sources import Delivery, gap, one
from komputer.events.log import Log
from komputer.redis.connection import unavailable

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
GROUPS: Final = 64
"""Of one agent."""
TAKE_AT_ONCE: Final = 8
"""Events that a member is given at once: the next are for whoever is free."""
RENEW_S: Final = 5.0
"""How often a member that is at work says so, and looks for what others left behind."""
CLAIM_AFTER_S: Final = 15.0
CONFIRM_WITHIN_S: Final = 60.0
"""How long a member may take for what it was given."""
FORGET_MEMBER_S: Final = 3600.0
"""Without a sign of life and with nothing in hand."""
LEFT: Final = "left"
"""Holds what members that are gone handed back."""
HAND_BACK: Final = """
local stream, group, name, heir, idle = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
for i = 5, #ARGV do redis.call('XACK', stream, group, ARGV[i]) end
local held = redis.call('XPENDING', stream, group, '-', '+', 1000, name)
for _, entry in ipairs(held) do redis.call('XCLAIM', stream, group, heir, 0, entry[1], 'IDLE', idle, 'JUSTID') end
redis.call('XGROUP', 'DELCONSUMER', stream, group, name)
return #held
"""
"""In one step: an event that this member is being given right now is not to be lost with its name."""


def checked(group: str) -> str:
    """Raises `Invalid` for what is no name of a group."""
    if not NAME.fullmatch(group):
        raise Invalid(
            "group must be 1 to 63 letters, digits, dots, hyphens and underscores, beginning with a letter or digit",
            field="group",
        )
    return group


class Member:
    """One member of a group. Its name is its own: a member that comes back is a new one."""

    def __init__(
        self,
        log: Log,
        notifier: Notifier,
        ref: ObjectRef,
        uid: str,
        group: str,
        cursor: Cursor | None,
        *,
        left: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = uuid4().hex
        self._log, self._ref, self._uid, self._group = log, ref, uid, checked(group)
        self._redis: Any = log.server.redis
        self._stream, self._live = log.stream_and_live(ref)
        self._start = cursor
        """Of a group that is new; None: now."""
        self._has_joined = False
        self._gaps: list[Delivery] = []
        self._held: list[str] = []
        self._confirmed: list[str] = []
        self._claim_from = "0-0"
        self._reached = cursor or Cursor(0)
        self._end: KomputerError | None = None
        self._woken = asyncio.Event()
        self._unsubscribe = notifier.on(ref, self._woken.set)
        self._left = left

    @property
    def cursor(self) -> Cursor:
        return self._reached

    def end_with(self, reason: KomputerError) -> None:
        self._end = reason
        self._woken.set()

    async def begin(self) -> None:
        """The group exists from here on, also for an agent that has no log yet."""
        state = await self._log.state(self._ref)
        if self._start is None:
            self._start = Cursor(state.last if state.uid == self._uid else 0)
        await self._join(state)

    async def take(self) -> list[Delivery]:
        """What this member is to handle; waits for it. Raises `Ended`."""
        while True:
            try:
                if not self._has_joined:
                    await self._join(await self._log.state(self._ref))
                deliveries, self._gaps = self._gaps, []
                if self._has_joined:
                    deliveries += await self._given()
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
        """The client has got them when it has answered a ping that was sent behind them. Raises `TimeoutError`."""
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
        """Hand back what was not confirmed, to whoever is there. Where the log is away it is claimed after a while."""
        self._unsubscribe()
        self._left()
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
        """Makes the group where it is new. Not before the stream has an event: it would not be the log's then."""
        if state.uid != self._uid:
            return
        start = self._start or Cursor(0)
        try:
            groups = {
                group["name"].decode(errors="replace"): group for group in await self._call(self._redis.xinfo_groups)
            }
            if self._group not in groups:
                if len(groups) >= GROUPS:
                    raise Invalid(f"agent {self._ref.name!r} has {GROUPS} groups; use one of them", field="group")
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
        await self._forget_the_dead()
        self._has_joined = True

    async def _create(self, start: Cursor) -> None:
        try:
            await self._call(lambda stream: self._redis.xgroup_create(stream, self._group, id_of(start.base)))
        except ResponseError as exists:
            if "BUSYGROUP" not in str(exists):
                raise

    async def _forget_the_dead(self) -> None:
        members = await self._call(lambda stream: self._redis.xinfo_consumers(stream, self._group))
        for member in members:
            if member["pending"] == 0 and member["idle"] > FORGET_MEMBER_S * 1000:
                name = member["name"]
                await self._call(lambda stream, name=name: self._redis.xgroup_delconsumer(stream, self._group, name))

    async def _call(self, command: Callable[..., Awaitable[Any]]) -> Any:
        """`command` of the stream. Raises `ResponseError` for what the server refuses, `Unavailable` else."""
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

    async def _given(self) -> list[Delivery]:
        """First what others left behind, then what is new; in the same step what was confirmed is acknowledged."""
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
            self._log.saw(self._ref, held).uid != self._uid
            or isinstance(claimed, ResponseError)
            or isinstance(read, ResponseError)
        ):
            self._has_joined, self._start, self._confirmed = False, Cursor(0), []
            return []
        self._confirmed = []
        self._claim_from = claimed[0].decode()
        entries = [entry for entry in claimed[1] if entry[1]] + [entry for _, new in read for entry in new]
        deliveries = [one(self._ref, row) for row in rows_of(entries)]
        self._held = [entry[0].decode() for entry in entries]  # also those that no reader is told of
        if not deliveries:
            self._held, self._confirmed = [], self._held
        else:
            self._reached = Cursor(max(self._reached.base, deliveries[-1].micros))
        return deliveries

    def _acknowledge(self, pipe: Any) -> None:
        if self._confirmed:
            pipe.xack(self._stream, self._group, *self._confirmed)

    async def _renew(self) -> None:
        """So that nobody claims what is in this member's hands."""
        with contextlib.suppress(Unavailable):
            await self._log.server.translated(
                lambda: self._redis.xclaim(self._stream, self._group, self.name, 0, self._held, justid=True)
            )
