"""The assignment streams: one per agent, written when its resource changes or when its open task gets a message.

Only the newest assignment is sent. Messages to the open task are sent in order, all of them again on each new stream;
the runtime knows which of them it has.
"""

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Final

import structlog
from starlette.types import Receive, Send

from komputer.domain import names
from komputer.domain.agent import Agent
from komputer.domain.base import WireModel
from komputer.domain.config import Config
from komputer.domain.errors import KomputerError, Unavailable
from komputer.domain.ref import ObjectRef
from komputer.events.follow.notifier import Notifier
from komputer.events.log import Log
from komputer.gateway.agents.assignment import assignment
from komputer.gateway.agents.identity import Identity, PodIdentity, PodRef
from komputer.gateway.agents.secrets import RETRY_AFTER_S, TaskSecrets
from komputer.gateway.settings import GatewaySettings
from komputer.kube import CacheChange
from komputer.protocol.wire import HEARTBEAT_S, Assignment, TaskMessage

log = structlog.get_logger(__name__)

SEND_TIMEOUT_S: Final = 3 * HEARTBEAT_S
"""A runtime that accepts no bytes for this long is considered dead. A runtime applies the same limit to the gateway."""


class AssignmentReader:
    """Makes the assignments of one stream from the agent, the platform's configuration and the task's secrets."""

    def __init__(self, secrets: TaskSecrets, config: Callable[[], Config | None]) -> None:
        self._secrets = secrets
        self._config = config

    async def read(self, agent: Agent) -> tuple[Assignment, bool]:
        """Return the assignment, and whether it is complete: while the Secrets cannot be read it has no task."""
        environment = await self._secrets.environment(agent)
        return assignment(agent, self._config(), environment), environment is not None


