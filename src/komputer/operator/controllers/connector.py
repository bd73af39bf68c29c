"""The status of connectors: who names them, and whether anybody can use them."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError

from komputer.domain.base import Condition, Manifest, with_condition
from komputer.domain.connector import RESERVED_NAMES, Connector, is_connector_name
from komputer.domain.errors import Conflict, NotFound
from komputer.domain.ref import ObjectRef
from komputer.kube import CONNECTORS, Cluster
from komputer.operator.agent.observe import first_error
from komputer.operator.cluster_state import ClusterState

EVERY: Final = timedelta(seconds=1)
"""How often the status of one connector is written, while agents come and go by the hundred."""
NAMES_LIMIT: Final = 100
"""Of agents that the status names; `attachedAgents` counts all, and the API names all."""


def status_of(manifest: Manifest, agents: list[str], now: datetime) -> dict[str, Any]:
    """What the status of this connector says next, as JSON."""
    known = [Condition.model_validate(each) for each in (manifest.get("status") or {}).get("conditions") or ()]
    usable, reason, message = _verdict(manifest)
    ready = Condition(
        type="Ready",
        status="True" if usable else "False",
        reason=reason,
        message=message,
        observed_generation=manifest["metadata"].get("generation"),
    )
    return {
        "attachedAgents": len(agents),
        "agentNames": agents[:NAMES_LIMIT],
        "observedGeneration": manifest["metadata"].get("generation"),
        "conditions": [each.to_wire() for each in with_condition(known, ready, now)],
    }


def _verdict(manifest: Manifest) -> tuple[bool, str, str]:
    name = manifest["metadata"]["name"]
    if not is_connector_name(name):
        if name in RESERVED_NAMES:
            return False, "ReservedName", "Claude Code or the platform has a server of this name: choose another name"
        return False, "InvalidName", "the name is not of lower-case letters, digits and hyphens, at most 63"
    try:
        spec = Connector.model_validate(manifest).spec
    except ValidationError as wrong:
        return False, "SpecInvalid", first_error(wrong)
    if spec.disabled:
        return False, "Disabled", "no agent can use it until spec.disabled is false"
    if spec.auth_type == "oauth":
        return False, "OAuthNotSupported", "authType oauth has no effect yet; use token, header or none"
    return True, "Accepted", "agents that name it can use it"


class ConnectorStatuses:
    """One `turn` for each connector that a change may concern."""

    def __init__(self, cluster: Cluster, store: ClusterState) -> None:
        self._cluster = cluster
        self._store = store

    async def turn(self, key: ObjectRef) -> timedelta | None:
        """Bring the status to what is. Safe to repeat and to interrupt."""
        manifest = self._store.get(CONNECTORS, *key)
        if manifest is None or manifest["metadata"].get("deletionTimestamp"):
            return None
        new = status_of(manifest, self._store.agents_of(key), datetime.now(UTC))
        found = manifest.get("status") or {}
        patch = {field: value for field, value in new.items() if found.get(field) != value}
        if not patch:
            return None
        metadata = manifest["metadata"]
        guard = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        try:
            written = await self._cluster.merge_patch(
                CONNECTORS, key.name, key.namespace, {"metadata": guard, "status": patch}, "status"
            )
        except (Conflict, NotFound):
            return EVERY  # what is newer comes by the watch
        self._store.wrote(CONNECTORS, written)
        return None
