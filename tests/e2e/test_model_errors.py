"""Errors of the model that no repeating mends: through forwarder and gateway to the CLI, and back as a code."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator

import pytest

from komputer.runtime.claude.options import RETRIES
from tests.e2e.laptop import Laptop

WITHIN_S = 60.0
"""Generous for a busy machine; with retries it would be three minutes."""
ERRORS = {
    "wrong key": (401, "authentication_error", "model_unauthorized"),
    "no model": (404, "not_found_error", "model_not_found"),
    "elsewhere": (307, "", "model_unavailable"),
}


class Refusing(http.server.BaseHTTPRequestHandler):
    """A model's address that answers as the task's text says."""

    protocol_version = "HTTP/1.1"
    asked: dict[str, int]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        status, kind = 400, "invalid_request_error"
        for words, (answered, error, _) in ERRORS.items():
            if words in body:
                status, kind = answered, error
                self.asked[words] = self.asked.get(words, 0) + 1
        sent = json.dumps({"type": "error", "error": {"type": kind, "message": "No."}}).encode()
        self.send_response(status)
        if status == 307:
            self.send_header("location", "http://127.0.0.1:9/v1/messages")
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def model() -> Iterator[tuple[str, dict[str, int]]]:
    """An address, and how often it was asked for each kind of error."""
    asked: dict[str, int] = {}
    handler = type("Handler", (Refusing,), {"asked": asked})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.timeout(400)
def test_permanent_errors_of_the_model_end_a_task_at_once(
    new_laptop: Callable[..., Laptop], model: tuple[str, dict[str, int]]
) -> None:
    url, asked = model
    laptop = new_laptop(environment={"ANTHROPIC_API_KEY": "sk-ant-not-a-real-key", "ANTHROPIC_BASE_URL": url})
    agents = {words: words.replace(" ", "-") for words in ERRORS}
    for words, agent in agents.items():
        assert laptop.post(agent, f"Say: {words}").status_code == 201
    for (words, agent), (_, _, code) in zip(agents.items(), ERRORS.values(), strict=True):
        laptop.event(agent, "task_started")
        end = laptop.end(agent, within_s=WITHIN_S)
        assert (end["type"], end["payload"]["code"]) == ("error", code), end
        assert not any(event["type"] == "retry" for event in laptop.events(agent))
        assert asked[words] < RETRIES
