"""Writes the status of resources whose controllers do nothing else."""

from datetime import timedelta
from typing import Any, Final

import structlog

from komputer.domain.base import Manifest
from komputer.domain.errors import Conflict, NotFound, Unavailable
from komputer.kube import KIND_MISSING, Cluster, Kind
from komputer.operator.cluster_state import ClusterState

log = structlog.get_logger(__name__)

RETRY_AFTER: Final = timedelta(seconds=1)


async def write_status(
    cluster: Cluster, state: ClusterState, kind: Kind, manifest: Manifest, status: dict[str, Any]
) -> timedelta | None:
    """Patch the fields of the object's status that differ from `status`. If the object has changed since it was read,
    nothing is written: the watch delivers the newer object. Return after how long to repeat the turn; None: not at
    all."""
    found = manifest.get("status") or {}
    patch = {field: value for field, value in status.items() if found.get(field) != value}
    if not patch:
        return None
    metadata = manifest["metadata"]
    guard = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
    try:
        written = await cluster.merge_patch(
            kind, metadata["name"], metadata.get("namespace"), {"metadata": guard, "status": patch}, "status"
        )
    except (Conflict, NotFound):
        return RETRY_AFTER
    except Unavailable as error:
        if error.code != KIND_MISSING:
            raise
        # Helm does not upgrade definitions. In the definition of an earlier release this kind has no status.
        log.info("status not written", kind=kind.kind, name=metadata["name"], error=error.message)
        return None
    state.wrote(kind, written)
    return None