class Stream:
    """One runtime's stream. Call `reread` when the assignment has changed, `wake` when there is a message, and `end` to
    close the stream."""

    def __init__(self, pod: PodRef) -> None:
        self.pod = pod
        self.has_ended = False
        self.must_reread = True
        self._woken = asyncio.Event()

    def reread(self) -> None:
        self.must_reread = True
        self._woken.set()

    def wake(self) -> None:
        self._woken.set()

    def end(self) -> None:
        self.has_ended = True
        self._woken.set()

    async def wait(self, timeout_s: float) -> None:
        """Wait until the stream is woken, at most `timeout_s`. Several calls of `wake` end one wait only."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._woken.wait()
        except TimeoutError:
            return
        self._woken.clear()


class AssignmentStreams:
    """All open streams of this gateway. A new connection of an agent ends the agent's previous stream."""

    def __init__(
        self,
        settings: GatewaySettings,
        identity: Identity,
        log: Log,
        notifier: Notifier,
        reader: Callable[[], AssignmentReader],
    ) -> None:
        self._limit = settings.max_streams
        self._heartbeat_s = settings.heartbeat_s
        self._identity = identity
        self._log = log
        self._notifier = notifier
        self._reader = reader
        self._open: dict[ObjectRef, Stream] = {}
        self._is_draining = False

    def __len__(self) -> int:
        return len(self._open)

    def agent_changed(self, change: CacheChange) -> None:
        self._reread([ObjectRef.of(change.manifest)])

    def pod_changed(self, change: CacheChange) -> None:
        """Check the stream of the pod's agent: it ends if the agent has another pod now, or none."""
        metadata = change.manifest["metadata"]
        self._reread([ObjectRef(metadata["namespace"], PodRef(metadata["namespace"], metadata["name"], "").agent)])

    def config_changed(self, change: CacheChange) -> None:
        if change.manifest["metadata"]["name"] == names.CONFIG_NAME:
            self._reread(list(self._open))

    def drain(self) -> None:
        """End all streams and open no more: the process is about to stop."""
        self._is_draining = True
        for stream in self._open.values():
            stream.end()

    def _reread(self, refs: Iterable[ObjectRef]) -> None:
        for ref in refs:
            if stream := self._open.get(ref):
                stream.reread()

    async def answer(self, caller: PodIdentity, receive: Receive, send: Send) -> None:
        """Serve GET /v1/assignment until the reader disconnects or the stream ends. Raises `Unavailable` if there are
        too many streams."""
        stream, ref = Stream(caller.pod), caller.agent.ref
        previous = self._open.get(ref)
        if self._is_draining or (previous is None and len(self._open) >= self._limit):
            raise Unavailable("This gateway takes no more assignment streams now; try again.", code="too_many_streams")
        if previous:
            previous.end()
        self._open[ref] = stream
        headers = [(b"content-type", b"application/x-ndjson"), (b"cache-control", b"no-store")]
        disconnecting = asyncio.create_task(_disconnected(receive))
        disconnecting.add_done_callback(lambda _: stream.end())
        unsubscribe = self._notifier.on(ref, stream.wake)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await self._feed(stream, caller, send)
            if not disconnecting.done():
                await send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            log.info("assignment stream timed out", agent=caller.agent.key, pod=caller.pod.name)
            raise ConnectionResetError("the reader of an assignment stream accepts nothing") from None
        finally:
            unsubscribe()
            disconnecting.cancel()
            await asyncio.gather(disconnecting, return_exceptions=True)
            if self._open.get(ref) is stream:
                del self._open[ref]

    async def _feed(self, stream: Stream, caller: PodIdentity, send: Send) -> None:
        """Send the assignment whenever it changes, messages as they arrive, and a line of state if nothing else was
        sent for a heartbeat. The caller is checked after each wait: the stream ends when the pod is not current any
        more."""
        sent, last_message_id = b"", None
        reader = self._reader()
        loop = asyncio.get_running_loop()
        last_sent_at = loop.time()
        while not stream.has_ended:
            lines = []
            if stream.must_reread:
                stream.must_reread = False
                current, is_complete = await reader.read(caller.agent)
                if not is_complete:
                    loop.call_later(RETRY_AFTER_S, stream.reread)
                if (line := _line(current)) != sent:
                    lines.append(line)
                    sent = line
            for message in await self._messages(caller, last_message_id):
                lines.append(_line(message))
                last_message_id = message.id
            if not lines and loop.time() - last_sent_at >= self._heartbeat_s:
                lines.append(await self._pulse(caller))
            for line in lines:
                await _send(send, line)
                last_sent_at = loop.time()
            await stream.wait(max(0.0, last_sent_at + self._heartbeat_s - loop.time()))
            try:
                caller = self._identity.known(stream.pod)
            except KomputerError as error:
                log.info("assignment stream ended", agent=caller.agent.key, pod=stream.pod.name, code=error.code)
                return

    async def _messages(self, caller: PodIdentity, after: str | None) -> list[TaskMessage]:
        """Return the messages to the open task after the message `after`; none while the log does not answer. All
        streams are woken when it answers again."""
        try:
            entries = await self._log.messages(caller.key, after)
        except Unavailable:
            return []
        return [
            TaskMessage(id=each.id, task_id=each.payload["task_id"], content=each.payload["content"])
            for each in entries
        ]

    async def _pulse(self, caller: PodIdentity) -> bytes:
        """Return a line with the log's state of the newest term. Reading it does not record a heartbeat of the runtime.
        While the log does not answer, return an empty line, which also keeps the connection alive."""
        try:
            return _line(await self._log.pulse(caller.key, 0, []))
        except Unavailable:
            return b"\n"


async def _send(send: Send, line: bytes) -> None:
    async with asyncio.timeout(SEND_TIMEOUT_S):
        await send({"type": "http.response.body", "body": line, "more_body": True})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _line(message: WireModel) -> bytes:
    """Return one line of NDJSON in ASCII, so that the only line separator in it is the `\\n` at its end."""
    return json.dumps(message.to_wire(), separators=(",", ":")).encode() + b"\n"
