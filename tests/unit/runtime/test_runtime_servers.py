"""How Claude is told of its connectors."""

import json
import stat
from pathlib import Path

import pytest

from komputer.domain.agent import Role
from komputer.protocol import wire
from komputer.runtime.claude.options import Loopback, servers
from komputer.runtime.workspace import write_private


def test_each_connector_is_a_server_of_its_name_at_the_forwarders_address_but_for_names_that_are_none() -> None:
    task = wire.TaskSettings(model="m", role="worker", connectors=["git", "mail", "komputer", "a/b"])
    assert servers(task, Loopback("http://127.0.0.1:4711", "key")) == {
        "mcpServers": {
            name: {
                "type": "http",
                "url": f"http://127.0.0.1:4711/connectors/{name}",
                "headers": {"Authorization": "Bearer key"},
            }
            for name in ("git", "mail")
        }
    }


@pytest.mark.parametrize(
    ("role", "allowed", "disallowed", "named"),
    [
        ("manager", None, [], {"git", "mail", "komputer"}),
        ("worker", None, [], {"git", "mail"}),
        ("manager", None, ["mcp__komputer", "mcp__git__push"], {"git", "mail"}),
        ("manager", ["Bash", "mcp__git"], [], {"git"}),
        ("manager", ["mcp__komputer__create_agent", "mcp__gi", "mcp__mail__send(x)"], [], {"komputer", "mail"}),
    ],
)
def test_a_server_is_there_where_a_tool_of_it_exists(
    role: Role, allowed: list[str] | None, disallowed: list[str], named: set[str]
) -> None:
    task = wire.TaskSettings(
        model="m", role=role, connectors=["git", "mail"], allowed_tools=allowed, disallowed_tools=disallowed
    )
    assert servers(task, Loopback("http://127.0.0.1:4711", "key"))["mcpServers"].keys() == named


def test_the_file_is_private_and_that_of_the_attempt_before_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "servers.json"
    path.write_text("of before")
    path.chmod(0o644)
    write_private(path, json.dumps({"mcpServers": {}}))
    assert json.loads(path.read_text()) == {"mcpServers": {}}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
