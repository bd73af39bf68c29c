"""The controller of templates and configurations: their status names the fields that have no effect."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError

from komputer.domain.base import Condition, Manifest, Resource, with_condition
from komputer.domain.config import Config
from komputer.domain.ref import ObjectRef
from komputer.domain.template import ClusterTemplate, Template
from komputer.kube import CLUSTER_TEMPLATES, CONFIGS, TEMPLATES, Cluster, Kind
from komputer.kube.store import is_terminating
from komputer.operator.agent.observe import first_error
from komputer.operator.cluster_state import ClusterState
from komputer.operator.conditions import fields_supported
from komputer.operator.controllers.status import write_status

TYPES: Final[Mapping[Kind, type[Resource]]] = {
    TEMPLATES: Template,
    CLUSTER_TEMPLATES: ClusterTemplate,
    CONFIGS: Config,
}


def status_of(kind: Kind, manifest: Manifest, now: datetime) -> dict[str, Any]:
    """Return the next status of the object, as JSON. An object that is not valid gets the condition Ready=False."""
    known = [Condition.model_validate(each) for each in (manifest.get("status") or {}).get("conditions") or ()]
    generation = manifest["metadata"].get("generation")
    conditions = known
    for condition in _conditions(kind, manifest, known):
        updated = condition.model_copy(update={"observed_generation": generation})
        conditions = with_condition(conditions, updated, now)
    return {"observedGeneration": generation, "conditions": [each.to_wire() for each in conditions]}


def _conditions(kind: Kind, manifest: Manifest, known: list[Condition]) -> list[Condition]:
    try:
        resource = TYPES[kind].model_validate(manifest)
    except ValidationError as error:
        return [Condition(type="Ready", status="False", reason="SpecInvalid", message=first_error(error))]
    supported = fields_supported(resource.ignored(), known)
    return [Condition(type="Ready", status="True", reason="Accepted"), *([supported] if supported else [])]


class IgnoredFieldsReconciler:
    def __init__(self, kind: Kind, cluster: Cluster, state: ClusterState) -> None:
        self._kind = kind
        self._cluster = cluster
        self._state = state

    async def reconcile(self, ref: ObjectRef) -> timedelta | None:
        """Write the object's status. Safe to repeat and to interrupt."""
        manifest = self._state.get(self._kind, *ref)
        if manifest is None or is_terminating(manifest):
            return None
        status = status_of(self._kind, manifest, datetime.now(UTC))
        return await write_status(self._cluster, self._state, self._kind, manifest, status)
