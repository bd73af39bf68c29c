"""The controller of connectors: their status says which agents name them, and whether they can be used."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError

from komputer.domain.base import Condition, Manifest, with_condition
from komputer.domain.connector import RESERVED_NAMES, Connector, is_connector_name
from komputer.domain.ref import ObjectRef
from komputer.kube import CONNECTORS, Cluster
from komputer.kube.store import is_terminating
from komputer.operator.agent.observe import first_error
from komputer.operator.cluster_state import ClusterState
from komputer.operator.controllers.status import write_status

MIN_INTERVAL: Final = timedelta(seconds=1)
"""The shortest time between two writes of one connector's status: hundreds of agents may be created or deleted at once.
"""
NAMES_LIMIT: Final = 100
"""How many names of agents the status lists. `attachedAgents` counts all of them, and the API lists all."""


def status_of(manifest: Manifest, agents: list[str], now: datetime) -> dict[str, Any]:
    """Return the next status of the connector, as JSON."""
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
    """Return whether agents can use the connector, with reason and message."""
    name = manifest["metadata"]["name"]
    if not is_connector_name(name):
        if name in RESERVED_NAMES:
            return False, "ReservedName", "Claude Code or the platform has a server of this name: choose another name"
        return False, "InvalidName", "the name is not of lower-case letters, digits and hyphens, at most 63"
    try:
        spec = Connector.model_validate(manifest).spec
    except ValidationError as error:
        return False, "SpecInvalid", first_error(error)
    if spec.disabled:
        return False, "Disabled", "no agent can use it until spec.disabled is false"
    if spec.auth_type == "oauth":
        return False, "OAuthNotSupported", "authType oauth has no effect yet; use token, header or none"
    return True, "Accepted", "agents that name it can use it"


class ConnectorReconciler:
    def __init__(self, cluster: Cluster, state: ClusterState) -> None:
        self._cluster = cluster
        self._state = state

    async def reconcile(self, ref: ObjectRef) -> timedelta | None:
        """Write the connector's status. Safe to repeat and to interrupt."""
        manifest = self._state.get(CONNECTORS, *ref)
        if manifest is None or is_terminating(manifest):
            return None
        status = status_of(manifest, self._state.agents_of(ref), datetime.now(UTC))
        return await write_status(self._cluster, self._state, CONNECTORS, manifest, status)
