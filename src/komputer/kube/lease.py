"""Leader election with Kubernetes' Lease, by client-go's rules.

Clocks of two machines are never compared: a holder is considered gone when its Lease has not changed for `DURATION_S`
by our own monotonic clock. The times in the Lease are only informative.

lightkube has no leader election. The election of kubernetes_asyncio needs a second client, measures with the wall
clock, and does not release the Lease on exit, so that another process would wait for `DURATION_S`.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from komputer.domain.errors import Conflict, KomputerError, NotFound
from komputer.kube.cluster import Cluster
from komputer.kube.kinds import LEASES, Manifest

log = structlog.get_logger(__name__)

DURATION_S: Final = 15.0
"""How long a Lease is valid after its last renewal. This, `GIVE_UP_S` and `RETRY_S` are client-go's defaults."""
GIVE_UP_S: Final = 10.0
"""How long the holder retries to renew before it stops leading, in seconds. It must be shorter than `DURATION_S`, for
which the other processes wait."""
RETRY_S: Final = 2.0


class LeadershipLost(KomputerError):
    """Another process leads now, or may soon: this one must exit."""

    code = "leadership_lost"


class Lease:
    """The Lease `namespace/name`, from the view of the process `identity`."""

    def __init__(self, cluster: Cluster, namespace: str, name: str, identity: str) -> None:
        self._cluster = cluster
        self._place = (name, namespace)
        self.identity = identity
        self._observed: Manifest | None = None
        self._observed_at = 0.0

    @property
    def is_held(self) -> bool:
        """Whether this process held the Lease at the last request."""
        return self._observed is not None and self._observed["spec"].get("holderIdentity") == self.identity

    async def acquired(self, stop: asyncio.Event, standing_by: Callable[[], None]) -> bool:
        """Wait until this process holds the Lease. Call `standing_by` at each attempt while another process holds it.
        Return False if `stop` is set first."""
        while not stop.is_set():
            try:
                if await self._try():
                    log.info("leading", lease="/".join(reversed(self._place)), identity=self.identity)
                    return True
                standing_by()
            except KomputerError as error:
                log.warning("lease not read", error=error.message)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), RETRY_S * random.uniform(0.8, 1.2))
        return False

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Renew the Lease while the body runs, and release it at the end. If it cannot be renewed, the body is
        cancelled and `LeadershipLost` is raised."""
        lost: Exception | None = None
        try:
            async with asyncio.TaskGroup() as group:
                renewing = group.create_task(self._renew())
                yield
                renewing.cancel()
        except* LeadershipLost as why:
            lost = why.exceptions[0]
        finally:
            with contextlib.suppress(KomputerError):
                await self._release()
        if lost:
            raise lost

    async def _renew(self) -> None:
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(RETRY_S)
            try:
                if not await self._try():
                    raise LeadershipLost("another process took the lease; this one ends")
                renewed = time.monotonic()
            except LeadershipLost:
                raise
            except KomputerError as error:
                if time.monotonic() - renewed > GIVE_UP_S:
                    raise LeadershipLost(
                        f"the lease was not renewed in time ({error.message}); this one ends"
                    ) from None

    async def _try(self) -> bool:
        """Acquire or renew the Lease. Return False if another process holds it."""
        try:
            found = await self._cluster.get(LEASES, *self._place)
        except NotFound:
            return await self._write(self._cluster.create, None)
        if found["metadata"]["resourceVersion"] != (self._observed or {}).get("metadata", {}).get("resourceVersion"):
            self._observed, self._observed_at = found, time.monotonic()
        holder = found["spec"].get("holderIdentity")
        if holder not in (None, "", self.identity) and time.monotonic() - self._observed_at < DURATION_S:
            return False
        return await self._write(self._cluster.replace, found)

    async def _write(self, write: Any, found: Manifest | None) -> bool:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = dict((found or {}).get("spec") or {})
        if spec.get("holderIdentity") != self.identity:
            spec |= {"acquireTime": now, "leaseTransitions": spec.get("leaseTransitions", -1) + 1}
        spec |= {"holderIdentity": self.identity, "renewTime": now, "leaseDurationSeconds": int(DURATION_S)}
        try:
            written = await write(LEASES, self._manifest(found, spec))
        except Conflict:  # another process has written the Lease since it was read
            return False
        self._observed, self._observed_at = written, time.monotonic()
        return True

    async def _release(self) -> None:
        found = self._observed
        if found is not None and found["spec"].get("holderIdentity") == self.identity:
            await self._cluster.replace(LEASES, self._manifest(found, found["spec"] | {"holderIdentity": ""}))

    def _manifest(self, found: Manifest | None, spec: Manifest) -> Manifest:
        name, namespace = self._place
        metadata = {"name": name, "namespace": namespace}
        if found:
            metadata["resourceVersion"] = found["metadata"]["resourceVersion"]
        return {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec}
