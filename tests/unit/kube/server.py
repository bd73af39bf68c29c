"""An HTTP server that answers what a test tells it to, byte by byte: for what no API server does when it is asked."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from komputer.kube import Cluster

Answer = Callable[[str, asyncio.StreamWriter], Awaitable[None]]
"""Called with the request line; what it does not write, the client does not get. The connection is closed after it."""


@asynccontextmanager
async def answering(answer: Answer, folder: Path) -> AsyncIterator[Cluster]:
    """A Cluster whose server answers each request by `answer`."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next((line.split(":")[1] for line in head.lower().splitlines() if "content-length" in line), "0")
            await reader.readexactly(int(length))
            await answer(head.splitlines()[0], writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(json.dumps(config(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")))
    cluster = Cluster.connect(kubeconfig)
    try:
        yield cluster
    finally:
        await cluster.close()
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await server.wait_closed()


def config(server: str) -> dict[str, Any]:
    return {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": server}}],
        "users": [{"name": "me", "user": {"token": "secret"}}],
    }


async def answer_json(writer: asyncio.StreamWriter, code: int, body: Any, *headers: str) -> None:
    content = json.dumps(body).encode()
    lines = [f"HTTP/1.1 {code} Said", "Content-Type: application/json", f"Content-Length: {len(content)}", *headers]
    writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode() + content)
    await writer.drain()


async def begin_stream(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    await writer.drain()


async def stream(writer: asyncio.StreamWriter, part: bytes) -> None:
    writer.write(b"%x\r\n%s\r\n" % (len(part), part))
    await writer.drain()
