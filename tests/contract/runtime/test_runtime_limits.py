"""Claude's limits that the runtime lifts: what they do without our settings, and that ours reach Claude."""

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from komputer import offline
from komputer.protocol import wire
from komputer.runtime.claude import options
from komputer.runtime.settings import RuntimeSettings
from tests.contract.gateway.serving import serving
from tests.contract.runtime.platform import script
from tests.fixtures.mcp_servers import McpServer

IDLE: str = "CLAUDE_CODE_MCP_TOOL_IDLE_TIMEOUT"
CLAUDES_OWN_S = 300
TASK = wire.TaskSettings(model="claude-sonnet-4-6", role="worker", connectors=["fixture"])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[McpServer]:
    with McpServer(tmp_path / "mcp") as running:
        yield running


async def answered(folder: Path, server: McpServer, seconds: float, **changes: str | None) -> dict[str, Any]:
    """What a tool that reports nothing for `seconds` gives to Claude, as the runtime starts it but for `changes`."""
    folder.mkdir(parents=True)
    settings = RuntimeSettings(
        gateway_url="http://unused", token_file=folder / "token", workspace=folder, agent="ada", namespace="team"
    )
    assignment = wire.Assignment(uid="u", name="ada", namespace="team", generation=1, settings=TASK)
    async with serving(offline.app(), lifespan="off") as url:
        given = {
            **os.environ,
            **options.environment(settings, assignment, TASK, options.Loopback(url, "key")),
            "HOME": str(folder),
        }
        for name, value in changes.items():
            given.pop(name)
            given |= {} if value is None else {name: value}
        config = {"mcpServers": {"fixture": {"type": "http", "url": server.url}}}
        steps = script({"tool": "mcp__fixture__slow", "input": {"seconds": seconds}}, {"say": "done"})
        claude = await asyncio.create_subprocess_exec(
            options.executable(),
            *("-p", "--verbose", "--output-format", "stream-json", "--model", TASK.model),
            *("--strict-mcp-config", "--mcp-config", json.dumps(config), "--allowedTools", "mcp__fixture"),
            cwd=folder,
            env=given,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=options.LINE_BYTES,
        )
        try:
            output, _ = await claude.communicate(steps.encode())
        finally:
            with contextlib.suppress(ProcessLookupError):
                claude.kill()
    for line in output.splitlines():
        message = json.loads(line)
        for block in message["message"]["content"] if message["type"] == "user" else ():
            if block["type"] == "tool_result":
                return dict(block)
    raise AssertionError(output.decode())


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_silent_tool_is_aborted_by_a_limit_that_our_settings_lift(tmp_path: Path, server: McpServer) -> None:
    """Claude looks at it every 30 s, so that no smaller limit shows it sooner."""
    ours, short = await asyncio.gather(
        answered(tmp_path / "ours", server, 45), answered(tmp_path / "short", server, 45, **{IDLE: "2000"})
    )
    assert not ours.get("is_error")
    assert "slept well" in str(ours["content"])
    assert short.get("is_error")
    assert "no response or progress" in str(short["content"])


@pytest.mark.slow
@pytest.mark.timeout(3 * CLAUDES_OWN_S)
async def test_a_tool_may_be_silent_for_longer_than_claude_s_own_five_minutes(
    tmp_path: Path, server: McpServer
) -> None:
    ours, own = await asyncio.gather(
        answered(tmp_path / "ours", server, CLAUDES_OWN_S + 45),
        answered(tmp_path / "own", server, CLAUDES_OWN_S + 45, **{IDLE: None}),
    )
    assert not ours.get("is_error")
    assert "slept well" in str(ours["content"])
    assert own.get("is_error")
    assert "no response or progress" in str(own["content"])
