"""Runs one pod: prepares its volumes, and starts, restarts and ends its containers."""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import structlog

from komputer.background import Background, reason_of
from komputer.backoff import Backoff
from komputer.domain.base import Manifest
from komputer.domain.errors import NotFound
from komputer.kube import Cluster
from komputer.local.kubelet import logs
from komputer.local.kubelet.container import Command, Run
from komputer.local.kubelet.environment import declared_environment
from komputer.local.kubelet.node import Node
from komputer.local.kubelet.sandbox import Sandbox
from komputer.local.kubelet.status import (
    BACK_OFF_FORGIVEN,
    DISK_PRESSURE,
    RESTART_BACKOFF,
    ContainerState,
    Exit,
    pod_status,
    starts_again,
)
from komputer.local.kubelet.volumes import NotMounted, Volumes

log = structlog.get_logger(__name__)

BACKOFF = Backoff(0.1, 2.0)
"""The pauses between attempts while a pod waits for a volume, for disk space, or until its status can be written."""
REFRESH = timedelta(seconds=2)
"""The interval at which due tokens are renewed, and the folders of running containers are checked for deletion."""
LOST_FOLDER_GRACE = timedelta(seconds=5)
"""How long a container whose folder was deleted may take to end."""
EXEC_ERRORS = frozenset({errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR, errno.EPERM})
"""Errors of exec which mean that the program itself cannot run, so that the container fails. After any other error (no
memory, space or descriptors) the start is retried."""


