"""The MCP server `komputer`: what a manager does with agents of its own, over its pod's one door.

Stateless: each call stands for itself, so it may come again, here or at another gateway. Only an agent's current pod
gets in, only while a task of it is open, and only where its role is manager.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, NamedTuple

import mcp_types as mcp
import orjson
import structlog
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from pydantic import ValidationError
from starlette.types import Receive, Scope, Send

from komputer.background import Background
from komputer.domain.agent import Agent
from komputer.domain.base import Manifest, fields_of, texts_in
from komputer.domain.config import Config
from komputer.domain.errors import Conflict, Forbidden, KomputerError, NotFound
from komputer.domain.ref import ObjectRef
from komputer.events.follow.notifier import Notifier
from komputer.events.log import Log
from komputer.gateway import bodies
from komputer.gateway.agents.identity import Identity, PodIdentity
from komputer.gateway.agents.open_tasks import OpenTasks
from komputer.gateway.managers import ownership, tools, waiting
from komputer.gateway.quota import Quota
from komputer.kube import Cache, CacheChange
from komputer.services.agents.agents import Agents
from komputer.services.agents.claim import NewTask
from komputer.services.agents.view import agent_view

log = structlog.get_logger(__name__)

SCOPE_KEY: Final = "komputer.turn"
TOOL_USE: Final = "claudecode/toolUseId"
"""Where Claude names its tool call: the same when a call is sent again."""
MESSAGE_LIMIT_BYTES: Final = 2**20
"""Of one call: instructions and a prompt at their largest, with room for JSON's escapes."""
VALUES_LIMIT: Final = 10_000
"""JSON values in one call, which the MCP library checks several times. The largest call names 64 agents."""
Context = ServerRequestContext[Any]


class Turn(NamedTuple):
    """A call's manager, and the task in which it calls."""

    caller: PodIdentity
    task: str

    @property
    def manager(self) -> Agent:
        return self.caller.agent

    @property
    def namespace(self) -> str:
        return self.caller.pod.namespace


