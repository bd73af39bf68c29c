"""Every example runs against a living platform and says what its page promises."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.platform import Platform, script

FOLDER = Path(__file__).parents[2] / "examples"
ENDLESS = script({"tool": "Bash", "input": {"command": "tail -f /dev/null"}})
SAYS = {
    # Not task_started: the published SDK reads the history first and connects afterwards. A busy machine may start the
    # task in between.
    "hello.py": [" text ", "task_completed"],
    "follow_up.py": ["one conversation: True"],
    "cancel.py": ["ended as task_cancelled", "and still there: Running"],
    "settings.py": ["careful has claude-haiku-4-5 and Read, Glob, Grep"],
    "find.py": ["2 of 3: finder-2, finder-1", "1 of 3: finder-0", "example=find"],
    "secret.py": ["weather has ['token'] and is used by ['forecaster']"],
    "connector.py": ["search - ", "attached to ['librarian']", "attached to []"],
    "costs.py": ["1 turns  Count to ten."],
    "group.py": ["task_started", "task_completed"],
    "fan_out.py": ["critic-style: ", "critic-length: "],
}
AGAIN = {"hello.py", "cancel.py", "secret.py", "connector.py"}
"""Run twice: what they have made or seen the first time must not be in the way."""


def test_every_example_is_listed_and_run() -> None:
    there = {path.name for path in FOLDER.glob("*.py")} - {"shared.py"}
    assert there == SAYS.keys()
    page = (FOLDER / "README.md").read_text()
    assert all(f"`{name}`" in page for name in there)


@pytest.mark.parametrize("name", sorted(SAYS))
def test_an_example_runs(compat: Platform, name: str, request: pytest.FixtureRequest) -> None:
    environment = {**os.environ, "KOMPUTER_API": compat.url.removeprefix("http://") + "/api/v1/"}
    if name == "connector.py":
        environment |= request.getfixturevalue("notes_server")
    arguments = [ENDLESS] if name == "cancel.py" else []
    printed = []
    for _ in range(2 if name in AGAIN else 1):
        done = subprocess.run(
            [sys.executable, str(FOLDER / name), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        for words in SAYS[name]:
            assert words in done.stdout, done.stdout
        printed.append(done.stdout)
    if name == "hello.py":
        first, second = ({line.split()[0] for line in output.splitlines()} for output in printed)
        assert max(first) < min(second), "the second run shows the second task"


@pytest.fixture
def notes_server(compat: Platform) -> Iterator[dict[str, str]]:
    """A real MCP server that wants its token on every request."""
    program = '''
import contextlib, socket, sys, uvicorn
from mcp.server.mcpserver import MCPServer
from starlette.responses import PlainTextResponse
server = MCPServer("notes")

@server.tool()
def search(words: str) -> str:
    """Find notes."""
    return "none"

app = server.streamable_http_app(host=sys.argv[1])

async def guarded(scope, receive, send):
    headers = dict(scope.get("headers", ()))
    if scope["type"] == "http" and headers.get(b"authorization") != b"Bearer notes-token":
        await PlainTextResponse("who are you?", 401)(scope, receive, send)
        return
    await app(scope, receive, send)

listening = socket.create_server((sys.argv[1], 0))
print(listening.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(guarded, log_level="error")).run(sockets=[listening])
'''
    with subprocess.Popen([sys.executable, "-c", program, compat.ip], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        port = server.stdout.readline().strip()
        yield {"MCP_URL": f"http://{compat.ip}:{port}/mcp", "MCP_TOKEN": "notes-token"}
        server.terminate()
