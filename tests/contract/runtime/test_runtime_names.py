"""Names of MCP servers that the Claude CLI keeps for itself: connectors cannot have them."""

import json
import os
import subprocess
from pathlib import Path

from komputer.domain.connector import CLAUDE_NAMES
from komputer.runtime.claude.options import executable
from tests.contract.gateway.serving import free_port


def test_claude_does_not_load_servers_of_its_own_names(tmp_path: Path) -> None:
    """`ide` is loaded, and its tools are hidden. Nothing listens at the addresses: a server is known as failed."""
    server = {"type": "http", "url": f"http://127.0.0.1:{free_port()}/mcp"}
    servers = tmp_path / "servers.json"
    servers.write_text(json.dumps({"mcpServers": dict.fromkeys([*CLAUDE_NAMES, "github"], server)}))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{free_port()}",
        "ANTHROPIC_API_KEY": "none",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_MAX_RETRIES": "0",
        "MCP_TIMEOUT": "3000",
    }
    given = ["--mcp-config", str(servers), "--strict-mcp-config", "--model", "claude-sonnet-4-6"]
    command = [str(executable()), "-p", "--output-format", "stream-json", "--verbose", *given, "Hello"]
    said = subprocess.run(
        command, env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False
    )
    lines = [json.loads(line) for line in said.stdout.splitlines()]
    [known] = [line["mcp_servers"] for line in lines if line.get("subtype") == "init"]
    assert {each["name"] for each in known} == {"ide", "github"}
