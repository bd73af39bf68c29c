"""The options, environment and MCP servers with which Claude is started for a task."""

from __future__ import annotations

import importlib.resources
import importlib.util
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from komputer.domain.agent import Role
from komputer.domain.connector import is_connector_name
from komputer.protocol import wire
from komputer.runtime import mcp_proxy
from komputer.runtime.claude.tools import ToolPolicy, settings_json
from komputer.runtime.settings import RuntimeSettings
from komputer.runtime.task.plan import Start

if TYPE_CHECKING:
    from claude_agent_sdk import ClaudeAgentOptions

LINE_BYTES: Final = 64 * 2**20
"""The longest line of Claude's output; one picture exceeds the SDK's default of 1 MiB."""
HOOK_S: Final = 60
"""How long a tool waits for `before_tools`, which usually takes a fraction of a second. After that the tool does not
run."""
RETRIES: Final = 10
"""Retries of one model request, with pauses that grow to 36 s. They take about three minutes together, enough for a
gateway to restart."""
SERVERS_S: Final = 5
"""How long Claude waits for the connectors' servers before its first turn. A server that has not answered by then is
not available to the task. Claude's default is 30 s."""
TOOL_S: Final = 24 * 3600
"""How long a connector's tool may take: in effect without limit, since the limits of the task apply."""


class Loopback(NamedTuple):
    """The forwarder's address, and the key that the forwarder accepts during one attempt."""

    url: str
    key: str


_SETTINGS: Final = {"cleanupPeriodDays": 36500, "skipWebFetchPreflight": True}


def system_prompt(task: wire.TaskSettings) -> str:
    """Return the system prompt: the agent's own text, a blank line, the built-in prompt of the role, and a note about
    connectors if the task has any."""
    built_in = role_prompt(task.role)
    if connectors := connectors_with_tools(task):
        built_in += (
            f"\n\n# Connectors\n\nThis task has the connectors {', '.join(connectors)}. Their tools are named "
            "mcp__<connector>__<tool>. Where those of one are missing, its server could not be reached or refused: say "
            "so, and do not work around it."
        )
    return f"{task.system_prompt.strip()}\n\n{built_in}" if task.system_prompt else built_in


def connectors_with_tools(task: wire.TaskSettings) -> list[str]:
    return [name for name in task.connectors if is_connector_name(name) and ToolPolicy.of(task).has_server(name)]


def role_prompt(role: Role) -> str:
    return importlib.resources.files("komputer.runtime").joinpath(f"prompts/{role}.md").read_text("utf-8").strip()


def executable() -> Path:
    """Return the path of the Claude CLI that the SDK contains, else of the one on the PATH. Raises
    `FileNotFoundError`."""
    spec = importlib.util.find_spec("claude_agent_sdk")
    if spec and spec.origin:
        bundled = Path(spec.origin).parent / "_bundled" / "claude"
        if bundled.is_file():
            return bundled
    if found := shutil.which("claude"):
        return Path(found)
    raise FileNotFoundError("The Claude CLI was not found: neither in claude_agent_sdk nor on the PATH.")


