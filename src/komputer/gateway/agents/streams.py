"""The assignment streams: one of each agent, woken when its resource changes or when somebody may have spoken to it.

Of the assignment only the newest waits to be sent. What was said to the open task is sent in order, all of it again on
each new stream; the runtime knows what it has.
"""

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Final

import structlog
from starlette.types import Receive, Send

from komputer.domain import names
from komputer.domain.base import WireModel
from komputer.domain.config import Config
from komputer.domain.errors import KomputerError, Unavailable
from komputer.domain.ref import ObjectRef
from komputer.events.follow.notifier import Notifier
from komputer.events.log import Log
from komputer.gateway.agents.assignment import assignment
from komputer.gateway.agents.identity import Identity, PodIdentity, PodRef
from komputer.gateway.agents.secrets import AGAIN_S, TaskSecrets
from komputer.kube import CacheChange
from komputer.protocol.wire import HEARTBEAT_S, TaskMessage

log = structlog.get_logger(__name__)

SEND_TIMEOUT_S: Final = 3 * HEARTBEAT_S
"""A reader that takes nothing for so long is taken for dead, as it takes us."""


class Stream:
    """One runtime's. `wake` says that the assignment may have changed, `hear` that the log has, `end` that nothing is
    to follow."""

    def __init__(self, pod: PodRef) -> None:
        self.pod = pod
        self.has_ended = False
        self.must_look = True
        self._rung = asyncio.Event()

    def wake(self) -> None:
        self.must_look = True
        self._rung.set()

    def hear(self) -> None:
        self._rung.set()

    def end(self) -> None:
        self.has_ended = True
        self._rung.set()

    async def rung(self, within_s: float) -> bool:
        """Whether it was woken within that time. Several wakes are one."""
        try:
            async with asyncio.timeout(within_s):
                await self._rung.wait()
        except TimeoutError:
            return False
        self._rung.clear()
        return True


class AssignmentStreams:
    """All open streams. Of an agent the newest connection has the stream; the one before it ends."""

    def __init__(
        self,
        identity: Identity,
        log: Log,
        notifier: Notifier,
        config: Callable[[], Config | None],
        secrets: Callable[[], TaskSecrets],
        limit: int,
        heartbeat_s: float,
    ) -> None:
        self._identity = identity
        self._log = log
        self._notifier = notifier
        self._config = config
        self._secrets = secrets
        self._limit = limit
        self._heartbeat_s = heartbeat_s
        self._open: dict[ObjectRef, Stream] = {}
        self._is_draining = False

    def __len__(self) -> int:
        return len(self._open)

    def agent_changed(self, change: CacheChange) -> None:
        """Of an agent: wake its stream."""
        self._wake([ObjectRef.of(change.manifest)])

    def pod_changed(self, change: CacheChange) -> None:
        """Of a pod: another one under the name, or none, ends the stream of the one before."""
        metadata = change.manifest["metadata"]
        self._wake([ObjectRef(metadata["namespace"], PodRef(metadata["namespace"], metadata["name"], "").agent)])

    def config_changed(self, change: CacheChange) -> None:
        if change.manifest["metadata"]["name"] == names.CONFIG_NAME:
            self._wake(list(self._open))

    def drain(self) -> None:
        """End all streams and open no more: the process is about to stop."""
        self._is_draining = True
        for stream in self._open.values():
            stream.end()

    def _wake(self, refs: Iterable[ObjectRef]) -> None:
        for ref in refs:
            if stream := self._open.get(ref):
                stream.wake()

    async def answer(self, caller: PodIdentity, receive: Receive, send: Send) -> None:
        """Serve GET /v1/assignment until the reader leaves or the stream ends. `Unavailable` for one too many."""
        stream, ref = Stream(caller.pod), caller.agent.ref
        before = self._open.get(ref)
        if self._is_draining or (before is None and len(self._open) >= self._limit):
            raise Unavailable("This gateway takes no more assignment streams now; try again.", code="too_many_streams")
        if before:
            before.end()
        self._open[ref] = stream
        headers = [(b"content-type", b"application/x-ndjson"), (b"cache-control", b"no-store")]
        leaving = asyncio.create_task(_left(receive))
        leaving.add_done_callback(lambda _: stream.end())
        deaf = self._notifier.on(ref, stream.hear)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await self._feed(stream, caller, send)
            if not leaving.done():
                await send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            log.info("assignment stream given up", agent=caller.agent.key, pod=caller.pod.name)
            raise ConnectionResetError("the reader of an assignment stream takes nothing") from None
        finally:
            deaf()
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
            if self._open.get(ref) is stream:
                del self._open[ref]

    async def _feed(self, stream: Stream, caller: PodIdentity, send: Send) -> None:
        said, last_message = b"", None
        secrets = self._secrets()
        now = asyncio.get_running_loop().time
        spoke_at = now()
        while not stream.has_ended:
            lines = []
            if stream.must_look:
                stream.must_look = False
                environment = await secrets.environment(caller.agent)
                if environment is None:
                    asyncio.get_running_loop().call_later(AGAIN_S, stream.wake)
                if (line := _line(assignment(caller.agent, self._config(), environment))) != said:
                    lines.append(line)
                    said = line
            for message in await self._messages(caller, last_message):
                lines.append(_line(message))
                last_message = message.id
            if not lines and now() - spoke_at >= self._heartbeat_s:
                lines.append(await self._pulse(caller))
            for line in lines:
                await _say(send, line)
                spoke_at = now()
            await stream.rung(max(0.0, spoke_at + self._heartbeat_s - now()))
            try:
                caller = self._identity.known(stream.pod)
            except KomputerError as error:
                log.info("assignment stream ended", agent=caller.agent.key, pod=stream.pod.name, code=error.code)
                return

    async def _messages(self, caller: PodIdentity, after: str | None) -> list[TaskMessage]:
        """What was said to the open task since. None while the log does not answer: it rings when it is back."""
        try:
            entries = await self._log.messages(caller.key, after)
        except Unavailable:
            return []
        return [
            TaskMessage(id=each.id, task_id=each.payload["task_id"], content=each.payload["content"])
            for each in entries
        ]

    async def _pulse(self, caller: PodIdentity) -> bytes:
        """What the log holds of the newest term; that does not count as a sign of the runtime's life. An empty line,
        which keeps the stream alive all the same, while the log does not answer."""
        try:
            return _line(await self._log.pulse(caller.key, 0, []))
        except Unavailable:
            return b"\n"


async def _say(send: Send, line: bytes) -> None:
    async with asyncio.timeout(SEND_TIMEOUT_S):
        await send({"type": "http.response.body", "body": line, "more_body": True})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _line(part: WireModel) -> bytes:
    """One line of NDJSON, in ASCII: no reader finds another line separator in it than the `\\n` at its end."""
    return json.dumps(part.to_wire(), separators=(",", ":")).encode() + b"\n"
