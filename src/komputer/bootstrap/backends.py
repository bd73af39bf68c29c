"""The two services that the programs depend on: the Kubernetes API, and Redis, which has the event log."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from komputer.events.log import Log
from komputer.kube import Cluster
from komputer.redis.address import Address

STREAM_PREFIX = "komputer-events"
"""The default prefix of all keys in Redis."""


@dataclass(frozen=True)
class Backends:
    """The addresses of the Kubernetes API and of Redis."""

    kubeconfig: Path | None
    """The kubeconfig of the Kubernetes API. None: the API of the cluster that this pod runs in."""
    redis: Address | str
    stream_prefix: str = STREAM_PREFIX

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[Cluster, Log]]:
        """Open both clients, and close them at the end of the `async with` block. Raises `Invalid` (`kubeconfig`,
        `redis_address`)."""
        cluster = Cluster.connect(self.kubeconfig)
        try:
            log = Log.connect(self.redis, prefix=self.stream_prefix)
            try:
                yield cluster, log
            finally:
                await log.close()
        finally:
            await cluster.close()
