"""Writes the status of agents, and Kubernetes Events about them."""

import contextlib
from datetime import UTC, datetime
from typing import Final, Literal

from komputer.domain.agent import AgentStatus
from komputer.domain.base import Condition, Manifest, with_condition
from komputer.domain.errors import Conflict, NotFound
from komputer.kube import AGENTS, Cluster
from komputer.operator.agent.status import merge_patch
from komputer.operator.cluster_state import ClusterState

COMPONENT: Final = "komputer-operator"
TRANSIENT_REASONS: Final = frozenset({"PodMissing", "PodStarting", "WaitingForOldPod", "WaitingForOldChildren"})
"""Reasons of Ready that are normal while an agent starts. No Event is posted for them."""


class StatusWriter:
    """Writes agents' status, with the resourceVersion that was read: a decision about an old version is not written."""

    def __init__(self, cluster: Cluster, state: ClusterState) -> None:
        self._cluster = cluster
        self._state = state

    async def write(self, manifest: Manifest, old: AgentStatus, new: AgentStatus) -> bool | None:
        """Write `new` if it differs from the status in `manifest`, and post an Event if the agent's readiness has
        changed.

        Return None if there is nothing to write, True if the status was written, and False if the agent has changed
        since `manifest` was read. In the last case the newer agent is read, and has another turn.
        """
        patch = merge_patch(manifest.get("status") or {}, new)
        if not patch:
            return None
        if not await self._patch(manifest, patch):
            return False
        await self._post_event(manifest, old, new)
        return True

    async def write_invalid(self, manifest: Manifest, message: str) -> None:
        """Write a condition on an agent that is not valid; the rest of its status stays as it is."""
        found = manifest.get("status") or {}
        conditions = [Condition.model_validate(condition) for condition in found.get("conditions") or []]
        generation = manifest["metadata"].get("generation")
        invalid = Condition(
            type="Ready", status="False", reason="SpecInvalid", message=message, observed_generation=generation
        )
        now = with_condition(conditions, invalid, datetime.now(UTC))
        patch = {"phase": "Failed", "message": message, "observedGeneration": generation}
        wire = patch | {"conditions": [condition.to_wire() for condition in now]}
        if any(found.get(field) != value for field, value in wire.items()):
            await self._patch(manifest, wire)

    async def _patch(self, manifest: Manifest, patch: Manifest) -> bool:
        """Patch the status of exactly this version of the agent. Return False if that version is outdated."""
        metadata = manifest["metadata"]
        name, namespace = metadata["name"], metadata["namespace"]
        guard = {"metadata": {"resourceVersion": metadata["resourceVersion"], "uid": metadata["uid"]}, "status": patch}
        try:
            written = await self._cluster.merge_patch(AGENTS, name, namespace, guard, "status")
        except NotFound:
            return False
        except Conflict:
            with contextlib.suppress(NotFound):
                self._state.read(AGENTS, await self._cluster.get(AGENTS, name, namespace))
            return False
        self._state.wrote(AGENTS, written)
        return True

    async def _post_event(self, manifest: Manifest, old: AgentStatus, new: AgentStatus) -> None:
        """Post an Event if the condition Ready has changed, except for `TRANSIENT_REASONS`."""
        before, after = (next((c for c in s.conditions if c.type == "Ready"), None) for s in (old, new))
        if after is None or (before and (before.status, before.reason) == (after.status, after.reason)):
            return
        if after.reason in TRANSIENT_REASONS:
            return
        regarding = {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": manifest["metadata"]}
        kind: Literal["Normal", "Warning"] = "Normal" if after.status == "True" else "Warning"
        await self._cluster.post_event(regarding, kind, after.reason, after.message or after.reason, COMPONENT)
