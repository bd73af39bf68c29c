"""The condition for every request that leaves the platform: an agent's current pod, with an open task."""

from collections.abc import Iterable
from typing import NamedTuple

from komputer.gateway.agents.identity import Identity, PodIdentity
from komputer.gateway.agents.open_tasks import OpenTasks
from komputer.kube import CacheChange


class PodAccess(NamedTuple):
    """Identifies the caller, and finds the caller's open task."""

    identity: Identity
    open_tasks: OpenTasks

    async def caller(self, headers: Iterable[tuple[bytes, bytes]]) -> PodIdentity:
        """Return the pod and agent of a request; raises as `Identity.caller` does."""
        return await self.identity.caller(headers)

    async def open_task(self, caller: PodIdentity) -> str:
        """Return the id of the caller's open task; raises as `OpenTasks.of` does."""
        return await self.open_tasks.of(caller)

    def agent_deleted(self, change: CacheChange) -> None:
        metadata = change.manifest["metadata"]
        self.identity.forget(metadata["namespace"], metadata["name"])
        self.open_tasks.forget(metadata["uid"])
