"""The log of each agent: one stream, one live hash, and the rules by which events get in.

`append.lua` is the only way in. It decides atomically, in this order: `fenced` (the term is not the one issued last, or
another uid holds the log), `duplicate` (the number was taken), `hole` (not the next number), `ended` (the task has
ended), `started` (a start of a started task), `stale` (a start of an older generation than one seen), `unheard` (an
end before the last message to its task was answered), else `ok`. Starts, ends and messages are answered when they are
on the server's disk (`server.Durability`).
"""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import orjson

from komputer.events import types
from komputer.events.address import Address
from komputer.events.bell import EVERYTHING, LENGTH, Place, Rings, listen, rings_since
from komputer.events.entries import (
    LIVE_FIELDS,
    STATE_FIELDS,
    Entry,
    Live,
    LogKey,
    Numbered,
    Page,
    Row,
    Said,
    State,
    answers_of,
    fields_of,
    is_gone,
    live_of,
    rows_of,
    state_of,
    texts_of,
    to_json,
)
from komputer.events.health import Health
from komputer.events.idempotency import Idempotency
from komputer.events.ids import cursor, id_of, micros_of, timestamp_of
from komputer.events.presence import Presence
from komputer.events.server import Durability, Server
from komputer.resources.door import Answer, Pulse, Welcome
from komputer.resources.errors import Conflict, Invalid

__all__ = ["EVERYTHING", "EXPIRY", "RETENTION", "Entry", "Live", "Log", "LogKey", "Numbered", "Page", "Said"]

RETENTION: Final = 10_000
"""Events of one agent that are kept."""
EXPIRY: Final = timedelta(days=30)
"""A log into which nothing was written for so long is dropped; tombstones of deleted agents are, too."""
_TERM_LIMIT: Final = 2**52
_NEWEST: Final = "+"
_OLDEST: Final = "-"