def environment(
    settings: RuntimeSettings, assignment: wire.Assignment, task: wire.TaskSettings, loopback: Loopback
) -> dict[str, str]:
    """Return the variables that Claude gets in addition to the runtime's own environment."""
    stall_ms = assignment.stall_seconds * 1000
    model = task.model
    secrets = {name: value for name, value in assignment.environment.items() if name.startswith("SECRET_")}
    variables = {
        **secrets,
        "ANTHROPIC_BASE_URL": loopback.url,
        "ANTHROPIC_API_KEY": loopback.key,
        # Helper requests, such as WebFetch's, would use models that the gateway refuses to this agent.
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": model,
        "ANTHROPIC_SMALL_FAST_MODEL": model,
        "CLAUDE_CONFIG_DIR": str(settings.claude),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        # Claude's memory files would carry text of one task into the instructions of the next.
        "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
        "CLAUDE_CODE_MAX_RETRIES": str(RETRIES),
        # Below the time of the runtime's watchdog: Claude can give up a request without an answer and repeat it before
        # the watchdog ends the attempt.
        "API_TIMEOUT_MS": str(max(1000, stall_ms * 2 // 5)),
        "MCP_TIMEOUT": str(SERVERS_S * 1000),
        "MCP_TOOL_TIMEOUT": str(TOOL_S * 1000),
        # A second limit, for a tool that reports no progress. Claude's default is five minutes.
        "CLAUDE_CODE_MCP_TOOL_IDLE_TIMEOUT": str(TOOL_S * 1000),
        "BASH_DEFAULT_TIMEOUT_MS": "120000",
        "BASH_MAX_TIMEOUT_MS": "3600000",
    }
    if os.getuid() == 0:
        # As root, Claude refuses to skip permissions unless this variable says that it is in a sandbox: the pod is one.
        variables["IS_SANDBOX"] = "1"
    return variables


def servers(task: wire.TaskSettings, loopback: Loopback) -> dict[str, Any]:
    """Return Claude's MCP configuration: each connector under its name, and the platform's server for a manager, all at
    the forwarder's address. A server is left out if the task may use none of its tools."""
    bearer = {"Authorization": f"Bearer {loopback.key}"}
    configured: dict[str, dict[str, Any]] = {
        name: {"type": "http", "url": f"{loopback.url}/connectors/{name}", "headers": bearer}
        for name in connectors_with_tools(task)
    }
    if task.role == "manager" and ToolPolicy.of(task).has_server(mcp_proxy.SERVER):
        own = {
            "type": "http",
            "url": loopback.url + mcp_proxy.PATH,
            "headers": bearer,
            "timeout": mcp_proxy.CALL_LIMIT_MS,
        }
        configured[mcp_proxy.SERVER] = own
    return {"mcpServers": configured}


def options(
    settings: RuntimeSettings,
    assignment: wire.Assignment,
    task: wire.TaskSettings,
    start: Start,
    *,
    cli: Path,
    launcher: Path | None,
    loopback: Loopback,
    before_tools: Callable[[], Awaitable[None]],
    is_command: bool = False,
) -> ClaudeAgentOptions:
    """Return the SDK's options for one attempt. `launcher`, if any, is the command that starts `cli`. The files with
    the system prompt and the servers must exist when Claude starts. A tool runs only after `before_tools` has returned,
    and not if it raises."""
    from claude_agent_sdk import ClaudeAgentOptions, HookContext, HookInput, HookJSONOutput, HookMatcher

    policy = ToolPolicy.of(task)

    async def allowed(call: HookInput, _: str | None, __: HookContext) -> HookJSONOutput:
        await before_tools()
        name: object = call.get("tool_name") if isinstance(call, dict) else None
        if not isinstance(name, str) or not policy.may_call(name):
            return {
                "hookSpecificOutput": {
                    "hookEventName": "PreToolUse",
                    "permissionDecision": "deny",
                    "permissionDecisionReason": f"{str(name)[:100]} is not among the tools that this agent may use",
                }
            }
        return {}

    return ClaudeAgentOptions(
        cwd=settings.workspace,
        cli_path=launcher or cli,
        model=task.model,
        resume=start.session_id if start.resume else None,
        session_id=None if start.resume else start.session_id,
        # The prompt is passed in a file (see `extra_args`), since an argument is limited to 128 KiB. `snapshot: False`
        # makes a resumed session use the present prompt; the SDK offers it only with a preset, which adds no text here.
        system_prompt={"type": "preset", "preset": "claude_code", "snapshot": False},
        # The connectors are passed in a file as well: every process could read a key in an argument.
        extra_args={"system-prompt-file": str(settings.system_prompt), "mcp-config": str(settings.servers)},
        tools=policy.built_in,
        disallowed_tools=policy.removed,
        # With rules that allow a tool for some calls only, a call that no rule allows is refused: there is no user to
        # ask.
        permission_mode="dontAsk" if policy.has_allowed_patterns else "bypassPermissions",
        effort=task.effort,
        # `max_turns` limits the turns of a task; it does not apply to a slash command of the runtime, such as /compact.
        max_turns=None if is_command else task.max_turns or None,
        setting_sources=[],
        settings=settings_json(_SETTINGS, policy),
        strict_mcp_config=True,
        # Slash commands and @file references in the text of a task are not interpreted; those of the runtime are.
        verbatim_prompts=not is_command,
        max_buffer_size=LINE_BYTES,
        hooks={"PreToolUse": [HookMatcher(hooks=[allowed], timeout=HOOK_S, on_failure="block")]},
        env=environment(settings, assignment, task, loopback) | ({"KOMPUTER_CLAUDE": str(cli)} if launcher else {}),
    )
