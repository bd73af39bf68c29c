"""The model's credential: only the gateway has it."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.laptop import Laptop, script

KEY = "sk-ant-made-up-0123456789abcdef"


@pytest.fixture
def upstream() -> Iterator[tuple[str, list[str | None]]]:
    """The offline model behind a server that notes which key came with each request."""
    import httpx

    from komputer.offline import app  # noqa: F401 - the model itself runs in a process of its own

    seen: list[str | None] = []
    import subprocess
    import sys

    model = subprocess.Popen(
        [sys.executable, "-m", "komputer.cli", "offline-model", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    assert model.stdout
    address = model.stdout.readline().strip()

    class Notes(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            seen.append(self.headers.get("x-api-key"))
            headers = {
                k: v for k, v in self.headers.items() if k.lower() not in ("host", "content-length", "connection")
            }
            answer = httpx.post(address + self.path, content=body, headers=headers, timeout=60, trust_env=False)
            self.send_response(answer.status_code)
            self.send_header("content-type", answer.headers["content-type"])
            self.send_header("content-length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Notes)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", seen
    server.shutdown()
    server.server_close()
    thread.join()
    model.terminate()
    model.wait()
    model.stdout.close()


SEARCH = (
    "env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'; cat /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; "
    "grep -rIl --exclude-dir=proc --exclude-dir=sys --exclude-dir=usr {key} / 2>/dev/null; echo searched"
)


def test_an_agent_that_looks_everywhere_finds_no_credential(
    new_laptop: Callable[..., Laptop], upstream: tuple[str, list[str | None]]
) -> None:
    address, seen = upstream
    laptop = new_laptop(environment={"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": address})
    assert any("only the gateway has it" in line for line in laptop.output)
    half = KEY[:12]
    command = SEARCH.format(key=f"'{half}'\"'{KEY[12:]}'\"".replace("\"'", "''").replace("'\"", ""))
    laptop.assign("spy", script({"tool": "Bash", "input": {"command": command}}, {"say": "done"}))
    assert laptop.end("spy")["type"] == "task_completed"
    output = laptop.event("spy", "tool_result")["payload"]["output"]
    assert "searched" in output
    assert KEY not in output
    assert seen
    assert set(seen) == {KEY}, "the gateway added it to every request"
    for file in laptop.data_dir.rglob("*"):
        if file.is_file() and not file.is_symlink():
            assert KEY.encode() not in file.read_bytes(), file
    for event in laptop.events("spy"):
        assert KEY not in json.dumps(event)


def test_a_given_credential_is_never_replaced_by_the_offline_model(new_laptop: Callable[..., Laptop]) -> None:
    laptop = new_laptop(environment={"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": "http://127.0.0.1:9"})
    assert not any("offline model answers" in line for line in laptop.output)
    laptop.assign("alone", script({"say": "no"}))
    laptop.event("alone", "retry")
    laptop.http.post("/agents/alone/cancel")
    assert laptop.end("alone", within_s=30)["type"] == "task_cancelled"
