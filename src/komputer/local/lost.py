"""`komputer volumes`: lists workspaces that belong to no agent, gives one to an agent, or deletes it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from komputer.domain import names
from komputer.domain.errors import Conflict, Invalid, NotFound
from komputer.kube import PVCS, Cluster
from komputer.local.kubelet import claims
from komputer.local.kubelet.removal import LOST_AND_FOUND, remove_tree

KEPT: Final = "before-adoption"


@dataclass(frozen=True)
class LostVolume:
    """A workspace in `lost+found/volumes/`. `claim` is the volume claim that it belonged to, as `namespace/name`."""

    name: str
    claim: str
    changed: datetime
    path: Path


def lost_volumes(data_dir: Path) -> list[LostVolume]:
    """Return all lost volumes, the newest first."""
    folder = data_dir / LOST_AND_FOUND / "volumes"
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        namespace, _, rest = path.name.partition("_")
        changed = datetime.fromtimestamp(path.lstat().st_mtime, UTC)
        found.append(LostVolume(path.name, f"{namespace}/{rest.partition('_')[0]}", changed, path))
    return sorted(found, key=lambda volume: volume.changed, reverse=True)


def lost_volume(data_dir: Path, name: str) -> LostVolume:
    """Return the lost volume of this name. Raises `NotFound`."""
    for volume in lost_volumes(data_dir):
        if volume.name == name:
            return volume
    raise NotFound(f"there is no volume {name!r} in {data_dir / LOST_AND_FOUND}; see `komputer volumes list`")


async def adopt(data_dir: Path, cluster: Cluster, name: str, agent: str, namespace: str) -> Path:
    """Make the lost volume the workspace of the agent, and move the agent's present workspace to `lost+found/`. The
    agent's pod is restarted with the new one. Raises `NotFound` if the agent has no claim yet, `Conflict` if the claim
    is being deleted."""
    volume = lost_volume(data_dir, name)
    try:
        claim = await cluster.get(PVCS, names.pvc_name(agent), namespace)
    except NotFound as missing:
        raise NotFound(f"agent {agent!r} has no workspace: create the agent first, then adopt") from missing
    if claims.is_deleted(claim) or not claims.is_bound(claim):
        raise Conflict(f"the workspace of agent {agent!r} is not bound; try again when its pod runs")
    target = claims.claim_folder(data_dir / "volumes", claim)
    replaced = volume.path.with_name(f"{target.name}.{KEPT}")
    if replaced.exists():
        raise Conflict(f"{replaced} exists: delete it or move it away first")
    if target.exists():
        target.rename(replaced)
    try:
        volume.path.rename(target)
    except OSError as error:
        if replaced.exists():
            replaced.rename(target)
        raise Invalid(f"{volume.path} could not be moved to {target}: {error.strerror}") from error
    return target


def delete(data_dir: Path, name: str) -> None:
    """Delete the lost volume. Raises `NotFound`, and `OSError` if something in it cannot be removed."""
    remove_tree(lost_volume(data_dir, name).path)
