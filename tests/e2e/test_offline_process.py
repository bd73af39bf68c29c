"""The offline model as a process, and the commands in docs/offline.md."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

DEADLINE_SECONDS = 30

PAGE = (Path(__file__).parents[2] / "docs" / "offline.md").read_text()

COMMAND = [sys.executable, "-m", "komputer.offline", "--port"]


def started(port: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen([*COMMAND, str(port)], stdout=subprocess.PIPE, text=True)


def test_the_command_of_the_page_answers_as_the_page_says() -> None:
    command, expected = re.findall(r"```sh\n(curl .*?)```\n\n```json\n(.*?)```", PAGE, re.DOTALL)[0]
    with started() as model:
        assert model.stdout
        address = model.stdout.readline().strip()
        answer = subprocess.run(
            ["bash", "-c", command.replace("http://127.0.0.1:4010", address)],
            capture_output=True,
            check=True,
            timeout=DEADLINE_SECONDS,
        )
        model.terminate()
    assert json.loads(answer.stdout)["content"] == [{"type": "text", **json.loads(expected)}]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_during_a_response(number: signal.Signals) -> None:
    prompt = '```offline\n[{"say": "One."}, {"wait": 600}, {"say": "Two."}]\n```'
    payload = {"model": "claude-test-1", "stream": True, "messages": [{"role": "user", "content": prompt}]}
    with started() as model:
        assert model.stdout
        address = model.stdout.readline().strip()
        with httpx.stream("POST", f"{address}/v1/messages", json=payload, timeout=DEADLINE_SECONDS) as answer:
            assert "One." in next(answer.iter_text())
            model.send_signal(number)
            assert model.wait(DEADLINE_SECONDS) == 0
        assert model.stdout.read() == ""


def test_a_port_in_use_is_reported_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        refused = subprocess.run(
            [*COMMAND, str(port)], capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS
        )
    assert refused.returncode == 1
    assert refused.stderr == f"The offline model cannot listen on 127.0.0.1:{port}: Address already in use.\n"
