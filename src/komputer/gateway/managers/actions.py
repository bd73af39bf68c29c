"""The actions of a manager's tools."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

import orjson
from mcp.server.context import ServerRequestContext

from komputer.domain.agent import Agent
from komputer.domain.base import Manifest, fields_of
from komputer.domain.errors import Conflict
from komputer.domain.ref import ObjectRef
from komputer.events.log import Log
from komputer.gateway.agents.identity import PodIdentity
from komputer.gateway.caches import Caches
from komputer.gateway.managers import ownership, tools, waiting
from komputer.gateway.managers.cascade import CancelCascade, assigned_task
from komputer.kube import CacheChange
from komputer.services.agents.agents import Agents
from komputer.services.agents.claim import NewTask
from komputer.services.agents.view import agent_view

TOOL_USE: Final = "claudecode/toolUseId"
"""The field of a request's metadata with the id of Claude's tool call. A repeated call has the same id."""
LISTED: Final = (
    "name",
    "role",
    "model",
    "status",
    "taskStatus",
    "lastTaskOutcome",
    "lastTaskMessage",
    "officeManager",
)
"""Fields of an agent in `list_agents`."""
Context = ServerRequestContext[Any]


class ToolCallContext(NamedTuple):
    """A tool call: the calling manager, its open task, and a check that both are still current."""

    caller: PodIdentity
    task: str
    require_open: Callable[[], Awaitable[None]]
    """Raises `KomputerError` if the calling task is being cancelled or has ended."""

    @property
    def manager(self) -> Agent:
        return self.caller.agent

    @property
    def namespace(self) -> str:
        return self.caller.pod.namespace


class ManagerActions:
    """Executes tool calls. It keeps no results: a repeated call gets its answer from the resources and the log, at this
    gateway or another, and nothing is done twice."""

    def __init__(
        self, agents: Agents, caches: Caches, log: Log, waiter: waiting.Waiter, cascade: CancelCascade
    ) -> None:
        self._agents = agents
        self._caches = caches
        self._log = log
        self._waiter = waiter
        self._cascade = cascade
        self._creating: dict[str, asyncio.Lock] = {}
        self._by_name: dict[str, Callable[[Context, ToolCallContext, Any], Awaitable[Any]]] = {
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

    async def carry_out(self, tool: str, context: Context, call: ToolCallContext, arguments: tools.Arguments) -> Any:
        """Return the tool's answer, a JSON value. Raises `KomputerError`."""
        return await self._by_name[tool](context, call, arguments)

    def agent_changed(self, change: CacheChange) -> None:
        if change.type == "DELETED":
            self._creating.pop(change.manifest["metadata"]["uid"], None)

    async def _create_agent(self, context: Context, call: ToolCallContext, given: tools.CreateAgentArguments) -> Any:
        manager, find = call.manager, self._find(call)
        task = _new_task(context, call, given.instructions)
        # One at a time for each manager: two concurrent calls could both find room for the last permitted agent.
        async with self._creating.setdefault(manager.metadata.uid, asyncio.Lock()):
            existing = find(given.name)
            own = ownership.children(manager, self._caches.agents.items(call.namespace))
            is_repeated = existing is not None and assigned_task(existing).get("id") == task.id
            if not is_repeated:
                manifest = await self._agents.one(call.namespace, manager.metadata.name)
                ownership.require_room(manager, manifest, find, len(own), self._caches.config())
            spec = ownership.settings_of_child(manager, given.role, given.model, given.system_prompt, given.connectors)
            created = await self._agents.create(call.namespace, given.name, task, spec, ownership.belonging_to(manager))
        await self._task_given(call, created, task.id)
        return {"agent": given.name, "task_id": task.id, "role": given.role, "model": spec["model"]}

    async def _assign_task(self, context: Context, call: ToolCallContext, given: tools.AssignTask) -> Any:
        await self._require_own(call, given.agent)
        task = _new_task(context, call, given.instructions)
        assigned = await self._agents.assign(call.namespace, given.agent, task, {})
        await self._task_given(call, assigned, task.id)
        return {"agent": given.agent, "task_id": task.id}

    async def _get_agent(self, _: Context, call: ToolCallContext, given: tools.GetAgent) -> Any:
        found = await self._agents.view(call.namespace, given.agent)
        return found.agent.to_wire() | {"is_yours": self._is_own(call, given.agent)}

    async def _list_agents(self, _: Context, call: ToolCallContext, __: tools.ListAgents) -> Any:
        here = [each for each in self._agents.manifests() if each["metadata"]["namespace"] == call.namespace]
        live = await self._log.live_many(map(ObjectRef.of, here))
        bodies = [agent_view(each, live.get(ObjectRef.of(each))).to_wire() for each in here]
        return [
            {key: body[key] for key in LISTED if key in body} | {"is_yours": self._is_own(call, body["name"])}
            for body in sorted(bodies, key=lambda body: str(body["name"]))
        ]

    async def _get_agent_events(self, _: Context, call: ToolCallContext, given: tools.GetAgentEvents) -> Any:
        uid = (await self._agents.one(call.namespace, given.agent))["metadata"]["uid"]
        page = await self._log.page(call.namespace, given.agent, limit=given.limit, before=given.before, uid=uid)
        return [orjson.loads(entry) for entry in page.entries]

    async def _wait_for_agents(self, context: Context, call: ToolCallContext, given: tools.WaitForAgents) -> Any:
        tasks = []
        for each in given.agents:
            wait = tools.Awaited(agent=each) if isinstance(each, str) else each
            manifest = await self._agents.one(call.namespace, wait.agent)
            task_id = wait.task_id or waiting.newest_task(manifest)
            tasks.append(waiting.WaitRequest(wait.agent, manifest["metadata"]["uid"], task_id))
        if call.manager.metadata.name in {task.name for task in tasks}:
            raise Conflict("an agent cannot wait for itself: the wait would never end", code="own_task")

        async def report(ended: int, text: str) -> None:
            await context.session.report_progress(ended, len(tasks), text)

        return await self._waiter.until_ended(call.namespace, tasks, call.require_open, report)

    async def _cancel_task(self, _: Context, call: ToolCallContext, given: tools.CancelTask) -> Any:
        await self._require_own(call, given.agent)
        await self._agents.cancel(call.namespace, given.agent, given.task_id)
        return {"agent": given.agent, "status": "cancelling"}

    async def _delete_agent(self, _: Context, call: ToolCallContext, given: tools.DeleteAgent) -> Any:
        await self._require_own(call, given.agent)
        await self._agents.delete(call.namespace, given.agent)
        return {"agent": given.agent, "status": "deleted"}

    async def _list_connectors(self, _: Context, call: ToolCallContext, __: tools.ListConnectors) -> Any:
        own = set(call.manager.spec.connectors or ())
        return [
            {
                "name": each["metadata"]["name"],
                "service": fields_of(each, "spec").get("service"),
                "description": fields_of(each, "spec").get("displayName"),
                "is_yours": each["metadata"]["name"] in own,
            }
            for each in self._caches.connectors.items(call.namespace)
        ]

    def _find(self, call: ToolCallContext) -> ownership.Find:
        return lambda name: self._caches.agents.get(call.namespace, name)

    async def _require_own(self, call: ToolCallContext, name: str) -> None:
        ownership.require_own(call.manager, await self._agents.one(call.namespace, name), self._find(call))

    def _is_own(self, call: ToolCallContext, name: str) -> bool:
        manifest = self._caches.agents.get(call.namespace, name)
        return manifest is not None and call.manager.metadata.uid in ownership.managers_of(manifest, self._find(call))

    async def _task_given(self, call: ToolCallContext, child: Manifest, task_id: str) -> None:
        manager = self._caches.agents.get(call.namespace, call.manager.metadata.name)
        await self._cascade.task_given(manager, call.task, child, task_id)


def _new_task(context: Context, call: ToolCallContext, instructions: str) -> NewTask:
    use = (context.meta or {}).get(TOOL_USE)
    task_id = ownership.task_id_of(call.manager, call.task, use if isinstance(use, str) else None)
    return NewTask(task_id, instructions, call.task)
