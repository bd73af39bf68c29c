"""The last known health of connectors' servers: one small hash in Redis for each connector.

A program that calls a server records the result, and the API shows it. No decision depends on it. It may be lost; then
the health is unknown until the next call.
"""

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, Literal, NamedTuple

from komputer.domain.event_ids import id_of, timestamp_of
from komputer.domain.ref import ObjectRef
from komputer.redis.connection import RedisConnection, is_damaged

KEPT: Final = timedelta(days=7)
SAME_EVERY_S: Final = 30.0
"""Minimum interval, in seconds, at which one process records an unchanged result."""

State = Literal["ok", "failed"]


class HealthRecord(NamedTuple):
    """The result of the last call. `code` and `reason` describe the failure; both are empty if it worked."""

    state: State
    at: str
    code: str = ""
    reason: str = ""


class ConnectorHealth:
    """The health of the connectors of one platform. Records of an earlier connector of the same name, with another uid,
    are ignored."""

    def __init__(self, server: RedisConnection, prefix: str) -> None:
        self._server = server
        self._prefix = prefix
        self._recorded: dict[ObjectRef, tuple[str, str, float]] = {}

    async def note(self, ref: ObjectRef, uid: str, code: str = "", reason: str = "") -> None:
        """Record the result of a call. An empty `code` means success. An unchanged result is recorded every
        `SAME_EVERY_S` only. Raises `Unavailable`."""
        now = time.monotonic()
        known = self._recorded.get(ref)
        if known and known[:2] == (uid, code) and now < known[2]:
            return
        fields = {
            "uid": uid,
            "state": "failed" if code else "ok",
            "code": code,
            "reason": reason,
            "at": timestamp_of(id_of(time.time_ns() // 1000)),
        }

        async def write() -> None:
            async with self._server.redis.pipeline(transaction=True) as both:
                both.hset(self._key(ref), mapping=fields)
                both.expire(self._key(ref), int(KEPT.total_seconds()))
                await both.execute()

        await self._server.translated(write)
        if len(self._recorded) > 10_000:
            self._recorded.clear()
        self._recorded[ref] = (uid, code, now + SAME_EVERY_S)

    async def forget(self, ref: ObjectRef) -> None:
        """Delete the record of a connector that was changed or deleted. Raises `Unavailable`."""
        self._recorded.pop(ref, None)
        await self._server.translated(lambda: self._server.redis.delete(self._key(ref)))

    async def read(self, connectors: Sequence[tuple[ObjectRef, str]]) -> dict[ObjectRef, HealthRecord]:
        """Return the records of the connectors that have one, with these uids, in one round trip. Raises
        `Unavailable`."""
        if not connectors:
            return {}

        async def ask() -> list[Any]:
            async with self._server.redis.pipeline(transaction=False) as all_of_them:
                for ref, _ in connectors:
                    all_of_them.hmget(self._key(ref), "uid", "state", "at", "code", "reason")
                answers: list[Any] = await all_of_them.execute(raise_on_error=False)
                return answers

        found = {}
        for (ref, uid), answer in zip(connectors, await self._server.translated(ask), strict=True):
            if is_damaged(answer):
                continue
            recorded_uid, state, at, code, reason = ((text or b"").decode(errors="replace") for text in answer)
            if recorded_uid == uid and state in ("ok", "failed"):
                found[ref] = HealthRecord("ok" if state == "ok" else "failed", at, code, reason)
        return found

    def _key(self, ref: ObjectRef) -> str:
        return f"{self._prefix}-connector:{ref.namespace}:{ref.name}"
