"""A model's address that keeps what it is asked: the offline model, behind a server that passes requests on."""

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from tests.e2e.platform import Json

NOT_PASSED = ("host", "content-length", "connection", "accept-encoding")


@dataclass
class Recorder:
    """`keys` and `bodies` of the requests so far, in order."""

    key: str
    """The credential that a platform is to have."""
    url: str = ""
    keys: list[str | None] = field(default_factory=list)
    bodies: list[Json] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """Of a platform whose model this is."""
        return {"ANTHROPIC_API_KEY": self.key, "ANTHROPIC_BASE_URL": self.url}


@contextmanager
def recording(key: str = "sk-ant-made-up-0123456789abcdef") -> Iterator[Recorder]:
    recorder = Recorder(key)
    command = [sys.executable, "-m", "komputer.cli", "offline-model", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as model:
        assert model.stdout
        address = model.stdout.readline().strip()

        class Records(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                recorder.keys.append(self.headers.get("x-api-key"))
                recorder.bodies.append(json.loads(body))
                headers = {name: value for name, value in self.headers.items() if name.lower() not in NOT_PASSED}
                answer = httpx.post(address + self.path, content=body, headers=headers, timeout=60, trust_env=False)
                self.send_response(answer.status_code)
                self.send_header("content-type", answer.headers["content-type"])
                self.send_header("content-length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, *_: object) -> None:
                return

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Records)
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        recorder.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield recorder
        finally:
            server.shutdown()
            server.server_close()
            serving.join()
            model.terminate()
