"""The log of each agent: one stream, one live hash, and the rules by which events get in.

`append.lua` is the only way in. It decides atomically, in this order: `fenced` (the term is not the one issued last, or
another uid holds the log), `duplicate` (the number was taken), `gap` (not the next number), `ended` (the task has
ended), `started` (a start of a started task), `stale` (a start of an older generation than one seen), `unacknowledged`
(an end before the last message to its task was answered), else `ok`. Starts, ends and messages are answered when they
are on the server's disk (`server.Durability`).
"""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import orjson
import structlog

from komputer.domain.errors import Conflict, Invalid
from komputer.domain.event_ids import micros_of, parse_position, timestamp_of
from komputer.domain.ref import ObjectRef
from komputer.events import schema
from komputer.events.entries import (
    LIVE_FIELDS,
    READ_FIELDS,
    UNREADABLE,
    Live,
    LogEntry,
    LogKey,
    MessageId,
    Numbered,
    Page,
    State,
    answers_of,
    fields_of,
    is_gone,
    live_of,
    texts_of,
    to_json,
)
from komputer.events.follow.notifier import (
    EVERYTHING,
    LENGTH,
    NotificationBatch,
    listen,
    names_an_agent,
    read_notifications,
)
from komputer.events.reading import NOBODYS, PAGE_BYTES, LogReader, OnLive, Read, above, message_of
from komputer.events.scripts import APPEND
from komputer.protocol.wire import AppendResult, Pulse, Welcome
from komputer.redis.address import Address
from komputer.redis.connection import Durability, RedisConnection, is_damaged
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
    "MessageId",
    "Numbered",
    "Page",
]

RETENTION: Final = 10_000
"""Events of one agent that are kept at most."""
RETENTION_BYTES: Final = 32 * 1024 * 1024
"""Bytes of the events of one agent that are kept at most: of each its type, its payload and 128 bytes for what the
server adds. Its memory is up to 1.2 times as much where its allocator rounds up (measured: Valkey 9.1, Redis 7.0)."""
EXPIRY: Final = timedelta(days=30)
"""A log into which nothing was written for so long is dropped; tombstones of deleted agents are, too."""
ENDS_AT_ONCE: Final = 16
"""Of one read of what is not accounted: there are more only where the operator was away for long."""
MESSAGES_AT_ONCE: Final = 16
"""Of one read: there are more only where somebody says a great deal to one task."""
_TERM_LIMIT: Final = 2**52
_NEWEST: Final = "+"
_OLDEST: Final = "-"

logger = structlog.get_logger(__name__)


