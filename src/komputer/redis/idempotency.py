"""Records of idempotent requests in Redis, so that a request is executed once, however often it is sent.

A record with the digest of the request and a new id is written before the request is executed. The process that
executes the request holds a lock that expires after a short time. If this process crashes, the record has no answer;
the next attempt takes the lock and continues with the same id.
"""

import re
from typing import Any, Final, NamedTuple

import orjson
from ulid import ULID

from komputer.domain.errors import Conflict, KomputerError
from komputer.redis.connection import RedisConnection

KEPT_S: Final = 24 * 3600
LOCK_MS: Final = 5000
"""Expiry of the lock in milliseconds: how long a crashed process blocks the next attempt. The holder renews the lock
three times in this time."""

_ULID: Final = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
_HEADER: Final = re.compile(r"[A-Za-z0-9-]+: [ -~]*")

# Only the holder may release or renew the lock: it may have expired, and another attempt may hold it now.
_IF_MINE: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call({}) end return 0"
_UNLOCK: Final = _IF_MINE.format("'DEL', KEYS[1]")
_RENEW: Final = _IF_MINE.format("'PEXPIRE', KEYS[1], ARGV[2]")


class Mismatch(KomputerError):
    """The key was used for another request. Use a new one."""

    code = "idempotency_mismatch"


class InFlight(Conflict):
    """The first attempt of the request is still running. Try again."""

    code = "idempotency_in_flight"


class Unreadable(Conflict):
    """The record of this key is damaged, so it is unknown whether the request was carried out. Check, then use a new
    key."""

    code = "idempotency_unreadable"


class StoredResponse(NamedTuple):
    """A stored response, which later attempts of the request get."""

    status: int
    headers: list[tuple[str, str]]
    body: str


class Record(NamedTuple):
    """The record of a request. `id` is a ULID that was created at the first attempt; `answer` is None until the request
    has been answered."""

    digest: str
    id: str
    answer: StoredResponse | None = None


class Idempotency:
    """The records of one platform. `key` identifies the caller, the namespace, the route and the client's key. All
    methods raise `Unavailable` if the server does not answer."""

    def __init__(self, server: RedisConnection, prefix: str) -> None:
        self._server = server
        self._prefix = f"{prefix}-once"

    async def opened(self, key: str, digest: str) -> tuple[Record, bool]:
        """Return the record of this request, created if it does not exist, and whether it is new. Raises `Mismatch`,
        `Unreadable`."""
        new = Record(digest, str(ULID()))
        redis = self._server.redis
        written = await self._server.translated(
            lambda: redis.set(self._name(key), _wire(new), nx=True, get=True, ex=KEPT_S)
        )
        record = new if written is None else _record(written)
        if record.digest != digest:
            raise Mismatch("this Idempotency-Key was used for another request; use a new key for a new request")
        return record, written is None

    async def lock(self, key: str, holder: str) -> bool:
        """Acquire the lock. Returns whether `holder` may carry out the request now."""
        return await self._redis("SET", self._lock(key), holder, "NX", "PX", LOCK_MS) is not None

    async def renew(self, key: str, holder: str) -> None:
        """Extend the lock by `LOCK_MS`, if `holder` still has it."""
        await self._redis("EVAL", _RENEW, 1, self._lock(key), holder, LOCK_MS)

    async def unlock(self, key: str, holder: str) -> None:
        """Release the lock, if `holder` still has it."""
        await self._redis("EVAL", _UNLOCK, 1, self._lock(key), holder)

    async def answered(self, key: str, record: Record, answer: StoredResponse) -> None:
        """Store the response of the request for `KEPT_S`."""
        await self._redis("SET", self._name(key), _wire(record._replace(answer=answer)), "EX", KEPT_S)

    async def forget(self, key: str) -> None:
        """Delete the record of a request that changed nothing."""
        await self._redis("DEL", self._name(key))

    def _name(self, key: str) -> str:
        return f"{self._prefix}:{key}"

    def _lock(self, key: str) -> str:
        return f"{self._prefix}-lock:{key}"

    async def _redis(self, *command: Any) -> Any:
        return await self._server.translated(lambda: self._server.redis.execute_command(*command))


def _wire(record: Record) -> bytes:
    answer = record.answer
    return orjson.dumps([record.digest, record.id, None if answer is None else list(answer)])


def _record(raw: bytes) -> Record:
    try:
        match orjson.loads(raw):
            case [str() as digest, str() as request_id, None] if _ULID.fullmatch(request_id):
                return Record(digest, request_id)
            case [str() as digest, str() as request_id, [int() as status, list() as headers, str() as body]] if (
                _ULID.fullmatch(request_id) and not isinstance(status, bool) and 200 <= status <= 599
            ):
                return Record(digest, request_id, StoredResponse(status, [_header(header) for header in headers], body))
    except ValueError:
        pass
    raise Unreadable(
        "the record of this Idempotency-Key cannot be read, so it is not known whether the request was carried out; "
        "look, then use a new key"
    )


def _header(header: Any) -> tuple[str, str]:
    match header:
        case [str() as name, str() as value] if _HEADER.fullmatch(f"{name}: {value}"):
            return name, value
    raise ValueError("no header")
