"""The connection to Redis or Valkey: scripts, translated errors, and writes that wait for the disk."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Literal, TypeVar

import structlog
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError

from komputer.domain.errors import Unavailable
from komputer.redis.address import Address

CONNECTIONS: Final = 64
"""Maximum number of connections of one process; further callers wait. A guess, unmeasured: a write that waits for the
disk occupies a connection."""
ANSWER_TIMEOUT_S: Final = 10.0
"""Time limit of a whole call in seconds. Above `DISK_TIMEOUT_S`, so that a slow disk is reported as such."""
DISK_TIMEOUT_S: Final = 5.0

Durability = Literal["waits", "always", "none"]
"""How a write reaches the disk before its caller gets the result: `waits` by `WAITAOF`, `always` by `appendfsync
always`, `none` not at all."""

_DAMAGED: Final = ("WRONGTYPE", "smaller than the target stream top item")
"""Parts of the server's error messages for a key of another type, and for a stream with an id from far in the
future."""

T = TypeVar("T")
log = structlog.get_logger(__name__)


class Script:
    """A Lua script for the server. It is sent once and then called by its digest."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.sha = hashlib.sha1(source, usedforsecurity=False).hexdigest()


class RedisConnection:
    """A connection to one Redis or Valkey server."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.redis: Any = address.client(
            connections=CONNECTIONS,
            timeout=ANSWER_TIMEOUT_S,
            socket_timeout=ANSWER_TIMEOUT_S,
            socket_connect_timeout=3.0,
            # A broken connection is opened again; a server that does not answer is not called repeatedly.
            retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), 3, (RedisConnectionError,)),
            protocol=2,
        )
        self.durability: Durability | None = None
        """How writes reach the disk; None until the first durable write."""

    async def close(self) -> None:
        await self.redis.aclose()

    async def run(
        self, script: Script, keys: list[str], args: list[str | bytes | int], *, durable: bool = False
    ) -> Any:
        """Run `script` and return its result. With `durable`, this returns only after its writes have reached the disk,
        if the server supports waiting for it. Raises `Unavailable`."""
        # The server is known not to support WAITAOF, or to write no file.
        if durable and self.durability != "waits" and self.durability is not None:
            durable = False
        answer, on_disk = await self.translated(lambda: self._run(b"EVALSHA", script.sha, keys, args, durable))
        # The server does not know the script yet, for example after a restart. EVAL sends the source.
        if isinstance(answer, NoScriptError):
            answer, on_disk = await self.translated(lambda: self._run(b"EVAL", script.source, keys, args, durable))
        if isinstance(answer, Exception):
            raise unavailable(answer) from answer
        if durable:
            await self._check(on_disk)
        return answer

    async def run_each(self, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[str | int]]]) -> list[Any]:
        """Run `script` for each pair of keys and arguments, in one round trip, and return the answers. Raises
        `Unavailable`.

        The script must not write: calls are repeated if the server does not know the script yet.
        """
        answers = await self.translated(lambda: self._run_each(script, calls))
        if any(isinstance(answer, NoScriptError) for answer in answers):
            keys, arguments = calls[0]
            await self.translated(
                lambda: self.redis.execute_command("EVAL", script.source, len(keys), *keys, *arguments)
            )
            answers = await self.translated(lambda: self._run_each(script, calls))
        for answer in answers:
            if isinstance(answer, Exception):
                raise unavailable(answer) from answer
        return answers

    async def _run_each(self, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[str | int]]]) -> list[Any]:
        if len(calls) == 1:  # a pipeline costs more than its command
            keys, arguments = calls[0]
            try:
                return [await self.redis.execute_command("EVALSHA", script.sha, len(keys), *keys, *arguments)]
            except NoScriptError as unknown:
                return [unknown]
        async with self.redis.pipeline(transaction=False) as pipe:
            for keys, arguments in calls:
                pipe.execute_command("EVALSHA", script.sha, len(keys), *keys, *arguments)
            answers: list[Any] = await pipe.execute(raise_on_error=False)
            return answers

    async def _run(
        self, command: bytes, script: str | bytes, keys: list[str], args: list[str | bytes | int], durable: bool
    ) -> tuple[Any, Any]:
        if not durable:
            try:
                return await self.redis.execute_command(command, script, len(keys), *keys, *args), None
            except NoScriptError as unknown:
                return unknown, None
        async with self.redis.pipeline(transaction=False) as both:
            both.execute_command(command, script, len(keys), *keys, *args)
            both.execute_command("WAITAOF", 1, 0, int(DISK_TIMEOUT_S * 1000))
            answer, on_disk = await both.execute(raise_on_error=False)
            return answer, on_disk

    async def _check(self, on_disk: Any) -> None:
        """Check the result of WAITAOF. If the server does not support it, or writes no file, this is logged once.
        Raises `Unavailable` if the write has not reached the disk in time."""
        if isinstance(on_disk, ResponseError):
            if self.durability is None:
                self.durability = await self._without_waiting()
                if self.durability == "none":
                    log.warning("event log may lose its last second in a crash", reason=str(on_disk))
            return
        if isinstance(on_disk, Exception):
            raise unavailable(on_disk) from on_disk
        self.durability = "waits"
        if on_disk[0] < 1:
            raise Unavailable(
                f"the event log did not reach its disk within {DISK_TIMEOUT_S:.0f} s; try again", code="log_unavailable"
            )

    async def _without_waiting(self) -> Durability:
        try:
            found = await self.redis.config_get("appendonly", "appendfsync")
        except ResponseError:  # a managed server may not allow it
            return "none"
        except (RedisError, OSError) as down:
            raise unavailable(down) from down
        text = {_text(key): _text(value) for key, value in found.items()}
        return "always" if text.get("appendonly") == "yes" and text.get("appendfsync") == "always" else "none"

    async def translated(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `call`. Errors of the library and timeouts become `Unavailable` (`log_unavailable`,
        `log_damaged`)."""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await cancellable(call)
        except (RedisError, OSError, TimeoutError) as down:
            raise unavailable(down) from down


async def cancellable(call: Callable[[], Awaitable[T]]) -> T:
    """Return the result of `call`. Raise `CancelledError` if redis-py has swallowed a cancellation.

    redis-py loses a cancellation that arrives while it runs a pipeline, or at the moment of an answer. Without this
    check, code that waits for the end of the cancelled task would wait forever.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        return await call()
    finally:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError


def unavailable(error: BaseException) -> Unavailable:
    """Return the error for a failure of the server: `log_damaged` if a key contains data that is not of the log, else
    `log_unavailable`."""
    if isinstance(error, ResponseError) and any(sign in str(error) for sign in _DAMAGED):
        return damaged("a key of the event log")
    return Unavailable(f"the event log does not answer ({type(error).__name__}); try again", code="log_unavailable")


def damaged(key: str) -> Unavailable:
    """Return the error for a key that another program has written."""
    return Unavailable(
        f"{key} holds what Komputer did not write, so it cannot be used; rename that key in Redis, then try again",
        code="log_damaged",
    )


def is_damaged(answer: Any) -> bool:
    """Return whether the server refused to read a key because of its type. Raises `Unavailable` for other errors."""
    if not isinstance(answer, Exception):
        return False
    if not (isinstance(answer, ResponseError) and "WRONGTYPE" in str(answer)):
        raise unavailable(answer) from answer
    return True


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
