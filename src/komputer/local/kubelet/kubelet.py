"""The loop: every pod of the cluster runs here, and what is no longer wanted is ended and cleaned up."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path

import structlog

from komputer.kube import PODS, PVCS, Cache, Change, Cluster
from komputer.local.kubelet import processes
from komputer.local.kubelet.logs import pod_folder
from komputer.local.kubelet.pod import PodRunner
from komputer.local.kubelet.sandbox import Sandbox
from komputer.local.kubelet.volumes import claim_folder
from komputer.resources.base import Manifest
from komputer.resources.errors import Conflict, KomputerError, NotFound, Unavailable

log = structlog.get_logger(__name__)

DEFAULT_GRACE_S = 30
RETRY_S = 1.0


class Kubelet:
    """Runs the cluster's pods as processes of this machine.

    `images` maps an image's name to the command that it stands for. `data_dir` holds `pods/`, `volumes/`, `logs/pods/`.
    """

    def __init__(self, cluster: Cluster, data_dir: Path, *, sandbox: Sandbox, images: Mapping[str, list[str]]) -> None:
        self._cluster = cluster
        self._sandbox = sandbox
        self._images = images
        self._pod_folder = data_dir / "pods"
        self._claim_folder = data_dir / "volumes"
        self._log_folder = data_dir / "logs" / "pods"
        for folder in (self._pod_folder, self._claim_folder, self._log_folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._pods = Cache(cluster, PODS)
        self._claims = Cache(cluster, PVCS)
        self._runners: dict[str, PodRunner] = {}
        self._busy: set[str] = set()
        self._work: asyncio.TaskGroup | None = None

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        """Until `stop` is set; then ends every pod's processes, gracefully, and leaves the pods to the next run."""
        processes.kill(processes.marked(self._pod_folder))
        self._pods.subscribe(self._pod_changed)
        self._claims.subscribe(self._claim_changed)
        async with asyncio.TaskGroup() as group:
            self._work = group
            watching = [group.create_task(self._pods.run()), group.create_task(self._claims.run())]
            await asyncio.gather(self._pods.synced(), self._claims.synced())
            self._remove_leftovers()
            ready()
            await stop.wait()
            for task in watching:
                task.cancel()
            self._work = None
            runners, self._runners = list(self._runners.values()), {}
            await asyncio.gather(*(runner.stop(timedelta(seconds=25)) for runner in runners))

    def _remove_leftovers(self) -> None:
        """Folders of pods and claims that were deleted while no kubelet ran."""
        pods = {m["metadata"]["uid"] for m in self._pods.items()}
        claims = {claim_folder(self._claim_folder, m).name for m in self._claims.items()}
        logs = {pod_folder(self._log_folder, m).name for m in self._pods.items()}
        for folder, known in ((self._pod_folder, pods), (self._log_folder, logs), (self._claim_folder, claims)):
            for path in folder.iterdir():
                if path.name not in known:
                    shutil.rmtree(path, ignore_errors=True)

    # ---- claims -----------------------------------------------------------------------------------------------
    def _claim_changed(self, change: Change) -> None:
        if self._work is None:
            return
        if change.type == "DELETED":
            self._work.create_task(self._remove_claim(claim_folder(self._claim_folder, change.manifest)))
        elif (change.manifest.get("status") or {}).get("phase") != "Bound":
            self._work.create_task(self._bind(change.manifest))

    async def _remove_claim(self, folder: Path) -> None:
        """A pod that is just ending may still write into it: what that leaves is removed at the next look."""
        while self._work is not None:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            if not folder.exists():
                return
            await asyncio.sleep(RETRY_S)

    async def _bind(self, claim: Manifest) -> None:
        meta, spec = claim["metadata"], claim["spec"]
        status = {
            "phase": "Bound",
            "accessModes": spec.get("accessModes", []),
            "capacity": (spec.get("resources") or {}).get("requests", {}),
        }
        try:
            await self._cluster.merge_patch(
                PVCS, meta["name"], meta["namespace"], {"status": status}, subresource="status"
            )
        except NotFound:
            return
        except KomputerError as failed:
            log.warning("claim was not bound", claim=meta["name"], error=failed.message)

    # ---- pods -------------------------------------------------------------------------------------------------
    def _pod_changed(self, change: Change) -> None:
        uid = change.manifest["metadata"]["uid"]
        if self._work is None or uid in self._busy:
            return
        self._busy.add(uid)
        self._work.create_task(self._settle(uid, change.manifest))

    async def _settle(self, uid: str, seen: Manifest) -> None:
        """Brings one pod to what the cluster says of it now; looks again until nothing is left to do."""
        meta = seen["metadata"]
        try:
            while self._work is not None:
                pod = self._pods.get(meta["namespace"], meta["name"])
                if pod is not None and pod["metadata"]["uid"] != uid:
                    pod = None
                if pod is None:
                    await self._end(uid, timedelta(0))
                    return
                if pod["metadata"].get("deletionTimestamp"):
                    grace = pod["metadata"].get("deletionGracePeriodSeconds", DEFAULT_GRACE_S)
                    await self._end(uid, timedelta(seconds=grace))
                    await self._confirm_deletion(pod)
                    return
                if uid not in self._runners and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
                    self._runners[uid] = runner = PodRunner(
                        self._cluster,
                        pod,
                        images=self._images,
                        sandbox=self._sandbox,
                        folder=self._pod_folder / uid,
                        claims=self._claim_folder,
                        log_folder=pod_folder(self._log_folder, pod),
                        report=partial(self._report, pod),
                    )
                    runner.start()
                    continue
                return
        finally:
            self._busy.discard(uid)
            self._look_again(uid, meta)

    def _look_again(self, uid: str, meta: Manifest) -> None:
        """A change that came while we worked was not queued: what it asks for is seen here."""
        pod = self._pods.get(meta["namespace"], meta["name"])
        gone = pod is None or pod["metadata"]["uid"] != uid
        if uid in self._runners and (gone or (pod and pod["metadata"].get("deletionTimestamp"))):
            self._pod_changed(Change("MODIFIED", pod or {"metadata": meta}, None))

    async def _end(self, uid: str, grace: timedelta) -> None:
        runner = self._runners.pop(uid, None)
        if runner is not None:
            await runner.stop(grace)
            await asyncio.to_thread(runner.remove)

    async def _confirm_deletion(self, pod: Manifest) -> None:
        """The processes are gone: now the object may go."""
        meta = pod["metadata"]
        await self._until_taken(
            lambda: self._cluster.delete(PODS, meta["name"], meta["namespace"], uid=meta["uid"], grace_s=0)
        )

    async def _report(self, pod: Manifest, status: Manifest) -> None:
        meta = pod["metadata"]
        patch = {"metadata": {"uid": meta["uid"]}, "status": status}
        await self._until_taken(
            lambda: self._cluster.merge_patch(PODS, meta["name"], meta["namespace"], patch, subresource="status")
        )

    @staticmethod
    async def _until_taken(write: Callable[[], Awaitable[object]]) -> None:
        """A write that the cluster is to know of in the end; what it refuses because the object is gone is over."""
        while True:
            try:
                await write()
            except (NotFound, Conflict):
                return
            except Unavailable as away:
                await asyncio.sleep(min(away.retry_after_s, RETRY_S))
            else:
                return