class PodRunner:
    """Runs one pod until `stop`. `report` writes the pod's status to the cluster."""

    def __init__(
        self, cluster: Cluster, pod: Manifest, node: Node, report: Callable[[Manifest], Awaitable[None]]
    ) -> None:
        self._cluster = cluster
        self._pod = pod
        self._node = node
        self._report_status = report
        self._folder = node.pod_folder(pod)
        self._volumes = Volumes(cluster, pod, self._folder / "volumes", node.volumes)
        self._runs: dict[str, Run] = {}
        before = {c["name"]: c for c in (pod.get("status") or {}).get("containerStatuses", ())}
        self._containers = [self._initial_state(c, before.get(c["name"])) for c in pod["spec"]["containers"]]
        self._background = Background(BACKOFF)
        self._status_changed = asyncio.Event()
        self._folders: dict[str, dict[Path, tuple[int, int]]] = {}

    @staticmethod
    def _initial_state(container: Manifest, before: Manifest | None) -> ContainerState:
        """Return the first state of a container. `before` is its status under an earlier kubelet. If it ran then, it
        ended with that kubelet: it is started again, and a restart is counted."""
        state = ContainerState(container["name"], container.get("image", ""))
        if before:
            state.restarts = before.get("restartCount", 0)
            if "running" in before.get("state", {}):
                now = datetime.now(UTC)
                state.restarts += 1
                state.last = Exit(137, 9, now, now, "the node stopped")
        return state

    @property
    def uid(self) -> str:
        return str(self._pod["metadata"]["uid"])

    def start(self) -> None:
        """Start the containers, and the loops that report the status and refresh the volumes."""
        name = f"pod {self._pod['metadata']['namespace']}/{self._pod['metadata']['name']}"
        self._background.run_forever(f"status of {name}", self._report)
        self._background.run_forever(f"volumes of {name}", self._refresh_volumes)
        for spec, state in zip(self._pod["spec"]["containers"], self._containers, strict=True):
            self._background.run(f"container {state.name} of {name}", partial(self._keep_running, spec, state))

    async def stop(self, grace: timedelta) -> None:
        """End every container, with SIGKILL after `grace`. The pod's status is not changed."""
        await self._background.close()
        await asyncio.gather(*(run.stop(grace) for run in self._runs.values()))
        self._runs.clear()

    def changed(self) -> None:
        """Cause the status to be written soon."""
        self._status_changed.set()

    async def _report(self) -> None:
        """Write the newest status whenever it changes. Containers do not wait for the write."""
        while True:
            await self._status_changed.wait()
            self._status_changed.clear()
            status = pod_status(self._pod, self._containers, datetime.now(UTC), self._node.full_disk)
            try:
                await self._report_status(status)
            except Exception:
                self._status_changed.set()
                raise
            self._pod = {**self._pod, "status": status}

    def _set_waiting(self, state: ContainerState, error: Exception) -> None:
        """Set the state of a container that cannot start yet, with the reason that Kubernetes uses."""
        has_name = isinstance(error, NotMounted) and error.code != NotMounted.code
        reason = error.code if isinstance(error, NotMounted) and has_name else "ContainerCreating"
        before = (state.state, state.reason, state.message)
        state.state, state.reason, state.message = "waiting", reason, reason_of(error)
        if before != (state.state, state.reason, state.message):
            self.changed()

    async def _refresh_volumes(self) -> None:
        """Renew tokens, and restart a container whose folder was deleted or replaced, since it still has the old one
        mounted."""
        while True:
            await asyncio.sleep(REFRESH.total_seconds())
            for name, run in list(self._runs.items()):
                lost = [str(path) for path, known in self._folders[name].items() if identity(path) != known]
                if lost:
                    log.warning(
                        "container restarted after its folder was deleted", pod=self.uid, container=name, lost=lost
                    )
                    await run.stop(LOST_FOLDER_GRACE)
            await self._volumes.refresh(datetime.now(UTC))

    async def _keep_running(self, spec: Manifest, state: ContainerState) -> None:
        """Start the container, and restart it as restartPolicy says. Return when it is not to be restarted any more."""
        policy = self._pod["spec"].get("restartPolicy", "Always")
        while True:
            try:
                done = await self._run_once(await self._prepare(spec), state)
            except Exception as error:
                self._set_waiting(state, error)
                raise
            if not starts_again(policy, done.code):
                state.state, state.exit = "terminated", done
                self.changed()
                return
            ran_well = done.finished - done.started > BACK_OFF_FORGIVEN
            state.crashes = 1 if ran_well else state.crashes + 1
            state.last, state.restarts = done, state.restarts + 1
            pause_s = RESTART_BACKOFF.delay_s(state.crashes - 1)
            if pause_s:
                state.state, state.reason = "waiting", "CrashLoopBackOff"
                state.message = f"back-off {int(pause_s)}s restarting failed container {state.name}"
                self.changed()
                await asyncio.sleep(pause_s)

    async def _prepare(self, spec: Manifest) -> Command:
        """Create the volumes and return the command to run. Raises `NotMounted`, `OSError`, and the errors of the
        Kubernetes client."""
        if full := self._node.full_disk:
            raise NotMounted(full, code=DISK_PRESSURE)
        if self._node.sandbox is Sandbox.BUBBLEWRAP and not (self._node.has_etc and self._node.etc.exists()):
            raise NotMounted("the sandbox's /etc does not exist yet")
        return await self._command(spec, await self._volumes.make())

    async def _run_once(self, command: Command, state: ContainerState) -> Exit:
        """Run the container once and return how it ended."""
        self._folders[state.name] = {mount.source: identity(mount.source) for mount in command.mounts}
        output = logs.ContainerLogFile(self._node.log_folder(self._pod) / f"{state.name}.log")
        starting = asyncio.ensure_future(Run.start(command, self._node.sandbox, output))
        try:
            run = await asyncio.shield(starting)
        except asyncio.CancelledError:
            with suppress(OSError):
                self._runs[state.name] = await starting  # the shielded start has completed, so `stop` ends its run
            raise
        except OSError as error:
            if error.errno not in EXEC_ERRORS:
                raise
            now = datetime.now(UTC)
            output.write(f"{error.filename or state.name}: {error.strerror}\n".encode())
            output.close()
            return Exit(128, None, now, now, str(error.strerror))
        self._runs[state.name] = run
        state.state, state.started, state.reason, state.message = "running", run.started, "", ""
        self.changed()
        try:
            done = await run.exit()
        except Exception:
            await run.stop(timedelta(0))
            del self._runs[state.name]
            raise
        del self._runs[state.name]
        return done

    async def _command(self, spec: Manifest, made: dict[str, Path]) -> Command:
        """Return the command of a container. Raises `NotMounted` with the reason that Kubernetes uses."""
        image = spec.get("image", "")
        entrypoint = self._node.images.get(image)
        if entrypoint is None and not spec.get("command"):
            raise NotMounted(
                f"image {image!r} is not known here; this machine has {', '.join(sorted(self._node.images))}",
                code="ErrImagePull",
            )
        own = spec.get("command")
        try:
            environment = await declared_environment(self._cluster, self._pod, spec)
        except NotFound as missing:
            raise NotMounted(missing.message, code="CreateContainerConfigError") from missing
        return Command(
            [] if own else list(entrypoint or ()),
            [*(own or ()), *(spec.get("args") or ())],
            environment,
            spec.get("workingDir"),
            self._volumes.mounts(spec, made),
            self.uid,
            self._folder / "containers" / spec["name"],
            self._node.etc,
        )


def identity(path: Path) -> tuple[int, int]:
    """Return the device and inode of a folder; (0, 0) if there is none. If they differ from those at the start of a
    container, the folder at the path is not the one that the container has mounted."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino
