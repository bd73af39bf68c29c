"""The MCP server `komputer`, by which a manager controls agents of its own.

Each call is independent, so it may be repeated, here or at another gateway. Only an agent's current pod has access,
only while a task of the agent is open, and only if its role is manager.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import mcp_types as mcp
import orjson
import structlog
from mcp.server.lowlevel.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from pydantic import ValidationError
from starlette.types import Receive, Scope, Send

from komputer.domain.errors import Conflict, Forbidden, KomputerError, NotFound
from komputer.gateway import bodies
from komputer.gateway.agents.access import PodAccess
from komputer.gateway.agents.identity import PodIdentity
from komputer.gateway.managers import tools
from komputer.gateway.managers.actions import Context, ManagerActions, ToolCallContext
from komputer.gateway.quota import Quotas

log = structlog.get_logger(__name__)

SCOPE_KEY: Final = "komputer.call"
MESSAGE_LIMIT_BYTES: Final = 2**20
"""The largest call: instructions and a system prompt of the maximum length, with room for JSON escapes."""
VALUES_LIMIT: Final = 10_000
"""JSON values in one call, which the MCP library validates several times. The largest call names 64 agents."""


class ManagerEndpoint:
    """An ASGI app for `/komputer/mcp`. It serves inside the `async with` block of `run`."""

    def __init__(self, access: PodAccess, actions: ManagerActions, quotas: Quotas) -> None:
        self._access = access
        self._actions = actions
        self._quotas = quotas
        server: Server[Any] = Server("komputer", on_list_tools=self._list, on_call_tool=self._call)
        self._sessions = StreamableHTTPSessionManager(app=server, stateless=True)

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        async with self._sessions.run():
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = await self._admitted(await self._access.caller(scope["headers"]))
        with self._quotas.posted_bytes.held(call.caller.key.uid) as take:
            raw = await bodies.read(
                receive, scope["headers"], MESSAGE_LIMIT_BYTES, lambda size: take(size * bodies.AS_OBJECTS)
            )
            bodies.require_few_values(raw, VALUES_LIMIT)
            await self._sessions.handle_request({**scope, SCOPE_KEY: call}, bodies.replayed(raw, receive), send)

    async def _admitted(self, caller: PodIdentity) -> ToolCallContext:
        task = await self._open_task(caller)

        async def require_open() -> None:
            now = self._access.identity.known(caller.pod)
            if now.agent.spec.cancel_task_id == task or await self._open_task(now) != task:
                raise Conflict("the task that waited is over", code="task_over")

        return ToolCallContext(caller, task, require_open)

    async def _open_task(self, caller: PodIdentity) -> str:
        if caller.agent.spec.role != "manager":
            raise Forbidden(f"Agent {caller.agent.key} is a worker: it has no agents.", code="not_a_manager")
        return await self._access.open_task(caller)

    async def _list(self, _: Context, __: mcp.PaginatedRequestParams | None) -> mcp.ListToolsResult:
        return mcp.ListToolsResult(
            tools=[
                mcp.Tool(name=name, description=tool.__doc__, input_schema=tools.schema(tool))
                for name, tool in tools.TOOLS.items()
            ]
        )

    async def _call(self, context: Context, request: mcp.CallToolRequestParams) -> mcp.CallToolResult:
        call: ToolCallContext = context.request.scope[SCOPE_KEY]  # type: ignore[union-attr]
        kind = tools.TOOLS.get(request.name)
        try:
            if kind is None:
                raise NotFound(f"there is no tool {request.name[:64]!r}")
            arguments = kind.model_validate(request.arguments or {})
            answer = await self._actions.carry_out(request.name, context, call, arguments)
        except ValidationError as wrong:
            return _result(tools.explained(wrong), is_error=True)
        except KomputerError as error:
            log.info("manager's call refused", agent=call.manager.key, tool=request.name, code=error.code)
            return _result(f"{error.message} ({error.code})", is_error=True)
        return _result(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())


def _result(text: str, *, is_error: bool = False) -> mcp.CallToolResult:
    return mcp.CallToolResult(content=[mcp.TextContent(type="text", text=text)], is_error=is_error)
