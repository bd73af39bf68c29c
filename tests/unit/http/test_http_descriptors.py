"""A process with few file descriptors keeps answering, whatever is connected to it."""

import json
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

SOFT, HARD = 64, 256
PROCESS = """
import asyncio, json, socket, sys
from komputer.http import descriptors
from komputer.http.connections import totals
from komputer.bootstrap.server import Endpoint, serve

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        return await send({"type": "lifespan.shutdown.complete"})
    stays = scope["path"] == "/stream"
    found = {"limit": descriptors.soft_limit(), "in_use": descriptors.in_use(), "shortage": totals.shortage()}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(found).encode(), "more_body": stays})
    while stays and (await receive())["type"] != "http.disconnect":
        pass

listening = socket.create_server(("127.0.0.1", 0), backlog=512)
asyncio.run(serve(app, Endpoint(listening, lambda: print(listening.getsockname()[1], flush=True))))
"""


def _few() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT, HARD))


@pytest.fixture
def port() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", PROCESS], stdout=subprocess.PIPE, preexec_fn=_few) as process:
        assert process.stdout
        try:
            yield int(next(line for line in process.stdout if line.strip().isdigit()))  # the port follows log lines
        finally:
            process.terminate()


def ask(port: int, path: str = "/", within_s: float = 30) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=within_s) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        got = b""
        while chunk := connection.recv(65536):
            got += chunk
        return got


def test_silent_connections_beyond_the_limit_do_not_block_others(port: int) -> None:
    with ExitStack() as open_ones:
        for _ in range(HARD + 100):
            open_ones.enter_context(socket.create_connection(("127.0.0.1", port)))
        answer = ask(port)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert f'"limit": {HARD}'.encode() in answer, "the soft limit was raised"


def test_streams_beyond_the_limit_are_refused_with_503_and_reported(port: int) -> None:
    refused, streams = b"", []
    with ExitStack() as open_ones:
        for _ in range(HARD):
            stream = open_ones.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            stream.sendall(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
            first = stream.recv(65536)
            if not first.startswith(b"HTTP/1.1 200 "):
                refused = first
                break
            streams.append(stream)
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert json.loads(refused.partition(b"\r\n\r\n")[2])["code"] == "too_many_connections"
        for stream in streams[-3:]:
            stream.close()
        end = time.monotonic() + 8
        while not (answer := ask(port)).startswith(
            b"HTTP/1.1 200 "
        ):  # the server has not noticed yet that they are closed
            assert time.monotonic() < end, answer
            time.sleep(0.05)
        assert b"there is no room for more connections" in answer
