"""The local API server dies and comes back: the caches of everybody go on, without a hole."""

import asyncio
import signal
import sys
from asyncio.subprocess import Process
from contextlib import suppress
from pathlib import Path

from komputer.domain.errors import Unavailable
from komputer.kube import CONFIG_MAPS, Cache, Cluster
from tests.waiting import eventually

DEADLINE_S = 30


async def served(folder: Path, port: int) -> tuple[Process, Cluster, int]:
    files = ["--database", str(folder / "objects.db"), "--kubeconfig", str(folder / "kubeconfig")]
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "komputer.local.apiserver", *files, "--port", str(port), stdout=asyncio.subprocess.PIPE
    )
    assert server.stdout is not None
    address = (await asyncio.wait_for(server.stdout.readline(), DEADLINE_S)).decode().strip()
    cluster = Cluster.connect(folder / "kubeconfig")
    async with asyncio.timeout(DEADLINE_S):
        while True:
            with suppress(Unavailable):
                await cluster.list(CONFIG_MAPS)
                return server, cluster, int(address.rsplit(":", 1)[1])
            await asyncio.sleep(0.05)


async def killed(server: Process) -> None:
    server.send_signal(signal.SIGKILL)
    await server.wait()


def config_map(name: str) -> dict[str, object]:
    return {"metadata": {"name": name, "namespace": "default"}}


async def test_a_cache_goes_on_after_the_server_was_killed(tmp_path: Path) -> None:
    server, cluster, port = await served(tmp_path, 0)
    cache = Cache(cluster, CONFIG_MAPS)
    following = asyncio.create_task(cache.run())
    try:
        await asyncio.wait_for(cache.synced(), DEADLINE_S)
        await cluster.create(CONFIG_MAPS, config_map("before"))
        await killed(server)
        server, again, _ = await served(tmp_path, port)
        await again.create(CONFIG_MAPS, config_map("after"))
        await again.delete(CONFIG_MAPS, "before", "default")
        await again.close()

        def has_caught_up() -> bool:
            """What was missed is told before the watch is known to be open again."""
            told = [each["metadata"]["name"] for each in cache.items("default")]
            return told == ["after"] and cache.stale_s == 0 and cache.error is None

        await eventually(has_caught_up, DEADLINE_S)
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        await cluster.close()
        await killed(server)