class Managers:
    """An ASGI app for `/komputer/mcp`. `run` while it serves; `agent_changed` tells it of every agent."""

    def __init__(
        self,
        identity: Identity,
        agents: Agents,
        cache: Cache,
        connectors: Cache,
        event_log: Log,
        open_tasks: OpenTasks,
        notifier: Notifier,
        config: Callable[[], Config | None],
        held_bytes: Quota,
    ) -> None:
        self._identity = identity
        self._agents = agents
        self._cache = cache
        self._connectors = connectors
        self._log = event_log
        self._open_tasks = open_tasks
        self._notifier = notifier
        self._config = config
        self._held_bytes = held_bytes
        self._making: dict[str, asyncio.Lock] = {}
        self._cascading: set[tuple[str, str, str]] = set()
        self._background = Background()
        server: Server[Any] = Server("komputer", on_list_tools=self._list, on_call_tool=self._call)
        self._sessions = StreamableHTTPSessionManager(app=server, stateless=True)
        self._calls: dict[str, Callable[[Context, Turn, Any], Awaitable[Any]]] = {
            "create_agent": self._create_agent,
            "assign_task": self._assign_task,
            "get_agent": self._get_agent,
            "list_agents": self._list_agents,
            "get_agent_events": self._get_agent_events,
            "wait_for_agents": self._wait_for_agents,
            "cancel_task": self._cancel_task,
            "delete_agent": self._delete_agent,
            "list_connectors": self._list_connectors,
        }

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        async with self._background, self._sessions.run():
            yield

    @property
    def problem(self) -> str | None:
        """Why a cancel does not reach a child, or None."""
        return self._background.problem

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        turn = await self._turn(await self._identity.caller(scope["headers"]))
        with self._held_bytes.held(turn.caller.key.uid) as take:
            raw = await bodies.read(
                receive, scope["headers"], MESSAGE_LIMIT_BYTES, lambda size: take(size * bodies.AS_OBJECTS)
            )
            bodies.require_few_values(raw, VALUES_LIMIT)
            await self._sessions.handle_request({**scope, SCOPE_KEY: turn}, bodies.again(raw, receive), send)

    async def _turn(self, caller: PodIdentity) -> Turn:
        if caller.agent.spec.role != "manager":
            raise Forbidden(f"Agent {caller.agent.key} is a worker: it has no agents.", code="not_a_manager")
        return Turn(caller, await self._open_tasks.of(caller))

    # ---- MCP ------------------------------------------------------------------------------------------------------
    async def _list(self, _: Context, __: mcp.PaginatedRequestParams | None) -> mcp.ListToolsResult:
        return mcp.ListToolsResult(
            tools=[
                mcp.Tool(name=name, description=tool.__doc__, input_schema=tools.schema(tool))
                for name, tool in tools.TOOLS.items()
            ]
        )

    async def _call(self, context: Context, asked: mcp.CallToolRequestParams) -> mcp.CallToolResult:
        turn: Turn = context.request.scope[SCOPE_KEY]  # type: ignore[union-attr]
        kind = tools.TOOLS.get(asked.name)
        try:
            if kind is None:
                raise NotFound(f"there is no tool {asked.name[:64]!r}")
            answer = await self._calls[asked.name](context, turn, kind.model_validate(asked.arguments or {}))
        except ValidationError as wrong:
            return _said(tools.explained(wrong), is_error=True)
        except KomputerError as error:
            log.info("manager's call refused", agent=turn.manager.key, tool=asked.name, code=error.code)
            return _said(f"{error.message} ({error.code})", is_error=True)
        return _said(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())

    # ---- tools ----------------------------------------------------------------------------------------------------
    async def _create_agent(self, context: Context, turn: Turn, asked: tools.CreateAgentArguments) -> Any:
        manager, look = turn.manager, self._look(turn)
        task = self._task(context, turn, asked.instructions)
        async with self._making.setdefault(manager.metadata.uid, asyncio.Lock()):
            there = look(asked.name)
            own = ownership.children(manager, self._cache.items(turn.namespace))
            is_repeated = there is not None and _given_to(there).get("id") == task.id
            if not is_repeated:
                ownership.require_room(manager, await self._manifest(turn), look, len(own), self._config())
            given = ownership.settings_of_child(manager, asked.role, asked.model, asked.system_prompt, asked.connectors)
            made = await self._agents.create(turn.namespace, asked.name, task, given, ownership.belonging_to(manager))
        await self._require_uncancelled(turn, made, task.id)
        return {"agent": asked.name, "task_id": task.id, "role": asked.role, "model": given["model"]}

    async def _assign_task(self, context: Context, turn: Turn, asked: tools.AssignTask) -> Any:
        await self._require_own(turn, asked.agent)
        task = self._task(context, turn, asked.instructions)
        given = await self._agents.assign(turn.namespace, asked.agent, task, {})
        await self._require_uncancelled(turn, given, task.id)
        return {"agent": asked.agent, "task_id": task.id}

    async def _get_agent(self, _: Context, turn: Turn, asked: tools.GetAgent) -> Any:
        found = await self._agents.view(turn.namespace, asked.agent)
        return found.agent.to_wire() | {"is_yours": self._is_own(turn, asked.agent)}

    async def _list_agents(self, _: Context, turn: Turn, __: tools.ListAgents) -> Any:
        here = [each for each in self._agents.manifests() if each["metadata"]["namespace"] == turn.namespace]
        live = await self._log.live_many(map(ObjectRef.of, here))
        bodies = [agent_view(each, live.get(ObjectRef.of(each))).to_wire() for each in here]
        shown = ("name", "role", "model", "status", "taskStatus", "lastTaskOutcome", "lastTaskMessage", "officeManager")
        return [
            {key: body[key] for key in shown if key in body} | {"is_yours": self._is_own(turn, body["name"])}
            for body in sorted(bodies, key=lambda body: str(body["name"]))
        ]

    async def _get_agent_events(self, _: Context, turn: Turn, asked: tools.GetAgentEvents) -> Any:
        uid = (await self._agents.one(turn.namespace, asked.agent))["metadata"]["uid"]
        page = await self._log.page(turn.namespace, asked.agent, limit=asked.limit, before=asked.before, uid=uid)
        return [orjson.loads(entry) for entry in page.entries]

    async def _wait_for_agents(self, context: Context, turn: Turn, asked: tools.WaitForAgents) -> Any:
        tasks = []
        for each in asked.agents:
            wait = tools.Awaited(agent=each) if isinstance(each, str) else each
            manifest = await self._agents.one(turn.namespace, wait.agent)
            task_id = wait.task_id or waiting.newest_task(manifest)
            tasks.append(waiting.WaitRequest(wait.agent, manifest["metadata"]["uid"], task_id))
        if turn.manager.metadata.name in {task.name for task in tasks}:
            raise Conflict("an agent does not wait for itself: it would never end", code="own_task")

        async def still() -> None:
            now = self._identity.known(turn.caller.pod)
            if now.agent.spec.cancel_task_id == turn.task or (await self._turn(now)).task != turn.task:
                raise Conflict("the task that waited is over", code="task_over")

        async def tell(done: int, text: str) -> None:
            await context.session.report_progress(done, len(tasks), text)

        return await waiting.until_ended(self._agents, self._log, self._notifier, turn.namespace, tasks, still, tell)

    async def _cancel_task(self, _: Context, turn: Turn, asked: tools.CancelTask) -> Any:
        await self._require_own(turn, asked.agent)
        await self._agents.cancel(turn.namespace, asked.agent, asked.task_id)
        return {"agent": asked.agent, "status": "cancelling"}

    async def _delete_agent(self, _: Context, turn: Turn, asked: tools.DeleteAgent) -> Any:
        await self._require_own(turn, asked.agent)
        await self._agents.delete(turn.namespace, asked.agent)
        return {"agent": asked.agent, "status": "deleted"}

    async def _list_connectors(self, _: Context, turn: Turn, __: tools.ListConnectors) -> Any:
        own = set(turn.manager.spec.connectors or ())
        return [
            {
                "name": each["metadata"]["name"],
                "service": fields_of(each, "spec").get("service"),
                "description": fields_of(each, "spec").get("displayName"),
                "is_yours": each["metadata"]["name"] in own,
            }
            for each in self._connectors.items(turn.namespace)
        ]

    # ---- whose it is ----------------------------------------------------------------------------------------------
    def _look(self, turn: Turn) -> ownership.Look:
        return lambda name: self._cache.get(turn.namespace, name)

    async def _manifest(self, turn: Turn) -> Manifest:
        return await self._agents.one(turn.namespace, turn.manager.metadata.name)

    async def _require_own(self, turn: Turn, name: str) -> None:
        ownership.require_own(turn.manager, await self._agents.one(turn.namespace, name), self._look(turn))

    def _is_own(self, turn: Turn, name: str) -> bool:
        manifest = self._cache.get(turn.namespace, name)
        return manifest is not None and turn.manager.metadata.uid in ownership.line_of(manifest, self._look(turn))

    @staticmethod
    def _task(context: Context, turn: Turn, instructions: str) -> NewTask:
        use = (context.meta or {}).get(TOOL_USE)
        task_id = ownership.task_id_of(turn.manager, turn.task, use if isinstance(use, str) else None)
        return NewTask(task_id, instructions, turn.task)

    # ---- what ends with a task ------------------------------------------------------------------------------------
    async def _require_uncancelled(self, turn: Turn, child: Manifest, task_id: str) -> None:
        """A task that was given while the manager's was being cancelled ends too."""
        manager = self._cache.get(turn.namespace, turn.manager.metadata.name)
        if manager and fields_of(manager, "spec").get("cancelTaskID") == turn.task:
            await self._cancel(turn.namespace, child["metadata"]["name"], task_id)

    def agent_changed(self, change: CacheChange) -> None:
        """Where a manager's task is cancelled, the tasks that it gave are. Level-triggered: whichever of the two is
        seen last, and again after a restart."""
        manifest = change.manifest
        namespace = manifest["metadata"]["namespace"]
        if change.type == "DELETED":
            self._making.pop(manifest["metadata"]["uid"], None)
            return
        cancelled = fields_of(manifest, "spec").get("cancelTaskID")
        if cancelled and cancelled not in texts_in(fields_of(manifest, "status").get("endedTasks")):
            for child in self._cache.items(namespace):
                self._cascade(child, manifest)
        if found := ownership.manager_of(manifest):
            self._cascade(manifest, self._cache.get(namespace, found[0]))

    def _cascade(self, child: Manifest, manager: Manifest | None) -> None:
        task = _given_to(child)
        by, above = task.get("managerTaskID"), ownership.manager_of(child)
        if (
            not by
            or not isinstance(task.get("id"), str)
            or manager is None
            or above is None
            or manager["metadata"]["uid"] != above[1]
        ):
            return
        over = texts_in(fields_of(child, "status").get("endedTasks"))
        if fields_of(manager, "spec").get("cancelTaskID") != by or task["id"] in over:
            return
        if fields_of(child, "spec").get("cancelTaskID") == task["id"]:
            return
        key = (child["metadata"]["namespace"], child["metadata"]["name"], task["id"])
        if key not in self._cascading:
            self._cascading.add(key)
            running = self._background.run(f"cancel of task {key[2]}", partial(self._cancel, *key))
            running.add_done_callback(lambda _: self._cascading.discard(key))

    async def _cancel(self, namespace: str, name: str, task_id: str) -> None:
        try:
            await self._agents.cancel(namespace, name, task_id)
        except (NotFound, Conflict):
            return
        log.info("task cancelled with its manager's", agent=f"{namespace}/{name}", task=task_id)


def _given_to(manifest: Manifest) -> Manifest:
    """The task that the API gave to an agent last."""
    task = fields_of(manifest, "spec").get("task")
    return task if isinstance(task, dict) else {}


def _said(text: str, *, is_error: bool = False) -> mcp.CallToolResult:
    return mcp.CallToolResult(content=[mcp.TextContent(type="text", text=text)], is_error=is_error)
