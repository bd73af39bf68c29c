"""One pod's life: make its volumes, run its containers, start them again, end them."""

import asyncio
import errno
from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import structlog

from komputer.background import Background, reason_of
from komputer.backoff import Backoff
from komputer.domain.base import Manifest
from komputer.domain.errors import NotFound
from komputer.kube import CONFIG_MAPS, SECRETS, Cluster
from komputer.local.kubelet import logs
from komputer.local.kubelet.container import Command, Run
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
"""Between attempts at what a pod waits for: a volume, space on the disk, a status that is not taken."""
REFRESH = timedelta(seconds=2)
"""How often tokens and folders are looked at: a folder that was deleted below a running container is noticed then."""
LOST_FOLDER_GRACE = timedelta(seconds=5)
"""How long a container that has lost a folder may take to end."""
PROGRAMS_FAULT = frozenset({errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR, errno.EPERM})
"""Why a program cannot be started whatever the machine has free. For want of memory, space or descriptors the start is
tried again."""


class PodRunner:
    """Runs one pod until it is told to stop. `report` writes the pod's status; `full_disk` says why nothing may be
    started now."""

    def __init__(
        self,
        cluster: Cluster,
        pod: Manifest,
        *,
        images: Mapping[str, list[str]],
        sandbox: Sandbox,
        folder: Path,
        claims: Path,
        log_folder: Path,
        etc: Path,
        report: Callable[[Manifest], Awaitable[None]],
        full_disk: Callable[[], str | None],
    ) -> None:
        self._cluster = cluster
        self._pod = pod
        self._images = images
        self._sandbox = sandbox
        self._folder = folder
        self._log_folder = log_folder
        self._report_status = report
        self._full_disk = full_disk
        self._etc = etc
        self._volumes = Volumes(cluster, pod, folder / "volumes", claims)
        self._runs: dict[str, Run] = {}
        before = {c["name"]: c for c in (pod.get("status") or {}).get("containerStatuses", ())}
        self._containers = [self._recovered(c, before.get(c["name"])) for c in pod["spec"]["containers"]]
        self._background = Background(BACKOFF)
        self._has_changed = asyncio.Event()
        self._folders: dict[str, dict[Path, tuple[int, int]]] = {}

    @staticmethod
    def _recovered(container: Manifest, before: Manifest | None) -> ContainerState:
        """A container that ran under an earlier kubelet is gone with it: it starts again, and counts as restarted."""
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
        name = f"pod {self._pod['metadata']['namespace']}/{self._pod['metadata']['name']}"
        self._background.keep(f"status of {name}", self._report)
        self._background.keep(f"volumes of {name}", self._refresh)
        for spec, state in zip(self._pod["spec"]["containers"], self._containers, strict=True):
            self._background.run(f"container {state.name} of {name}", partial(self._keep, spec, state))

    async def stop(self, grace: timedelta) -> None:
        """Ends every container; the pod's status is left as it is."""
        await self._background.close()
        await asyncio.gather(*(run.stop(grace) for run in self._runs.values()))
        self._runs.clear()

    def changed(self) -> None:
        """Something that the pod's status tells has changed: it is written soon."""
        self._has_changed.set()

    async def _report(self) -> None:
        """Writes the newest status. What runs never waits for it."""
        while True:
            await self._has_changed.wait()
            self._has_changed.clear()
            status = pod_status(self._pod, self._containers, datetime.now(UTC), self._full_disk())
            try:
                await self._report_status(status)
            except Exception:
                self._has_changed.set()
                raise
            self._pod = {**self._pod, "status": status}

    def _waits(self, state: ContainerState, error: Exception) -> None:
        """The status says why the container does not run, with the reason as Kubernetes names it."""
        has_name = isinstance(error, NotMounted) and error.code != NotMounted.code
        reason = error.code if isinstance(error, NotMounted) and has_name else "ContainerCreating"
        before = (state.state, state.reason, state.message)
        state.state, state.reason, state.message = "waiting", reason, reason_of(error)
        if before != (state.state, state.reason, state.message):
            self.changed()

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH.total_seconds())
            for name, run in list(self._runs.items()):
                lost = [str(path) for path, known in self._folders[name].items() if identity(path) != known]
                if lost:
                    log.warning("container lost a folder and starts again", pod=self.uid, container=name, lost=lost)
                    await run.stop(LOST_FOLDER_GRACE)
            await self._volumes.refresh(datetime.now(UTC))

    async def _keep(self, spec: Manifest, state: ContainerState) -> None:
        """Starts the container, and again as restartPolicy says; returns when it has ended for good."""
        policy = self._pod["spec"].get("restartPolicy", "Always")
        while True:
            try:
                done = await self._once(await self._prepared(spec), state)
            except Exception as error:
                self._waits(state, error)
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

    async def _prepared(self, spec: Manifest) -> Command:
        """What to run, with its folders made. Raises `NotMounted`, `OSError`, and what the cluster raises."""
        if full := self._full_disk():
            raise NotMounted(full, code=DISK_PRESSURE)
        if self._sandbox is Sandbox.BUBBLEWRAP and not self._etc.exists():
            raise NotMounted("the sandbox's /etc is not made yet")
        return await self._command(spec, await self._volumes.make())

    async def _once(self, command: Command, state: ContainerState) -> Exit:
        self._folders[state.name] = {mount.source: identity(mount.source) for mount in command.mounts}
        output = logs.ContainerLogFile(self._log_folder / f"{state.name}.log")
        starting = asyncio.ensure_future(Run.start(command, self._sandbox, output))
        try:
            run = await asyncio.shield(starting)
        except asyncio.CancelledError:
            with suppress(OSError):
                self._runs[state.name] = await starting  # for `stop`: what is about to run must end, too
            raise
        except OSError as wrong:
            if wrong.errno not in PROGRAMS_FAULT:
                raise
            now = datetime.now(UTC)
            output.write(f"{wrong.filename or state.name}: {wrong.strerror}\n".encode())
            output.close()
            return Exit(128, None, now, now, str(wrong.strerror))
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
        """Raises `NotMounted` with the reason as Kubernetes names it."""
        image = spec.get("image", "")
        entrypoint = self._images.get(image)
        if entrypoint is None and not spec.get("command"):
            raise NotMounted(
                f"image {image!r} is not known here; this machine has {', '.join(sorted(self._images))}",
                code="ErrImagePull",
            )
        own = spec.get("command")
        try:
            environment = await self._environment(spec)
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
            self._etc,
        )

    async def _environment(self, spec: Manifest) -> dict[str, str]:
        found: dict[str, str] = {}
        for source in spec.get("envFrom", ()):
            prefix = source.get("prefix", "")
            reference = source.get("configMapRef") or source.get("secretRef") or {}
            try:
                data = await self._data("configMapRef" in source, reference["name"])
            except NotFound:
                if reference.get("optional"):
                    continue
                raise
            found |= {prefix + key: value for key, value in data.items()}
        for variable in spec.get("env", ()):
            value = variable.get("value", "")
            if "valueFrom" in variable:
                looked_up = await self._value_from(variable["valueFrom"])
                if looked_up is None:
                    continue
                value = looked_up
            found[variable["name"]] = value
        return found

    async def _value_from(self, source: Manifest) -> str | None:
        if "fieldRef" in source:
            meta = self._pod["metadata"]
            fields = {f"metadata.{key}": meta.get(key, "") for key in ("name", "namespace", "uid")}
            path = source["fieldRef"]["fieldPath"]
            return str(fields.get(path, self._pod["spec"].get(path.removeprefix("spec."), "")))
        for key, is_config_map in (("configMapKeyRef", True), ("secretKeyRef", False)):
            if key in source:
                reference = source[key]
                try:
                    return (await self._data(is_config_map, reference["name"]))[reference["key"]]
                except (NotFound, KeyError) as missing:
                    if reference.get("optional"):
                        return None
                    raise NotFound(f"key {reference['key']!r} of {reference['name']!r} not found") from missing
        return None

    async def _data(self, is_config_map: bool, name: str) -> dict[str, str]:
        namespace = self._pod["metadata"]["namespace"]
        found = (await self._cluster.get(CONFIG_MAPS if is_config_map else SECRETS, name, namespace)).get("data") or {}
        return found if is_config_map else {key: b64decode(value).decode() for key, value in found.items()}


def identity(path: Path) -> tuple[int, int]:
    """Which folder it is: another one at the same path is not the one that a container sees. (0, 0) for none."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino
