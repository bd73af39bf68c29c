"""PersistentVolumeClaims: folders of the data directory, and when they may be deleted.

A claim that is bound bears our finalizer, so that its deletion is always seen: only then its folder moves to
`volumes/.deleted/`, whose contents are removed. A folder that no claim names is merely unknown (the objects may have
been lost) and moves to `lost+found/`, from where `komputer volumes adopt` gives it to an agent.
"""

from pathlib import Path
from typing import Final

from komputer.domain.base import Manifest
from komputer.domain.errors import Conflict
from komputer.kube import PVCS, Cluster

FINALIZER: Final = "komputer.ai/volume"


def claim_folder(claims: Path, claim: Manifest) -> Path:
    """A claim's disk. The uid is in its name, so that a new claim never finds the files of an old one."""
    meta = claim["metadata"]
    return claims / f"{meta['namespace']}_{meta['name']}_{meta['uid']}"


def is_bound(claim: Manifest) -> bool:
    """Whether it has a folder, and its deletion waits for us."""
    is_ours = FINALIZER in claim["metadata"].get("finalizers", ())
    return is_ours and (claim.get("status") or {}).get("phase") == "Bound"


def is_deleted(claim: Manifest) -> bool:
    return bool(claim["metadata"].get("deletionTimestamp"))


async def bind(cluster: Cluster, claim: Manifest) -> Manifest:
    """Binds the claim, and returns it as it is then; one that is being deleted stays as it is. Raises `NotFound`."""
    while not is_bound(claim) and not is_deleted(claim):
        try:
            claim = await _bind(cluster, claim)
        except Conflict:  # the pod that mounts it binds it too
            claim = await cluster.get(PVCS, claim["metadata"]["name"], claim["metadata"]["namespace"])
    return claim


async def _bind(cluster: Cluster, claim: Manifest) -> Manifest:
    meta, spec = claim["metadata"], claim["spec"]
    finalizers = [*(one for one in meta.get("finalizers", ()) if one != FINALIZER), FINALIZER]
    own = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"], "finalizers": finalizers}
    status = {
        "phase": "Bound",
        "accessModes": spec.get("accessModes", []),
        "capacity": (spec.get("resources") or {}).get("requests", {}),
    }
    patch = {"metadata": own, "status": status}
    return await cluster.merge_patch(PVCS, meta["name"], meta["namespace"], patch, subresource="status")


async def release(cluster: Cluster, claim: Manifest) -> None:
    """Lets a deleted claim go, whose folder was discarded. Raises `Conflict` where it is no longer as it was read."""
    meta = claim["metadata"]
    finalizers = [one for one in meta.get("finalizers", ()) if one != FINALIZER]
    own = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"], "finalizers": finalizers}
    await cluster.merge_patch(PVCS, meta["name"], meta["namespace"], {"metadata": own})
