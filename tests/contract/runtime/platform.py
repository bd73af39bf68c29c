"""What a runtime needs around it: the door on the real log, the offline model behind it, a resource that can be set.

The door's answers are the log's own. Only Kubernetes is left out: the assignment is a value of the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send
from ulid import ULID

from komputer import offline
from komputer.domain.tasks import END_TYPES
from komputer.events.log import Log, LogKey, Numbered
from komputer.events.schema import TaskFailed, from_wire
from komputer.protocol import wire
from komputer.runtime.changes import Changes

WITHIN_S = 90.0
"""Nothing here takes long; two cores shared with others may."""
PULSE_S = 1.0


def script(*steps: dict[str, Any], words: str = "Do it.") -> str:
    return f"{words}\n```offline\n{json.dumps(steps)}\n```"


WAIT_FOR_GO = {
    "tool": "Bash",
    "input": {"command": "echo ran >> runs; until [ -e go ]; do read -t 0.1 < <(tail -f /dev/null); done"},
}
"""Runs until the test makes the file `go`."""


class Platform:
    """One agent's world. `url` stays the same while the gateway is away."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.key = LogKey("team", "ada", str(uuid.uuid4()))
        self.changes = Changes()
        self.assignment = wire.Assignment(
            uid=self.key.uid,
            name="ada",
            namespace="team",
            generation=1,
            settings=wire.TaskSettings(model="claude-sonnet-4-6", role="worker"),
        )
        self.is_gone = False
        self.is_other = False
        """The agent has another pod."""
        self.is_deaf = False
        """Posts get no answer, though the assignment still goes out."""
        self.unanswered_posts = 0
        self.holds_messages = False
        """What is said is in the log, and not handed to the runtime yet."""
        self.answers: list[str] = []
        """All that the log answered to posts."""
        self.token = "token-1"
        self.tokens: list[str] = []
        self.requests: list[dict[str, Any]] = []
        """Bodies of what the model was sent."""
        self.hellos: list[wire.Hello] = []
        self._port = 0
        self._server: uvicorn.Server | None = None
        self._socket: socket.socket | None = None
        self._streams: set[asyncio.Task[Any]] = set()
        self._model = offline.app()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    # ---- the resource ----

    def change(self, **changes: Any) -> None:
        """A change of the spec: the generation moves. `changes` are of the assignment or of its settings."""
        fields = {key: changes.pop(key) for key in list(changes) if key in wire.TaskSettings.model_fields}
        changes["settings"] = self.assignment.settings.model_copy(update=fields)
        changes = {"generation": self.assignment.generation + 1, **changes}
        self.assignment = self.assignment.model_copy(update=changes)
        self.changes.notify()

    def assign(self, instructions: str, **changes: Any) -> str:
        task = str(ULID())
        self.change(task=wire.AssignedTask(id=task, instructions=instructions), **changes)
        return task

    async def say(self, task: str, content: str) -> str:
        said = await self.log.message(self.key, task, content)
        assert said is not None, "no task runs"
        self.changes.notify()
        return said.id

    def cancel(self, task: str) -> None:
        self.change(cancel_task_id=task)

    def account(self, *tasks: str) -> None:
        """A change of the status: the generation stays."""
        self.change(accounted=[*self.assignment.accounted, *tasks], generation=self.assignment.generation)

    def delete(self) -> None:
        self.is_gone = True
        self.changes.notify()

    # ---- the log ----

    async def events(self, task: str | None = None) -> list[dict[str, Any]]:
        page = await self.log.page(self.key.namespace, self.key.name, limit=1000)
        events = [json.loads(entry) for entry in page.entries]
        return [event for event in events if task is None or event["payload"]["task_id"] == task]

    async def until(
        self, holds: Callable[[list[dict[str, Any]]], bool], task: str | None = None
    ) -> list[dict[str, Any]]:
        """The events as soon as they are so. Looks again whenever something was posted."""
        events: list[dict[str, Any]] = []
        try:
            async with asyncio.timeout(WITHIN_S):
                while True:
                    events = await self.events(task)
                    if holds(events):
                        return events
                    await self.changes.until(lambda: False, timeout_s=0.05)
        except TimeoutError:
            raise AssertionError([(e["type"], e["payload"]) for e in events]) from None

    async def ended(self, task: str) -> dict[str, Any]:
        """The task's one end."""
        events = await self.until(lambda events: any(e["type"] in END_TYPES for e in events), task)
        (end,) = [event for event in events if event["type"] in END_TYPES]
        assert events[-1] is end
        return {"type": end["type"], **end["payload"]}

    async def saw(self, kind: str, task: str, times: int = 1) -> None:
        await self.until(lambda events: sum(e["type"] == kind for e in events) >= times, task)

    async def end(self, task: str) -> None:
        """As the operator does it."""
        event = TaskFailed(task_id=task, error="the node is gone", code="runtime_lost")
        assert await self.log.end(self.key, event, generation=self.assignment.generation, floor=None) == "ok"

    # ---- the gateway ----

    async def start(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", self._port), reuse_port=False)
        self._port = self._socket.getsockname()[1]
        routes = [
            Route("/v1/hello", self._hello, methods=["POST"]),
            Route("/v1/assignment", self._assignments),
            Route("/v1/events", self._events, methods=["POST"]),
            Route("/v1/heartbeat", self._heartbeat, methods=["POST"]),
            Mount("/model", self._ask_model),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes), lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1
        )
        config.load()
        self._server = uvicorn.Server(config)
        self._server.lifespan = config.lifespan_class(config)
        await self._server.startup(sockets=[self._socket])

    async def stop(self) -> None:
        """As if its process had died: nobody listens, connections break."""
        assert self._server is not None
        assert self._socket is not None
        for connection in list(self._server.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        await self._server.shutdown(sockets=[self._socket])
        self._socket.close()

    async def _hello(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        body = wire.Hello.model_validate_json(await request.body())
        self.hellos.append(body)
        welcome = await self.log.hello(self.key, old_term=body.term, asked=body.tasks, floor=None)
        return _json(welcome.model_dump_json())

    async def _events(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        if self.is_deaf:
            self.unanswered_posts += 1
            return JSONResponse({"error": "no log", "code": "log_unavailable"}, 503)
        post = wire.Post.model_validate_json(await request.body())
        events = [
            Numbered(each.seq, from_wire(each.type, each.payload), each.generation, each.acked_message_id)
            for each in post.events
        ]
        answers = await self.log.append(self.key, post.term, events)
        self.answers += answers
        self.changes.notify()
        return _json(wire.Posted(answers=answers, format_version=post.format_version).model_dump_json())

    async def _heartbeat(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        beat = wire.Heartbeat.model_validate_json(await request.body())
        return _json((await self.log.pulse(self.key, beat.term, beat.tasks)).model_dump_json())

    async def _assignments(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused

        async def lines() -> AsyncIterator[bytes]:
            last: wire.Assignment | None = None
            message: str | None = None
            while not self.is_gone:
                for said in [] if self.holds_messages or last is None else await self.log.messages(self.key, message):
                    message = said.id
                    line = wire.TaskMessage(
                        id=said.id, task_id=said.payload["task_id"], content=said.payload["content"]
                    )
                    yield line.model_dump_json().encode() + b"\n"
                if self.assignment is not last:
                    last = self.assignment
                    yield last.model_dump_json().encode() + b"\n"
                else:
                    pulse = await self.log.pulse(self.key, 0, [])
                    yield pulse.model_dump_json().encode() + b"\n"
                await self.changes.until(
                    lambda seen=last: self.is_gone or self.assignment is not seen,  # type: ignore[misc]
                    timeout_s=PULSE_S,
                )

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    async def _ask_model(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        if refused := self._refused(request):
            await refused(scope, receive, send)
            return
        body = await request.body()
        self.requests.append(json.loads(body))
        was_read = False

        async def again() -> Any:
            nonlocal was_read
            if was_read:
                return await receive()
            was_read = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._model(scope, again, send)

    def _refused(self, request: Request) -> Response | None:
        self.tokens.append(request.headers.get("authorization", ""))
        if self.is_gone:
            return JSONResponse({"error": "the agent is deleted", "code": "agent_gone"}, 410)
        if self.is_other:
            return JSONResponse({"error": "not the agent's current pod", "code": "not_current_pod"}, 403)
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return JSONResponse({"error": "who are you?", "code": "unauthorized"}, 401)
        return None


def _json(body: str) -> Response:
    return Response(body, media_type="application/json")


class Pod:
    """The runtime's process on a workspace. What a pod's engine gives it, this does."""

    def __init__(self, platform: Platform, folder: Path) -> None:
        self.platform = platform
        self.folder = folder
        self.workspace = folder / "workspace"
        self.workspace.mkdir(exist_ok=True)
        (folder / "tmp").mkdir(exist_ok=True)
        self.token_file = folder / "token"
        self.token_file.write_text(platform.token)
        self.log_file = folder / "runtime.log"
        self.environment: dict[str, str] = {}
        """What a template might add."""
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> Pod:
        environment = {
            "PATH": os.environ["PATH"],
            "TMPDIR": str(self.folder / "tmp"),
            "KOMPUTER_GATEWAY_URL": self.platform.url,
            "KOMPUTER_TOKEN_FILE": str(self.token_file),
            "KOMPUTER_WORKSPACE": str(self.workspace),
            "KOMPUTER_AGENT": "ada",
            "KOMPUTER_NAMESPACE": "team",
            "KOMPUTER_LOG_LEVEL": "DEBUG",
        }
        with self.log_file.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-I", "-B", "-m", "komputer.runtime"),  # as parts.py and the image say
                env=environment | self.environment,
                cwd=self.workspace,
                stdout=output,
                stderr=output,
            )
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def has_logged(self, text: str) -> bool:
        return text in self.log_file.read_text()

    def claude(self) -> psutil.Process | None:
        """The CLI's process, or None."""
        for process in self.tree():
            with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
                if process.name() == "claude":
                    return process
        return None

    def programs(self) -> list[str]:
        """The names of all that runs below the runtime."""
        found = []
        for process in self.tree():
            with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
                found.append(process.name())
        return found

    def tree(self) -> list[psutil.Process]:
        """All processes below the runtime."""
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    async def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    async def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        return await self.exit()

    async def exit(self) -> int:
        assert self._process is not None
        async with asyncio.timeout(WITHIN_S):
            return await self._process.wait()

    async def take_down(self) -> None:
        """At the end of a test, however it went: nothing is left."""
        if self._process is None:
            return
        left = self.tree()
        if self._process.returncode is None:
            await self.kill()
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