class Log:
    """The logs of all agents on one server. Raises `Unavailable` (`log_unavailable`) while that does not answer."""

    def __init__(
        self,
        server: RedisConnection,
        *,
        prefix: str,
        retention: int,
        expiry: timedelta,
        retention_bytes: int = RETENTION_BYTES,
    ) -> None:
        self._server = server
        self._prefix = prefix
        self._retention = retention
        self._retention_bytes = retention_bytes
        self._reader = LogReader(server, prefix)
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
        """Connects at first use. A text is an address without password file. Raises `Invalid` (`redis_address`)."""
        address = Address(where) if isinstance(where, str) else where
        return cls(
            RedisConnection(address), prefix=prefix, retention=retention, retention_bytes=retention_bytes, expiry=expiry
        )

    async def close(self) -> None:
        await self._server.close()

    async def ping(self) -> None:
        await self._server.translated(lambda: self._server.redis.execute_command("PING"))

    def requests(self) -> Idempotency:
        """The records of requests that are to be carried out once, on the same server."""
        return Idempotency(self._server, self._prefix)

    @property
    def server(self) -> RedisConnection:
        return self._server

    @property
    def durability(self) -> Durability | None:
        """How starts and ends get to the disk; None before the first one."""
        return self._server.durability

    # ---- in --------------------------------------------------------------------------------------------------------
    async def hello(self, key: LogKey, *, old_term: int, asked: Sequence[str], floor: str | None) -> Welcome:
        """Issue a new term, greater than any before; from now on only its events are taken.

        The log becomes this uid's; one that held it before is dead. `asked` are tasks of the runtime's ledger, `floor`
        is `status.lastEventID`. Raises `Conflict` (`fenced`) for a uid that is dead.
        """
        known_term = old_term if 0 <= old_term < _TERM_LIMIT else 0
        answer = await self._call("hello", key, floor, known_term, *asked, durable=bool(known_term or asked))
        if answer[0] == b"fenced":
            raise Conflict(f"agent {key.namespace}/{key.name} with uid {key.uid} is gone", code="fenced")
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
        """One answer per event, in order; none after the first refusal. One round trip; safe to repeat."""
        fields = [part for numbered in events for part in fields_of(*numbered)]
        is_durable = any(isinstance(each.event, schema.TaskStarted | schema.End) for each in events)
        return answers_of(await self._call("append", key, floor, term, *fields, durable=is_durable))

    async def end(
        self, key: LogKey, event: schema.End, *, generation: int, floor: str | None, unless_started: bool = False
    ) -> AppendResult:
        """The operator's: no term and no number is checked. `started` with `unless_started`, for a task that has."""
        fields = fields_of(0, event, generation)
        answer = await self._call("end", key, floor, "1" if unless_started else "0", *fields, durable=True)
        return answers_of(answer)[0]

    async def message(self, key: LogKey, task_id: str, content: str, request: str | None = None) -> MessageId | None:
        """Somebody speaks to the task that runs. None where that task has not started, or its end came first. The same
        `request` again says nothing new and is answered as the first time, until another task starts. Raises `Conflict`
        (`too_many_messages`) beyond 1000 messages or 4 MiB to one task."""
        event = schema.UserMessage(task_id=task_id, content=content, steer=True)
        answer = await self._call("message", key, None, *fields_of(0, event, None), request or "", durable=True)
        if answer[0] == b"full":
            raise Conflict(
                f"the task of agent {key.name!r} has got as many messages as a task may: 1000, or 4 MiB of them; "
                "wait for its end or cancel it",
                code="too_many_messages",
            )
        return MessageId(*texts_of(answer[1:])) if answer[0] == b"ok" else None

    async def messages(self, key: LogKey, after: str | None) -> list[LogEntry]:
        """What was said to the open task, oldest first: all, or what followed the message `after`. One that cannot be
        read says so in its place: the task waits for an answer to the newest."""
        found: list[LogEntry] = []
        low = f"({after}" if after else _OLDEST
        while True:
            read = await self._reader.range("-messages", key.ref, low, _NEWEST, MESSAGES_AT_ONCE)
            if read.state.uid != key.uid or read.state.open is None:
                return []
            found += [
                message_of(row, read.state.open) for row in read.rows if row.type in (read.state.open, UNREADABLE)
            ]
            if not read.has_more:
                return found
            low = f"({read.reached}"

    async def pulse(self, key: LogKey, term: int, asked: Sequence[str]) -> Pulse:
        """What the log holds, for a heartbeat; marks the runtime as seen. Term 0 in the answer: nothing of this uid,
        say hello. Asked with term 0 it tells of the newest term and marks nobody."""
        current, taken, ended = await self._call("pulse", key, None, term, *asked)
        return Pulse(term=int(current), last_seq=taken, ended=texts_of(ended))

    # ---- out -------------------------------------------------------------------------------------------------------
    def on_live(self, callback: OnLive) -> None:
        """Call `callback` whenever events were read, before they are handed out, with the live state of that moment:
        it is never older than they are. It must not block."""
        self._reader.on_live.append(callback)

    def saw(self, ref: ObjectRef, held: Sequence[bytes | None]) -> State:
        """The values of `READ_FIELDS` were read together with events of `ref`."""
        return self._reader.saw(ref, held)

    async def live(self, namespace: str, name: str) -> Live | None:
        """Compare `uid` with the agent's: a re-created agent's log is not its own before its first hello. Raises
        `Unavailable` (`log_damaged`) where the key is not ours."""
        key = self._reader.name("-live", ObjectRef(namespace, name))
        row = await self._server.translated(lambda: self._server.redis.hmget(key, LIVE_FIELDS))
        return live_of(row) if row[0] is not None else None

    async def live_many(self, refs: Iterable[ObjectRef]) -> dict[ObjectRef, Live]:
        """Of those that have a log, in one round trip. One that cannot be read counts as none."""
        wanted = list(refs)
        async with self._server.redis.pipeline(transaction=False) as pipe:
            for ref in wanted:
                pipe.hmget(self._reader.name("-live", ref), LIVE_FIELDS)
            rows = await self._server.translated(lambda: pipe.execute(raise_on_error=False))
        found: dict[ObjectRef, Live] = {}
        for ref, row in zip(wanted, rows, strict=True):
            if is_damaged(row):
                logger.warning("live state could not be read", agent=str(ref), error=str(row))
            elif row[0] is not None:
                found[ref] = live_of(row)
        return found

    async def page(
        self,
        namespace: str,
        name: str,
        *,
        limit: int,
        after: str | None = None,
        before: str | None = None,
        around: str | None = None,
        types: Collection[str] | None = None,
        uid: str | None = None,
    ) -> Page:
        """At most `limit` events, oldest first: the newest, the first after `after`, the last before `before`, or half
        of them before `around` and half from it on.

        Cursors are event ids or RFC 3339 times; raises `Invalid` (`invalid_cursor`) for others. `types` filters: it is
        read on until the limit is full. With `uid`, another uid's log counts as none. Of more than `PAGE_BYTES` those
        that are farthest from the cursor are left out (`is_cut`).
        """
        low, high, middle = (parse_position(text) if text is not None else None for text in (after, before, around))
        if middle and (low or high):
            raise Invalid("around cannot be combined with after or before", code="invalid_cursor", field="around")
        stream = (ObjectRef(namespace, name), uid, types)
        if middle:
            half = limit // 2
            older = (
                await self._reader.before(*stream, half, PAGE_BYTES // 2, high=middle.high)
                if half
                else Read([], NOBODYS)
            )
            newer = await self._reader.after(*stream, limit - half, PAGE_BYTES // 2, low=middle.high - 1)
            read = newer._replace(rows=older.rows + newer.rows, has_more=older.has_more or newer.has_more)
        elif low:
            read = await self._reader.after(*stream, limit, PAGE_BYTES, low=low.low, high=high.high if high else None)
        else:
            read = await self._reader.before(*stream, limit, PAGE_BYTES, high=high.high if high else None)
        rows, state = read.rows, read.state
        gap = bool(low and is_gone(state, low.low + 1, low.is_id))
        gap = gap or any(is_gone(state, at.high, at.is_id) for at in (middle, high) if at and not low)
        entries = [to_json(namespace, name, *row) for row in rows]
        return Page(entries, gap, rows[-1].id if rows else None, read.has_more and len(rows) < limit)

    async def ends_after(self, key: LogKey, last_event_id: str | None) -> list[LogEntry]:
        """Ends that are not accounted yet, oldest first, at most `ENDS_AT_ONCE`. Retention does not reach them; only
        `trim_ends` does. The payload of one that cannot be read is empty."""
        low = above(micros_of(last_event_id)) if last_event_id else _OLDEST
        read = await self._reader.range("-ends", key.ref, low, _NEWEST, ENDS_AT_ONCE)
        if read.state.uid != key.uid:
            return []
        return [LogEntry(row.id, row.type, timestamp_of(row.id), orjson.loads(row.payload)) for row in read.rows]

    async def state(self, ref: ObjectRef) -> State:
        """Whose log it is, and up to where it reaches."""
        live = self._reader.name("-live", ref)
        return self.saw(ref, await self._server.translated(lambda: self._server.redis.hmget(live, READ_FIELDS)))

    async def since(self, wanted: Mapping[ObjectRef, int], count: int, room: int = PAGE_BYTES) -> dict[ObjectRef, Read]:
        """Of each log its first `count` events above that many microseconds, at most `room` bytes of each or one
        event, in one round trip. What cannot be read counts as no log where several are asked for."""
        return await self._reader.since(wanted, count, room)

    async def notified_since(self, after: str | None) -> NotificationBatch:
        """What rang after the ring `after`."""
        name = self._prefix + "-bell"
        return await self._server.translated(lambda: read_notifications(self._server.redis, name, after))

    async def refs(self) -> frozenset[ObjectRef]:
        """Of every log there is."""
        found = await self._server.translated(self._all)
        return frozenset(ObjectRef(namespace, name) for namespace, name, _ in found)

    def stream_and_live(self, ref: ObjectRef) -> tuple[str, str]:
        """The keys of an agent's events and of its live hash."""
        return self._reader.name("", ref), self._reader.name("-live", ref)

    async def notify(self, ref: ObjectRef) -> None:
        """Something of this log is to be looked at again."""
        fields = {"k": str(ref)}
        await self._server.translated(
            lambda: self._server.redis.xadd(self._prefix + "-bell", fields, maxlen=LENGTH, approximate=True)
        )

    def notifications(self) -> AsyncIterator[frozenset[ObjectRef]]:
        """The agents whose logs changed since the last item. An empty set says that any may have: it
        comes first, and after each time that the server was away. Never ends, never raises."""
        return listen(self._server.address, self._prefix + "-bell")

    def health(self) -> ConnectorHealth:
        """What was seen of connectors' servers, on the same server."""
        return ConnectorHealth(self._server, self._prefix)

    def gateways(self) -> Presence:
        """Whether a gateway is alive, on the same server."""
        return Presence(self._server, self._prefix)

    # ---- the operator's --------------------------------------------------------------------------------------------
    async def trim_ends(self, key: LogKey, upto_id: str) -> None:
        """Forget the ends up to this one: they are accounted."""
        await self._call("trim", key, None, micros_of(upto_id))

    async def purge(self, key: LogKey) -> None:
        """The agent is gone: drop its keys, and refuse this uid from now on."""
        await self._call("purge", key, None)

    async def all_logs(self) -> list[tuple[str, str, str]]:
        """`(namespace, name, uid)` of every log there is; those whose agent no longer exists are to be buried."""
        return await self._server.translated(self._all)

    async def _all(self) -> list[tuple[str, str, str]]:
        start = f"{self._prefix}-live:"
        found: list[tuple[str, str, str]] = []
        seen, position = set[bytes](), 0
        while True:
            position, keys = await self._server.redis.scan(position, match=f"{start}*", count=500)
            fresh = [name for name in keys if name not in seen]
            seen.update(fresh)
            async with self._server.redis.pipeline(transaction=False) as pipe:
                for name in fresh:
                    pipe.hget(name, "uid")
                uids = await pipe.execute(raise_on_error=False)
            for name, uid in zip(fresh, uids, strict=True):
                namespace, _, agent = name.decode(errors="replace")[len(start) :].partition(":")
                if not names_an_agent(ObjectRef(namespace, agent)) or is_damaged(uid):
                    logger.warning("a key of the event log is not ours", key=repr(name))
                elif uid is not None:
                    found.append((namespace, agent, uid.decode(errors="replace")))
            if position == 0:
                return found

    # ---- inside ----------------------------------------------------------------------------------------------------
    async def _call(
        self, op: str, key: LogKey, floor: str | None, *args: str | bytes | int, durable: bool = False
    ) -> Any:
        kinds = ("-live", "", "-ends", "-started", "-ended", "-terms", "-messages")
        keys = [self._reader.name(kind, key.ref) for kind in kinds]
        shared = [f"{self._prefix}-bell", f"{self._prefix}-dead"]
        lowest = micros_of(floor) if floor else 0
        head: list[str | bytes | int] = [op, key.uid, str(key.ref), lowest]
        head += [self._retention, self._retention_bytes, self._expiry_s]
        return await self._server.run(APPEND, keys + shared, [*head, *args], durable=durable)
