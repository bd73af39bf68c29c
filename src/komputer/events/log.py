"""The log of each agent: one stream, one hash with the live state, and the rules by which events are accepted.

Only `append.lua` writes events. For each event it answers atomically with the first of these that applies: `fenced`
(the term is not the one issued last, or the log belongs to another uid), `duplicate` (the number was accepted before),
`gap` (not the next number), `ended` (the task has ended), `started` (a start of a started task), `stale` (a start of an
older generation than that of an earlier event), `unacknowledged` (an end before the model has answered the last message
to the task), else `ok`. Starts, ends and messages are answered when they are on the server's disk
(`redis.connection.Durability`).
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from komputer.domain.errors import Conflict
from komputer.domain.event_ids import micros_of
from komputer.domain.ref import ObjectRef
from komputer.events import schema
from komputer.events.entries import (
    Live,
    LogEntry,
    LogKey,
    LogPage,
    MessageId,
    Numbered,
    answers_of,
    fields_of,
    texts_of,
)
from komputer.events.follow.notifier import EVERYTHING, LENGTH
from komputer.events.reading import LogReader
from komputer.events.scripts import APPEND
from komputer.protocol.wire import AppendResult, Pulse, Welcome
from komputer.redis.address import Address
from komputer.redis.connection import Durability, RedisConnection
from komputer.redis.connector_health import ConnectorHealth
from komputer.redis.idempotency import Idempotency
from komputer.redis.presence import Presence

__all__ = [
    "EVERYTHING",
    "EXPIRY",
    "RETENTION",
    "RETENTION_BYTES",
    "Live",
    "Log",
    "LogEntry",
    "LogKey",
    "LogPage",
    "MessageId",
    "Numbered",
]

RETENTION: Final = 10_000
"""Maximum number of events that are kept of one agent."""
RETENTION_BYTES: Final = 32 * 1024 * 1024
"""Maximum size of the events of one agent in bytes: for each event its type, its payload and 128 bytes for what the
server adds. An allocator that rounds up takes up to 1.2 times as much memory (measured: Valkey 9.1, Redis 7.0)."""
EXPIRY: Final = timedelta(days=30)
"""A log expires this long after its last write. The tombstones of deleted agents are kept as long."""
_TERM_LIMIT: Final = 2**52
"""A larger term from a runtime is read as 0. The numbers of Lua are exact up to 2**53 only."""


class Log(LogReader):
    """The logs of all agents on one server, for reading and writing. All methods raise `Unavailable`
    (`log_unavailable`) while the server does not answer."""

    def __init__(
        self,
        server: RedisConnection,
        *,
        prefix: str,
        retention: int,
        expiry: timedelta,
        retention_bytes: int = RETENTION_BYTES,
    ) -> None:
        super().__init__(server, prefix)
        self._retention = retention
        self._retention_bytes = retention_bytes
        self._expiry_s = int(expiry.total_seconds())

    @classmethod
    def connect(
        cls,
        where: Address | str,
        *,
        prefix: str = "komputer-events",
        retention: int = RETENTION,
        retention_bytes: int = RETENTION_BYTES,
        expiry: timedelta = EXPIRY,
    ) -> "Log":
        """Return a log, which connects at its first use. A text is an address without a password file. Raises `Invalid`
        (`redis_address`)."""
        address = Address(where) if isinstance(where, str) else where
        return cls(
            RedisConnection(address), prefix=prefix, retention=retention, retention_bytes=retention_bytes, expiry=expiry
        )

    async def close(self) -> None:
        await self.server.close()

    async def ping(self) -> None:
        await self.server.translated(lambda: self.server.redis.execute_command("PING"))

    def requests(self) -> Idempotency:
        """Return the records of idempotent requests, on the same server."""
        return Idempotency(self.server, self._prefix)

    @property
    def durability(self) -> Durability | None:
        """How writes reach the disk; None before the first one."""
        return self.server.durability

    # ---- writes by the runtime and the API --------------------------------------------------------------------------
    async def hello(self, key: LogKey, *, old_term: int, asked: Sequence[str], floor: str | None) -> Welcome:
        """Issue a new term, greater than any before. From now on only events of this term are accepted.

        The log now belongs to this uid; calls with the uid that it belonged to before are refused. `asked` are the
        tasks of the runtime's ledger. `floor` is `status.lastEventID`: a log that ends before it has lost events, and
        new ids are greater than it. Raises `Conflict` (`fenced`) for the uid of a deleted agent.
        """
        known_term = old_term if 0 <= old_term < _TERM_LIMIT else 0
        answer = await self._call("hello", key, floor, known_term, *asked, durable=bool(known_term or asked))
        if answer[0] == b"fenced":
            raise Conflict(f"agent {key.ref} with uid {key.uid} is gone", code="fenced")
        _, term, taken, started, ended, still_open = answer
        return Welcome(
            uid=key.uid,
            term=int(term),
            last_seq=taken,
            started=texts_of(started),
            ended=texts_of(ended),
            open=texts_of(still_open),
        )

    async def append(
        self, key: LogKey, term: int, events: Sequence[Numbered], *, floor: str | None = None
    ) -> list[AppendResult]:
        """Append events and return one result for each, in order. Events after the first refusal are not processed and
        have no result. This takes one round trip and is safe to repeat."""
        fields = [part for numbered in events for part in fields_of(*numbered)]
        is_durable = any(isinstance(each.event, schema.TaskStarted | schema.End) for each in events)
        return answers_of(await self._call("append", key, floor, term, *fields, durable=is_durable))

    async def end(
        self, key: LogKey, event: schema.End, *, generation: int, floor: str | None, unless_started: bool = False
    ) -> AppendResult:
        """Append the end of a task on behalf of the operator: neither term nor sequence number is checked. With
        `unless_started`, the result for a task that has started is `started`, and nothing is appended."""
        fields = fields_of(0, event, generation)
        answer = await self._call("end", key, floor, "1" if unless_started else "0", *fields, durable=True)
        return answers_of(answer)[0]

    async def message(self, key: LogKey, task_id: str, content: str, request: str | None = None) -> MessageId | None:
        """Append a message to the running task. Returns None if the task has not started or has ended. A repeated
        `request` appends nothing and returns the first result, until another task starts. Raises `Conflict`
        (`too_many_messages`) beyond 1000 messages or 4 MiB for one task."""
        event = schema.UserMessage(task_id=task_id, content=content, steer=True)
        answer = await self._call("message", key, None, *fields_of(0, event, None), request or "", durable=True)
        if answer[0] == b"full":
            raise Conflict(
                f"the task of agent {key.name!r} has got as many messages as a task may: 1000, or 4 MiB of them; "
                "wait for its end or cancel it",
                code="too_many_messages",
            )
        return MessageId(*texts_of(answer[1:])) if answer[0] == b"ok" else None

    async def pulse(self, key: LogKey, term: int, asked: Sequence[str]) -> Pulse:
        """Return the last number that was accepted under `term` and those of the tasks `asked` that have ended, and
        record a sign of life of the runtime.

        Term 0 in the result: the log does not belong to this uid, and the runtime must say hello. With term 0 as the
        argument, the number is that of the newest term, and no sign of life is recorded.
        """
        current, taken, ended = await self._call("pulse", key, None, term, *asked)
        return Pulse(term=int(current), last_seq=taken, ended=texts_of(ended))

    async def notify(self, ref: ObjectRef) -> None:
        """Notify the followers of this log, in all processes, although it has no new event."""
        fields = {"k": str(ref)}
        await self.server.translated(
            lambda: self.server.redis.xadd(self._prefix + "-bell", fields, maxlen=LENGTH, approximate=True)
        )

    def health(self) -> ConnectorHealth:
        """Return the health of the connectors' servers, on the same server."""
        return ConnectorHealth(self.server, self._prefix)

    def gateways(self) -> Presence:
        """Return the presence of gateways, on the same server."""
        return Presence(self.server, self._prefix)

    # ---- writes by the operator -------------------------------------------------------------------------------------
    async def trim_ends(self, key: LogKey, upto_id: str) -> None:
        """Delete the ends up to and including this one, which the status accounts for now."""
        await self._call("trim", key, None, micros_of(upto_id))

    async def purge(self, key: LogKey) -> None:
        """Delete the keys of a deleted agent, unless they belong to another uid, and reject its uid from now on."""
        await self._call("purge", key, None)

    async def _call(
        self, op: str, key: LogKey, floor: str | None, *args: str | bytes | int, durable: bool = False
    ) -> Any:
        kinds = ("-live", "", "-ends", "-started", "-ended", "-terms", "-messages")
        keys = [self._ranges.key(kind, key.ref) for kind in kinds]
        shared = [f"{self._prefix}-bell", f"{self._prefix}-dead"]
        lowest = micros_of(floor) if floor else 0
        head: list[str | bytes | int] = [op, key.uid, str(key.ref), lowest]
        head += [self._retention, self._retention_bytes, self._expiry_s]
        return await self.server.run(APPEND, keys + shared, [*head, *args], durable=durable)
