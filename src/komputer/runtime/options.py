"""How Claude is started for a task."""

from __future__ import annotations

import importlib.resources
import importlib.util
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from komputer.resources import door
from komputer.resources.agent import Role
from komputer.runtime.plan import Start
from komputer.runtime.settings import Settings

if TYPE_CHECKING:
    from claude_agent_sdk import ClaudeAgentOptions

TOOLS: Final = (
    "Bash",
    "Read",
    "Write",
    "Edit",
    "Glob",
    "Grep",
    "WebFetch",
    "TaskCreate",
    "TaskGet",
    "TaskList",
    "TaskUpdate",
    "TaskStop",
)
"""All that exists for the model. No WebSearch: it runs on the model's servers. The Task tools are its list of things to
do, and TaskStop ends a background command."""

LINE_BYTES: Final = 64 * 2**20
"""Of one line that Claude may say; one picture is more than the SDK's default of 1 MiB."""
HOOK_S: Final = 60
"""How long a tool may wait for `before_tools`, which takes a fraction of a second; then it does not run."""
RETRIES: Final = 10
"""Of one request to the model, with pauses that grow to 36 s: some three minutes, in which a gateway comes back."""
_SETTINGS: Final = '{"cleanupPeriodDays":36500,"skipWebFetchPreflight":true}'


def system_prompt(task: door.TaskSettings) -> str:
    """The caller's prompt, a blank line, the built-in one of the role."""
    built_in = role_prompt(task.role)
    return f"{task.system_prompt.strip()}\n\n{built_in}" if task.system_prompt else built_in


def role_prompt(role: Role) -> str:
    return importlib.resources.files("komputer.runtime").joinpath(f"prompts/{role}.md").read_text().strip()


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
    settings: Settings, assignment: door.Assignment, task: door.TaskSettings, url: str, key: str
) -> dict[str, str]:
    """What Claude gets beside what all of our processes have. `url` and `key` are the forwarder's."""
    stall_ms = assignment.stall_seconds * 1000
    model = task.model
    given = {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": key,
        # Helpers such as WebFetch's would ask models that the gateway does not allow to this agent.
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": model,
        "ANTHROPIC_SMALL_FAST_MODEL": model,
        "CLAUDE_CONFIG_DIR": str(settings.claude),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_MAX_RETRIES": str(RETRIES),
        # Claude notices a request without an answer before our watchdog ends the task, and tries again.
        "API_TIMEOUT_MS": str(max(1000, stall_ms * 2 // 5)),
        "BASH_DEFAULT_TIMEOUT_MS": "120000",
        "BASH_MAX_TIMEOUT_MS": "3600000",
    }
    if os.getuid() == 0:
        # Claude refuses to skip permissions as root unless told that it is contained: the pod is.
        given["IS_SANDBOX"] = "1"
    return given


def options(
    settings: Settings,
    assignment: door.Assignment,
    task: door.TaskSettings,
    start: Start,
    *,
    cli: Path,
    url: str,
    key: str,
    before_tools: Callable[[], Awaitable[None]],
) -> ClaudeAgentOptions:
    """Options of the SDK for one attempt. The system prompt's file must be written before. No tool runs before
    `before_tools` has returned, nor where it raises."""
    from claude_agent_sdk import ClaudeAgentOptions, HookContext, HookInput, HookJSONOutput, HookMatcher

    async def allowed(_: HookInput, __: str | None, ___: HookContext) -> HookJSONOutput:
        await before_tools()
        return {}

    return ClaudeAgentOptions(
        cwd=settings.workspace,
        cli_path=cli,
        model=task.model,
        resume=start.session_id if start.resume else None,
        session_id=None if start.resume else start.session_id,
        # By file, since an argument ends at 128 KiB; and not as it was when the session began, which the SDK can say
        # only of other kinds of prompts: so a kind that adds none of its own.
        system_prompt={"type": "preset", "preset": "claude_code", "snapshot": False},
        extra_args={"system-prompt-file": str(settings.system_prompt)},
        tools=list(TOOLS),
        permission_mode="bypassPermissions",
        setting_sources=[],
        settings=_SETTINGS,
        strict_mcp_config=True,
        # A task's text is a task's text: no slash commands, no files drawn in by an @.
        verbatim_prompts=not start.is_command,
        max_buffer_size=LINE_BYTES,
        hooks={"PreToolUse": [HookMatcher(hooks=[allowed], timeout=HOOK_S, on_failure="block")]},
        env=environment(settings, assignment, task, url, key),
    )
