"""The main loop: runs every pod of the cluster on this machine, and removes the data of deleted pods and claims."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import structlog

from komputer.background import Background
from komputer.backoff import Backoff
from komputer.domain.base import Manifest
from komputer.domain.errors import Conflict, NotFound
from komputer.kube import PODS, PVCS, Cache, CacheChange, Cluster
from komputer.local import disk
from komputer.local.kubelet import claims, processes, removal
from komputer.local.kubelet.etc import follow_network, make_etc
from komputer.local.kubelet.node import Node
from komputer.local.kubelet.pod import PodRunner
from komputer.local.kubelet.sandbox import Sandbox

log = structlog.get_logger(__name__)

DEFAULT_GRACE_S = 30
NETWORK_CHECK_S = 5.0
"""Seconds between two comparisons of the machine's `hosts` and `resolv.conf` with those in the sandboxes' /etc."""
REMOVAL_BACKOFF = Backoff(1.0, 60.0)
"""The pauses between attempts to remove a folder. A pod that is about to end may still write into its folder. A folder
that cannot be removed at all costs one attempt a minute."""


class Kubelet:
    """Runs the cluster's pods as processes of this machine.

    `images` maps the name of an image to the command that it stands for. `data_dir` contains `pods/`, `volumes/`,
    `logs/pods/` and `lost+found/`."""

    def __init__(self, cluster: Cluster, data_dir: Path, *, sandbox: Sandbox, images: Mapping[str, list[str]]) -> None:
        self._cluster = cluster
        self._node = Node(data_dir, sandbox, images)
        self._folders = (self._node.pods, self._node.volumes, self._node.logs)
        for folder in self._folders:
            (folder / removal.DELETED).mkdir(parents=True, exist_ok=True, mode=0o700)
        self._pods = Cache(cluster, PODS)
        self._claims = Cache(cluster, PVCS)
        self._runners: dict[str, PodRunner] = {}
        self._busy: set[str] = set()
        self._pending: dict[str, Callable[[], None]] = {}
        self._is_running = False
        self._background = Background()
        self._removals = Background(REMOVAL_BACKOFF)
        self._removing: set[Path] = set()
        self._has_stopped = threading.Event()

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        """Run until `stop` is set, then end the processes of all pods gracefully; the next run starts them again.
        `ready` is called once the caches are filled."""
        # Kill the containers of an earlier kubelet that was killed. They may still run if there is no sandbox, or if
        # the kubelet died before bubblewrap had asked to end with its parent.
        processes.kill(processes.marked(self._node.pods))
        self._pods.subscribe(self._pod_changed)
        self._claims.subscribe(self._claim_changed)
        self._is_running = True
        async with self._removals, self._background:
            self._background.run_forever("space on the disk", self._watch_disk)
            if self._node.sandbox is Sandbox.BUBBLEWRAP:
                with suppress(OSError):  # then the background work tries again, and pods wait for it
                    await self._make_etc()
                self._background.run_forever("/etc of sandboxes", self._sync_etc)
            self._background.run_forever("cache of pods", self._pods.run)
            self._background.run_forever("cache of claims", self._claims.run)
            # Which folders belong to no object is known only when the caches are complete.
            await asyncio.gather(self._pods.synced(), self._claims.synced())
            self._set_aside_unknown_folders()
            for folder in self._folders:
                for path in (folder / removal.DELETED).iterdir():
                    self._remove(path)
            ready()
            await stop.wait()
            self._is_running = False
            self._has_stopped.set()
            await self._background.close()
            runners, self._runners = list(self._runners.values()), {}
            await asyncio.gather(*(runner.stop(timedelta(seconds=25)) for runner in runners))

    # ---- disk -------------------------------------------------------------------------------------------------
    async def _watch_disk(self) -> None:
        """Check the free space regularly. While the disk is full, all pods report that in their status and start no
        container."""
        while True:
            found = disk.shortage(self._node.data_dir)
            if (found is None) != (self._node.full_disk is None):
                log.warning("disk is full", error=found) if found else log.info("disk has space again")
                self._node.full_disk = found
                for runner in self._runners.values():
                    runner.changed()
            await asyncio.sleep(disk.CHECK_S)

    async def _sync_etc(self) -> None:
        """Create the sandboxes' /etc, then keep its network files up to date.

        This runs again after an error. The folder is then kept if it is there, because running sandboxes have bound it.
        """
        if not (self._node.has_etc and self._node.etc.exists()):
            await self._make_etc()
        while True:
            await asyncio.sleep(NETWORK_CHECK_S)
            await asyncio.to_thread(follow_network, self._node.etc)

    async def _make_etc(self) -> None:
        self._node.has_etc = False
        await asyncio.to_thread(make_etc, self._node.etc)
        self._node.has_etc = True

    def _set_aside_unknown_folders(self) -> None:
        """Move folders that belong to no pod and no claim to `lost+found/`.

        They may contain an agent's work: a missing object is no proof of a deletion, since the database may have been
        lost. The folder of a deleted object is moved to `.deleted/` before the object is removed."""
        pods = {m["metadata"]["uid"] for m in self._pods.items()}
        volumes = {claims.claim_folder(self._node.volumes, m).name for m in self._claims.items()}
        logs = {self._node.log_folder(m).name for m in self._pods.items()}
        for folder, known in zip(self._folders, (pods, volumes, logs), strict=True):
            for path in folder.iterdir():
                if path.name not in known and path.name != removal.DELETED:
                    removal.set_aside(path, self._node.data_dir)

    def _discard(self, path: Path) -> None:
        """Discard the folder of a deleted object. Raises `OSError`."""
        if (discarded := removal.discard(path)) is not None:
            self._remove(discarded)

    def _remove(self, path: Path) -> None:
        """Remove a discarded folder in the background. Retry until it is removed."""
        if path not in self._removing:
            self._removing.add(path)
            job = partial(asyncio.to_thread, removal.remove_tree, path, self._has_stopped.is_set)
            task = self._removals.run(f"removal of {path.name}", job)
            task.add_done_callback(lambda _: self._removing.discard(path))

    def _reconcile(self, manifest: Manifest, name: str, job: Callable[[], Coroutine[None, None, None]]) -> None:
        """Run `job` for this object until it succeeds. At most one job runs per object. For a change that arrives
        meanwhile, another job runs afterwards; of several changes only the last one is kept."""
        uid = manifest["metadata"]["uid"]
        if uid in self._busy:
            self._pending[uid] = partial(self._reconcile, manifest, name, job)
            return

        def finished(_: object) -> None:
            self._busy.discard(uid)
            again = self._pending.pop(uid, None)
            if again and self._is_running:
                again()

        self._busy.add(uid)
        self._background.run(name, job).add_done_callback(finished)

    # ---- claims -----------------------------------------------------------------------------------------------
    def _claim_changed(self, change: CacheChange) -> None:
        claim = change.manifest
        if not self._is_running or change.type == "DELETED":
            return
        if claims.is_deleted(claim) or not claims.is_bound(claim):
            self._reconcile(claim, f"claim {_name(claim)}", partial(self._reconcile_claim, claim))

    async def _reconcile_claim(self, observed: Manifest) -> None:
        """Bind the claim, or discard the folder of a deleted one and remove its finalizer."""
        meta = observed["metadata"]
        try:
            claim = await self._cluster.get(PVCS, meta["name"], meta["namespace"])
            if claim["metadata"]["uid"] != meta["uid"]:
                return
            if claims.is_deleted(claim):
                self._discard(claims.claim_folder(self._node.volumes, claim))
                await claims.release(self._cluster, claim)
            else:
                await claims.bind(self._cluster, claim)
        except NotFound:
            return

    # ---- pods -------------------------------------------------------------------------------------------------
    def _pod_changed(self, change: CacheChange) -> None:
        pod = change.manifest
        if self._is_running:
            self._reconcile(pod, f"pod {_name(pod)}", partial(self._reconcile_pod, change))

    async def _reconcile_pod(self, change: CacheChange) -> None:
        """Make the processes of one pod match the pod's object as it is now."""
        meta = change.manifest["metadata"]
        uid = meta["uid"]
        pod = self._pods.get(meta["namespace"], meta["name"])
        if pod is None or pod["metadata"]["uid"] != uid:
            if change.type == "DELETED":
                await self._end(change.manifest, timedelta(0), is_deleted=not change.is_lost)
        elif pod["metadata"].get("deletionTimestamp"):
            grace = pod["metadata"].get("deletionGracePeriodSeconds", DEFAULT_GRACE_S)
            await self._end(pod, timedelta(seconds=grace), is_deleted=True)
            await self._confirm_deletion(pod)
        elif uid not in self._runners and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            runner = PodRunner(self._cluster, pod, self._node, partial(self._report, pod))
            self._runners[uid] = runner
            runner.start()

    async def _end(self, pod: Manifest, grace: timedelta, *, is_deleted: bool) -> None:
        """End the pod's processes. Then discard its folders if the pod was deleted, or move them to `lost+found/` if
        its object was lost."""
        uid = pod["metadata"]["uid"]
        if uid in self._runners:
            await self._runners[uid].stop(grace)
            del self._runners[uid]
        for path in (self._node.pod_folder(pod), self._node.log_folder(pod)):
            if is_deleted:
                self._discard(path)
            else:
                removal.set_aside(path, self._node.data_dir)

    async def _confirm_deletion(self, pod: Manifest) -> None:
        """Delete the object with a grace period of 0. Called when the pod's processes have ended."""
        meta = pod["metadata"]
        with suppress(NotFound, Conflict):
            await self._cluster.delete(PODS, meta["name"], meta["namespace"], uid=meta["uid"], grace_s=0)

    async def _report(self, pod: Manifest, status: Manifest) -> None:
        """Write the status of a pod that still exists. Raises `Unavailable`."""
        meta = pod["metadata"]
        patch = {"metadata": {"uid": meta["uid"]}, "status": status}
        with suppress(NotFound, Conflict):
            await self._cluster.merge_patch(PODS, meta["name"], meta["namespace"], patch, subresource="status")


def _name(manifest: Manifest) -> str:
    return f"{manifest['metadata']['namespace']}/{manifest['metadata']['name']}"