class Log:
    """The logs of all agents on one server. Raises `Unavailable` (`log-unavailable`) while that does not answer."""

    def __init__(self, server: Server, *, prefix: str, retention: int, expiry: timedelta) -> None:
        self._server = server
        self._prefix = prefix
        self._retention = retention
        self._expiry_s = int(expiry.total_seconds())

    @classmethod
    def connect(
        cls,
        where: Address | str,
        *,
        prefix: str = "komputer-events",
        retention: int = RETENTION,
        expiry: timedelta = EXPIRY,
    ) -> "Log":
        """Connects at first use. A text is an address without password file. Raises `Invalid` (`redis-address`)."""
        address = Address(where) if isinstance(where, str) else where
        return cls(Server(address), prefix=prefix, retention=retention, expiry=expiry)

    async def close(self) -> None:
        await self._server.close()

    async def ping(self) -> None:
        await self._server.translated(lambda: self._server.redis.execute_command("PING"))

    def requests(self) -> Idempotency:
        """The records of requests that are to be carried out once, on the same server."""
        return Idempotency(self._server, self._prefix)

    @property
    def server(self) -> Server:
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
            taken=taken,
            started=texts_of(started),
            ended=texts_of(ended),
            open=texts_of(still_open),
        )

    async def append(
        self, key: LogKey, term: int, events: Sequence[Numbered], *, floor: str | None = None
    ) -> list[Answer]:
        """One answer per event, in order; none after the first refusal. One round trip; safe to repeat."""
        fields = [part for numbered in events for part in fields_of(*numbered)]
        is_durable = any(isinstance(each.event, types.TaskStarted | types.End) for each in events)
        return answers_of(await self._call("append", key, floor, term, *fields, durable=is_durable))

    async def end(
        self, key: LogKey, event: types.End, *, generation: int, floor: str | None, unless_started: bool = False
    ) -> Answer:
        """The operator's: no term and no number is checked. `started` with `unless_started`, for a task that has."""
        fields = fields_of(0, event, generation)
        answer = await self._call("end", key, floor, "1" if unless_started else "0", *fields, durable=True)
        return answers_of(answer)[0]

    async def message(self, key: LogKey, task_id: str, content: str, request: str | None = None) -> Said | None:
        """Somebody speaks to the task that runs. None where that task has not started, or its end came first. The same
        `request` again says nothing new and is answered as the first time, until another task starts."""
        event = types.UserMessage(task_id=task_id, content=content, steer=True)
        answer = await self._call("message", key, None, *fields_of(0, event, None), request or "", durable=True)
        return Said(*texts_of(answer[1:])) if answer[0] == b"ok" else None

    async def messages(self, key: LogKey, after: str | None) -> list[Entry]:
        """What was said to the open task, oldest first: all, or what followed the message `after`."""
        low = f"({after}" if after else _OLDEST
        rows, state = await self._range("-messages", key.namespace, key.name, low, _NEWEST, None, newest_first=False)
        said = [row for row in rows if row.type == state.open] if state.uid == key.uid else []
        return [Entry(row.id, "user_message", timestamp_of(row.id), orjson.loads(row.payload)) for row in said]

    async def pulse(self, key: LogKey, term: int, asked: Sequence[str]) -> Pulse:
        """What the log holds, for a heartbeat; marks the runtime as seen. Term 0 in the answer: nothing of this uid,
        say hello. Asked with term 0 it tells of the newest term and marks nobody."""
        current, taken, ended = await self._call("pulse", key, None, term, *asked)
        return Pulse(term=int(current), taken=taken, ended=texts_of(ended))

    # ---- out -------------------------------------------------------------------------------------------------------
    async def live(self, namespace: str, name: str) -> Live | None:
        """Compare `uid` with the agent's: a re-created agent's log is not its own before its first hello."""
        return (await self.live_many([(namespace, name)])).get((namespace, name))

    async def live_many(self, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Live]:
        """Of those that have a log, in one round trip."""
        wanted = list(keys)
        async with self._server.redis.pipeline(transaction=False) as pipe:
            for namespace, name in wanted:
                pipe.hmget(self._name("-live", namespace, name), LIVE_FIELDS)
            rows = await self._server.translated(pipe.execute)
        return {key: live_of(row) for key, row in zip(wanted, rows, strict=True) if row[0] is not None}

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

        Cursors are event ids or RFC 3339 times; raises `Invalid` (`invalid-cursor`) for others. `types` filters: it is
        read on until the limit is full. With `uid`, another uid's log counts as none.
        """
        low, high, middle = (cursor(text) if text is not None else None for text in (after, before, around))
        if middle and (low or high):
            raise Invalid("around cannot be combined with after or before", code="invalid-cursor", field="around")
        stream = (namespace, name, uid, types)
        if middle:
            half = limit // 2
            older = (await self._newest(*stream, half, high=middle.high))[0] if half else []
            newer, state = await self._oldest(*stream, limit - half, low=middle.high - 1)
            rows = older + newer
        elif low:
            rows, state = await self._oldest(*stream, limit, low=low.low, high=high.high if high else None)
        else:
            rows, state = await self._newest(*stream, limit, high=high.high if high else None)
        gap = bool(low and is_gone(state, low.low + 1, low.is_id))
        gap = gap or any(is_gone(state, place.high, place.is_id) for place in (middle, high) if place and not low)
        entries = [to_json(namespace, name, *row) for row in rows]
        return Page(entries, gap, rows[-1].id if rows else None)

    async def ends_after(self, key: LogKey, last_event_id: str | None) -> list[Entry]:
        """Ends that are not accounted yet, oldest first. Retention does not reach them; only `trim_ends` does."""
        low = f"({id_of(micros_of(last_event_id))}" if last_event_id else _OLDEST
        rows, state = await self._range("-ends", key.namespace, key.name, low, _NEWEST, None, newest_first=False)
        if state.uid != key.uid:
            return []
        return [Entry(row.id, row.type, timestamp_of(row.id), orjson.loads(row.payload)) for row in rows]

    async def state(self, place: Place) -> State:
        """Whose log it is, and up to where it reaches."""
        return state_of(
            await self._server.translated(lambda: self._server.redis.hmget(self._name("-live", *place), STATE_FIELDS))
        )

    async def since(self, wanted: Mapping[Place, int], count: int) -> dict[Place, tuple[list[Row], State]]:
        """Of each log its first `count` events above that many microseconds, in one round trip."""
        async with self._server.redis.pipeline(transaction=True) as pipe:
            for place, low in wanted.items():
                pipe.hmget(self._name("-live", *place), STATE_FIELDS)
                pipe.xrange(self._name("", *place), f"({id_of(low)}", _NEWEST, count)
            answers = await self._server.translated(pipe.execute) if wanted else []
        pairs = zip(answers[::2], answers[1::2], strict=True)
        return {place: (rows_of(entries), state_of(held)) for place, (held, entries) in zip(wanted, pairs, strict=True)}

    async def rings(self, after: str | None) -> Rings:
        """What rang after the ring `after`."""
        bell = self._prefix + "-bell"
        return await self._server.translated(lambda: rings_since(self._server.redis, bell, after))

    async def places(self) -> frozenset[Place]:
        """Of every log there is."""
        found = await self._server.translated(self._all)
        return frozenset((namespace, name) for namespace, name, _ in found)

    def stream_and_live(self, place: Place) -> tuple[str, str]:
        """The keys of an agent's events and of its live hash."""
        return self._name("", *place), self._name("-live", *place)

    async def ring(self, place: Place) -> None:
        """Something of this log is to be looked at again."""
        ring = {"k": "/".join(place)}
        await self._server.translated(
            lambda: self._server.redis.xadd(self._prefix + "-bell", ring, maxlen=LENGTH, approximate=True)
        )

    def bell(self) -> AsyncIterator[frozenset[tuple[str, str]]]:
        """`(namespace, name)` of the logs that changed since the last item. An empty set says that any may have: it
        comes first, and after each time that the server was away. Never ends, never raises."""
        return listen(self._server.address, self._prefix + "-bell")

    def health(self) -> Health:
        """What was seen of connectors' servers, on the same server."""
        return Health(self._server, self._prefix)

    def gateways(self) -> Presence:
        """Whether a gateway is alive, on the same server."""
        return Presence(self._server, self._prefix)

    # ---- the operator's --------------------------------------------------------------------------------------------
    async def trim_ends(self, key: LogKey, upto_id: str) -> None:
        """Forget the ends up to this one: they are accounted."""
        await self._call("trim", key, None, micros_of(upto_id))

    async def bury(self, key: LogKey) -> None:
        """The agent is gone: drop its keys, and refuse this uid from now on."""
        await self._call("bury", key, None)

    async def buried_candidates(self) -> list[tuple[str, str, str]]:
        """`(namespace, name, uid)` of every log there is; those whose agent no longer exists are to be buried."""
        return await self._server.translated(self._all)

    async def _all(self) -> list[tuple[str, str, str]]:
        start = f"{self._prefix}-live:"
        found: list[tuple[str, str, str]] = []
        seen, position = set[bytes](), 0
        while True:
            position, names = await self._server.redis.scan(position, match=f"{start}*", count=500)
            fresh = [name for name in names if name not in seen]
            seen.update(fresh)
            async with self._server.redis.pipeline(transaction=False) as pipe:
                for name in fresh:
                    pipe.hget(name, "uid")
                uids = await pipe.execute()
            for name, uid in zip(fresh, uids, strict=True):
                namespace, _, agent = name.decode()[len(start) :].partition(":")
                if uid is not None:
                    found.append((namespace, agent, uid.decode()))
            if position == 0:
                return found

    # ---- inside ----------------------------------------------------------------------------------------------------
    def _name(self, kind: str, namespace: str, name: str) -> str:
        return f"{self._prefix}{kind}:{namespace}:{name}"

    async def _call(
        self, op: str, key: LogKey, floor: str | None, *args: str | bytes | int, durable: bool = False
    ) -> Any:
        kinds = ("-live", "", "-ends", "-started", "-ended", "-terms", "-messages")
        keys = [self._name(kind, key.namespace, key.name) for kind in kinds]
        shared = [f"{self._prefix}-bell", f"{self._prefix}-dead"]
        lowest = micros_of(floor) if floor else 0
        head: list[str | bytes | int] = [op, key.uid, f"{key.namespace}/{key.name}", lowest]
        return await self._server.run(keys + shared, [*head, self._retention, self._expiry_s, *args], durable=durable)

    async def _newest(
        self, namespace: str, name: str, uid: str | None, types: Collection[str] | None, limit: int, *, high: int | None
    ) -> tuple[list[Row], State]:
        below = _NEWEST if high is None else f"({id_of(max(1, high))}"
        rows, state = await self._filtered(namespace, name, uid, types, limit, _OLDEST, below, newest_first=True)
        return rows[::-1], state

    async def _oldest(
        self,
        namespace: str,
        name: str,
        uid: str | None,
        types: Collection[str] | None,
        limit: int,
        *,
        low: int,
        high: int | None = None,
    ) -> tuple[list[Row], State]:
        above = f"({id_of(low)}" if low >= 0 else _OLDEST
        below = _NEWEST if high is None else f"({id_of(max(1, high))}"
        return await self._filtered(namespace, name, uid, types, limit, above, below, newest_first=False)

    async def _filtered(
        self,
        namespace: str,
        name: str,
        uid: str | None,
        types: Collection[str] | None,
        limit: int,
        low: str,
        high: str,
        *,
        newest_first: bool,
    ) -> tuple[list[Row], State]:
        """Reads on until `limit` rows are of the types that are asked for, or there are no more."""
        chunk = limit if types is None else min(1000, max(200, 4 * limit))
        found: list[Row] = []
        while True:
            rows, state = await self._range("", namespace, name, low, high, chunk, newest_first=newest_first)
            if uid is not None and state.uid != uid:
                return [], State(None, 0, 0)
            found += rows if types is None else [row for row in rows if row.type in types]
            if len(found) >= limit or len(rows) < chunk:
                return found[:limit], state
            low, high = (low, f"({rows[-1].id}") if newest_first else (f"({rows[-1].id}", high)

    async def _range(
        self, kind: str, namespace: str, name: str, low: str, high: str, count: int | None, *, newest_first: bool
    ) -> tuple[list[Row], State]:
        """Entries and whose they are, of one moment."""
        key = self._name(kind, namespace, name)
        async with self._server.redis.pipeline(transaction=True) as both:
            both.hmget(self._name("-live", namespace, name), STATE_FIELDS)
            if newest_first:
                both.xrevrange(key, high, low, count)
            else:
                both.xrange(key, low, high, count)
            held, entries = await self._server.translated(both.execute)
        return rows_of(entries), state_of(held)
