"""The loop: every pod of the cluster runs here, and what is no longer wanted is ended and cleaned up."""

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
from komputer.local.kubelet.logs import pod_folder
from komputer.local.kubelet.pod import PodRunner
from komputer.local.kubelet.sandbox import Sandbox

log = structlog.get_logger(__name__)

DEFAULT_GRACE_S = 30
NETWORK_CHECK_S = 5.0
"""How often the machine's name servers are looked at, for the sandboxes' /etc."""
REMOVAL_BACKOFF = Backoff(1.0, 60.0)
"""Between attempts to remove a folder: a pod that is just ending may still write into it, and a folder that
cannot be removed must not cost more than a look a minute."""


class Kubelet:
    """Runs the cluster's pods as processes of this machine.

    `images` maps an image's name to the command that it stands for. `data_dir` holds `pods/`, `volumes/`, `logs/pods/`
    and `lost+found/`.
    """

    def __init__(self, cluster: Cluster, data_dir: Path, *, sandbox: Sandbox, images: Mapping[str, list[str]]) -> None:
        self._cluster = cluster
        self._sandbox = sandbox
        self._images = images
        self._data_dir = data_dir
        self._pod_folder = data_dir / "pods"
        self._claim_folder = data_dir / "volumes"
        self._log_folder = data_dir / "logs" / "pods"
        self._folders = (self._pod_folder, self._claim_folder, self._log_folder)
        for folder in self._folders:
            (folder / removal.DELETED).mkdir(parents=True, exist_ok=True, mode=0o700)
        self._pods = Cache(cluster, PODS)
        self._claims = Cache(cluster, PVCS)
        self._runners: dict[str, PodRunner] = {}
        self._busy: set[str] = set()
        self._again: dict[str, Callable[[], None]] = {}
        self._is_running = False
        self._background = Background()
        self._removals = Background(REMOVAL_BACKOFF)
        self._removing: set[Path] = set()
        self._has_stopped = threading.Event()
        self._full_disk: str | None = None

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        """Until `stop` is set; then ends every pod's processes, gracefully, and leaves the pods to the next run."""
        processes.kill(processes.marked(self._pod_folder))
        self._pods.subscribe(self._pod_changed)
        self._claims.subscribe(self._claim_changed)
        self._is_running = True
        async with self._removals, self._background:
            self._background.keep("space on the disk", self._watch_disk)
            if self._sandbox is Sandbox.BUBBLEWRAP:
                self._background.keep("/etc of sandboxes", self._keep_etc)
            self._background.keep("cache of pods", self._pods.run)
            self._background.keep("cache of claims", self._claims.run)
            await asyncio.gather(self._pods.synced(), self._claims.synced())
            self._set_unknown_aside()
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
        """Every pod says in its status that the disk is full, and waits with what it would start."""
        while True:
            found = disk.shortage(self._data_dir)
            if (found is None) != (self._full_disk is None):
                log.warning("disk is full", error=found) if found else log.info("disk has space again")
                self._full_disk = found
                for runner in self._runners.values():
                    runner.changed()
            await asyncio.sleep(disk.CHECK_S)

    async def _keep_etc(self) -> None:
        etc = self._data_dir / "etc"
        await asyncio.to_thread(make_etc, etc)
        while True:
            await asyncio.sleep(NETWORK_CHECK_S)
            await asyncio.to_thread(follow_network, etc)

    def _set_unknown_aside(self) -> None:
        """Folders that belong to no pod and no claim. That is no proof that those were deleted: what was deleted has
        been moved before its object went."""
        pods = {m["metadata"]["uid"] for m in self._pods.items()}
        volumes = {claims.claim_folder(self._claim_folder, m).name for m in self._claims.items()}
        logs = {pod_folder(self._log_folder, m).name for m in self._pods.items()}
        for folder, known in zip(self._folders, (pods, volumes, logs), strict=True):
            for path in folder.iterdir():
                if path.name not in known and path.name != removal.DELETED:
                    removal.set_aside(path, self._data_dir)

    def _discard(self, path: Path) -> None:
        """It belongs to what was deleted. Raises `OSError`."""
        if (discarded := removal.discard(path)) is not None:
            self._remove(discarded)

    def _remove(self, path: Path) -> None:
        """In the background, until it is gone."""
        if path not in self._removing:
            self._removing.add(path)
            job = partial(asyncio.to_thread, removal.remove_tree, path, self._has_stopped.is_set)
            task = self._removals.run(f"removal of {path.name}", job)
            task.add_done_callback(lambda _: self._removing.discard(path))

    def _settle(self, manifest: Manifest, name: str, job: Callable[[], Coroutine[None, None, None]]) -> None:
        """Runs `job` for this object until it succeeds; once more after it where something changed meanwhile."""
        uid = manifest["metadata"]["uid"]
        if uid in self._busy:
            self._again[uid] = partial(self._settle, manifest, name, job)
            return

        def settled(_: object) -> None:
            self._busy.discard(uid)
            again = self._again.pop(uid, None)
            if again and self._is_running:
                again()

        self._busy.add(uid)
        self._background.run(name, job).add_done_callback(settled)

    # ---- claims -----------------------------------------------------------------------------------------------
    def _claim_changed(self, change: CacheChange) -> None:
        claim = change.manifest
        if not self._is_running or change.type == "DELETED":
            return
        if claims.is_deleted(claim) or not claims.is_bound(claim):
            self._settle(claim, f"claim {_name(claim)}", partial(self._settle_claim, claim))

    async def _settle_claim(self, seen: Manifest) -> None:
        """Binds the claim, or removes its folder and lets it go."""
        meta = seen["metadata"]
        try:
            claim = await self._cluster.get(PVCS, meta["name"], meta["namespace"])
            if claim["metadata"]["uid"] != meta["uid"]:
                return
            if claims.is_deleted(claim):
                self._discard(claims.claim_folder(self._claim_folder, claim))
                await claims.release(self._cluster, claim)
            else:
                await claims.bind(self._cluster, claim)
        except NotFound:
            return

    # ---- pods -------------------------------------------------------------------------------------------------
    def _pod_changed(self, change: CacheChange) -> None:
        pod = change.manifest
        if self._is_running:
            self._settle(pod, f"pod {_name(pod)}", partial(self._settle_pod, change))

    async def _settle_pod(self, change: CacheChange) -> None:
        """Brings one pod to what the cluster says of it now."""
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
            self._runners[uid] = runner = PodRunner(
                self._cluster,
                pod,
                images=self._images,
                sandbox=self._sandbox,
                folder=self._pod_folder / uid,
                claims=self._claim_folder,
                log_folder=pod_folder(self._log_folder, pod),
                etc=self._data_dir / "etc",
                report=partial(self._report, pod),
                full_disk=lambda: self._full_disk,
            )
            runner.start()

    async def _end(self, pod: Manifest, grace: timedelta, *, is_deleted: bool) -> None:
        """Ends the pod's processes. What it has on the disk goes where it was deleted; else it is unknown."""
        uid = pod["metadata"]["uid"]
        if uid in self._runners:
            await self._runners[uid].stop(grace)
            del self._runners[uid]
        for path in (self._pod_folder / uid, pod_folder(self._log_folder, pod)):
            if is_deleted:
                self._discard(path)
            else:
                removal.set_aside(path, self._data_dir)

    async def _confirm_deletion(self, pod: Manifest) -> None:
        """The processes are gone: now the object may go."""
        meta = pod["metadata"]
        with suppress(NotFound, Conflict):
            await self._cluster.delete(PODS, meta["name"], meta["namespace"], uid=meta["uid"], grace_s=0)

    async def _report(self, pod: Manifest, status: Manifest) -> None:
        """Writes the status of a pod that is still there. Raises `Unavailable`."""
        meta = pod["metadata"]
        patch = {"metadata": {"uid": meta["uid"]}, "status": status}
        with suppress(NotFound, Conflict):
            await self._cluster.merge_patch(PODS, meta["name"], meta["namespace"], patch, subresource="status")


def _name(manifest: Manifest) -> str:
    return f"{manifest['metadata']['namespace']}/{manifest['metadata']['name']}"
