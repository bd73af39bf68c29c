"""PersistentVolumeClaims. Each is a folder of the data directory, which is deleted only if the claim was certainly
deleted.

A bound claim has this kubelet's finalizer, so its deletion cannot be missed. The kubelet moves the folder of a deleted
claim to `volumes/.deleted/`, from where it is removed, and then removes the finalizer. A folder without a claim is not
deleted, since the objects may have been lost: it is moved to `lost+found/`, from where `komputer volumes adopt` gives
it to an agent.
"""

from pathlib import Path
from typing import Final

from komputer.domain.base import Manifest
from komputer.domain.errors import Conflict
from komputer.kube import PVCS, Cluster

FINALIZER: Final = "komputer.ai/volume"


def claim_folder(claims: Path, claim: Manifest) -> Path:
    """Return the folder of a claim. Its name contains the uid, so that a new claim never finds the files of an old
    one."""
    meta = claim["metadata"]
    return claims / f"{meta['namespace']}_{meta['name']}_{meta['uid']}"


def is_bound(claim: Manifest) -> bool:
    """Return whether the claim is bound and has this kubelet's finalizer."""
    is_ours = FINALIZER in claim["metadata"].get("finalizers", ())
    return is_ours and (claim.get("status") or {}).get("phase") == "Bound"


def is_deleted(claim: Manifest) -> bool:
    """Return whether the claim is being deleted."""
    return bool(claim["metadata"].get("deletionTimestamp"))


async def bind(cluster: Cluster, claim: Manifest) -> Manifest:
    """Bind the claim and return its newest version. A claim that is being deleted is not changed. Raises `NotFound`."""
    while not is_bound(claim) and not is_deleted(claim):
        try:
            claim = await _bind(cluster, claim)
        except Conflict:  # the pod that mounts the claim may bind it at the same time
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
    # uid and resourceVersion make the patch fail if the claim was changed or replaced since it was read.
    patch = {"metadata": own, "status": status}
    return await cluster.merge_patch(PVCS, meta["name"], meta["namespace"], patch, subresource="status")


async def release(cluster: Cluster, claim: Manifest) -> None:
    """Remove this kubelet's finalizer from a deleted claim whose folder was discarded. Raises `Conflict` if the claim
    has changed since it was read."""
    meta = claim["metadata"]
    finalizers = [one for one in meta.get("finalizers", ()) if one != FINALIZER]
    own = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"], "finalizers": finalizers}
    await cluster.merge_patch(PVCS, meta["name"], meta["namespace"], {"metadata": own})
