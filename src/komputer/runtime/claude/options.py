"""How Claude is started for a task."""

from __future__ import annotations

import importlib.resources
import importlib.util
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

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
"""Of one line that Claude may say; one picture is more than the SDK's default of 1 MiB."""
HOOK_S: Final = 60
"""How long a tool may wait for `before_tools`, which takes a fraction of a second; then it does not run."""
RETRIES: Final = 10
"""Of one request to the model, with pauses that grow to 36 s: some three minutes, in which a gateway comes back."""
SERVERS_S: Final = 5
"""How long Claude waits for the connectors' servers before its first turn; one that hangs is then left out. Claude's
own time is 30 s."""
TOOL_S: Final = 24 * 3600
"""How long a connector's tool may take: the task's limits end it, not ours."""
_SETTINGS: Final = {"cleanupPeriodDays": 36500, "skipWebFetchPreflight": True}


def system_prompt(task: wire.TaskSettings) -> str:
    """The caller's prompt, a blank line, the built-in one of the role; what it can say of connectors is said last."""
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
    """The Claude CLI that the SDK brings, else the one on the PATH. FileNotFoundError where there is none."""
    spec = importlib.util.find_spec("claude_agent_sdk")
    if spec and spec.origin:
        bundled = Path(spec.origin).parent / "_bundled" / "claude"
        if bundled.is_file():
            return bundled
    if found := shutil.which("claude"):
        return Path(found)
    raise FileNotFoundError("The Claude CLI was not found: neither in claude_agent_sdk nor on the PATH.")


def environment(
    settings: RuntimeSettings, assignment: wire.Assignment, task: wire.TaskSettings, url: str, key: str
) -> dict[str, str]:
    """What Claude gets beside what all of our processes have. `url` and `key` are the forwarder's."""
    stall_ms = assignment.stall_seconds * 1000
    model = task.model
    secrets = {name: value for name, value in assignment.environment.items() if name.startswith("SECRET_")}
    given = {
        **secrets,
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": key,
        # Helpers such as WebFetch's would ask models that the gateway does not allow to this agent.
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": model,
        "ANTHROPIC_SMALL_FAST_MODEL": model,
        "CLAUDE_CONFIG_DIR": str(settings.claude),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        # A memory beside the conversation would be words of an earlier task in the next one's instructions.
        "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
        "CLAUDE_CODE_MAX_RETRIES": str(RETRIES),
        # Claude notices a request without an answer before our watchdog ends the task, and tries again.
        "API_TIMEOUT_MS": str(max(1000, stall_ms * 2 // 5)),
        "MCP_TIMEOUT": str(SERVERS_S * 1000),
        "MCP_TOOL_TIMEOUT": str(TOOL_S * 1000),
        # A second limit, of a tool that reports nothing; Claude's own is five minutes.
        "CLAUDE_CODE_MCP_TOOL_IDLE_TIMEOUT": str(TOOL_S * 1000),
        "BASH_DEFAULT_TIMEOUT_MS": "120000",
        "BASH_MAX_TIMEOUT_MS": "3600000",
    }
    if os.getuid() == 0:
        # Claude refuses to skip permissions as root unless told that it is contained: the pod is.
        given["IS_SANDBOX"] = "1"
    return given


def servers(task: wire.TaskSettings, url: str, key: str) -> dict[str, Any]:
    """Claude's MCP configuration: each connector under its name, and a manager's own server, at the forwarder's
    address; those without a tool that exists are left out. `key` is good there only, and for this attempt."""
    bearer = {"Authorization": f"Bearer {key}"}
    found: dict[str, dict[str, Any]] = {
        name: {"type": "http", "url": f"{url}/connectors/{name}", "headers": bearer}
        for name in connectors_with_tools(task)
    }
    if task.role == "manager" and ToolPolicy.of(task).has_server(mcp_proxy.SERVER):
        own = {"type": "http", "url": url + mcp_proxy.PATH, "headers": bearer, "timeout": mcp_proxy.CALL_LIMIT_MS}
        found[mcp_proxy.SERVER] = own
    return {"mcpServers": found}


def options(
    settings: RuntimeSettings,
    assignment: wire.Assignment,
    task: wire.TaskSettings,
    start: Start,
    *,
    cli: Path,
    launcher: Path | None,
    url: str,
    key: str,
    before_tools: Callable[[], Awaitable[None]],
    is_command: bool = False,
) -> ClaudeAgentOptions:
    """Options of the SDK for one attempt. `launcher` starts `cli`, where there is one. The files of the system prompt
    and of the servers must be written before. No tool runs before `before_tools` has returned, nor where it raises."""
    from claude_agent_sdk import ClaudeAgentOptions, HookContext, HookInput, HookJSONOutput, HookMatcher

    exist = ToolPolicy.of(task)

    async def allowed(call: HookInput, _: str | None, __: HookContext) -> HookJSONOutput:
        await before_tools()
        name = call.get("tool_name")
        if isinstance(name, str) and not exist.may_call(name):
            return {
                "hookSpecificOutput": {
                    "hookEventName": "PreToolUse",
                    "permissionDecision": "deny",
                    "permissionDecisionReason": f"{name} is not among the tools that this agent may use",
                }
            }
        return {}

    return ClaudeAgentOptions(
        cwd=settings.workspace,
        cli_path=launcher or cli,
        model=task.model,
        resume=start.session_id if start.resume else None,
        session_id=None if start.resume else start.session_id,
        # By file, since an argument ends at 128 KiB; and not as it was when the session began, which the SDK can say
        # only of other kinds of prompts: so a kind that adds none of its own.
        system_prompt={"type": "preset", "preset": "claude_code", "snapshot": False},
        # The connectors by file as well, beside what `mcp_servers` may say.
        extra_args={"system-prompt-file": str(settings.system_prompt), "mcp-config": str(settings.servers)},
        tools=exist.built_in,
        disallowed_tools=exist.removed,
        # Where tools are allowed for some calls only, what no rule allows is refused; nobody is there to be asked.
        permission_mode="dontAsk" if exist.has_allowed_patterns else "bypassPermissions",
        effort=task.effort,
        # A command of ours, such as /compact, is no turn that the setting is about.
        max_turns=None if is_command else task.max_turns or None,
        setting_sources=[],
        settings=settings_json(_SETTINGS, exist),
        strict_mcp_config=True,
        # A task's text is a task's text: no slash commands, no files drawn in by an @; but for commands of ours.
        verbatim_prompts=not is_command,
        max_buffer_size=LINE_BYTES,
        hooks={"PreToolUse": [HookMatcher(hooks=[allowed], timeout=HOOK_S, on_failure="block")]},
        env=environment(settings, assignment, task, url, key) | ({"KOMPUTER_CLAUDE": str(cli)} if launcher else {}),
    )
