"""One pod's life: make its volumes, run its containers, start them again, end them."""

import asyncio
import contextlib
import shutil
from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from komputer.kube import CONFIG_MAPS, SECRETS, Cluster
from komputer.local.kubelet import logs
from komputer.local.kubelet.container import Command, Run
from komputer.local.kubelet.sandbox import Sandbox
from komputer.local.kubelet.status import (
    BACK_OFF_FORGIVEN,
    ContainerState,
    Exit,
    back_off,
    pod_status,
    starts_again,
)
from komputer.local.kubelet.volumes import NotMounted, Volumes
from komputer.resources.base import Manifest
from komputer.resources.errors import KomputerError, NotFound

log = structlog.get_logger(__name__)

WAIT = timedelta(seconds=1)
"""Before a volume that was missing is looked for again."""
REFRESH = timedelta(seconds=30)
"""How often tokens are looked at; they live for ten minutes at least."""


class PodRunner:
    """Runs one pod until it is told to stop. `report` writes the pod's status."""

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
        report: Callable[[Manifest], Awaitable[None]],
    ) -> None:
        self._cluster = cluster
        self._pod = pod
        self._images = images
        self._sandbox = sandbox
        self._folder = folder
        self._log_folder = log_folder
        self._report_status = report
        self._volumes = Volumes(cluster, pod, folder / "volumes", claims)
        self._runs: dict[str, Run] = {}
        before = {c["name"]: c for c in (pod.get("status") or {}).get("containerStatuses", ())}
        self._containers = [self._recovered(c, before.get(c["name"])) for c in pod["spec"]["containers"]]
        self._task: asyncio.Task[None] | None = None

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
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self, grace: timedelta) -> None:
        """Ends every container; the pod's status is left as it is."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(*(run.stop(grace) for run in self._runs.values()))
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def remove(self) -> None:
        """The pod is gone for good: its volumes and logs go too."""
        self._volumes.remove()
        shutil.rmtree(self._log_folder, ignore_errors=True)

    async def _report(self) -> None:
        await self._report_status(pod_status(self._pod, self._containers, datetime.now(UTC)))

    async def _run(self) -> None:
        made = await self._mount()
        await asyncio.gather(
            self._refresh_tokens(),
            *(
                self._keep(spec, state, made)
                for spec, state in zip(self._pod["spec"]["containers"], self._containers, strict=True)
            ),
        )

    async def _mount(self) -> dict[str, Path]:
        while True:
            try:
                return await self._volumes.make()
            except KomputerError as waiting:
                for state in self._containers:
                    state.reason, state.message = "ContainerCreating", waiting.message
                await self._report()
                await asyncio.sleep(WAIT.total_seconds())

    async def _refresh_tokens(self) -> None:
        while True:
            await asyncio.sleep(REFRESH.total_seconds())
            try:
                await self._volumes.refresh(datetime.now(UTC))
            except KomputerError as failed:
                log.warning("token was not renewed", pod=self._pod["metadata"]["name"], error=failed.message)

    async def _keep(self, spec: Manifest, state: ContainerState, made: dict[str, Path]) -> None:
        """Starts the container, and again as restartPolicy says; returns when it has ended for good."""
        policy = self._pod["spec"].get("restartPolicy", "Always")
        while True:
            try:
                command = await self._command(spec, made)
            except NotMounted as wrong:
                state.state, state.reason, state.message = "waiting", wrong.code, wrong.message
                await self._report()
                await asyncio.sleep(WAIT.total_seconds())
                continue
            done = await self._once(command, state)
            if not starts_again(policy, done.code):
                state.state, state.exit = "terminated", done
                await self._report()
                return
            ran_well = done.finished - done.started > BACK_OFF_FORGIVEN
            state.crashes = 1 if ran_well else state.crashes + 1
            state.last, state.restarts = done, state.restarts + 1
            pause = back_off(state.crashes)
            if pause:
                state.state, state.reason = "waiting", "CrashLoopBackOff"
                state.message = f"back-off {int(pause.total_seconds())}s restarting failed container {state.name}"
                await self._report()
                await asyncio.sleep(pause.total_seconds())

    async def _once(self, command: Command, state: ContainerState) -> Exit:
        output = logs.LogFile(self._log_folder / f"{state.name}.log")
        try:
            run = await Run.start(command, self._sandbox, output)
        except OSError as wrong:
            now = datetime.now(UTC)
            output.write(f"{wrong.filename or state.name}: {wrong.strerror}\n".encode())
            output.close()
            return Exit(128, None, now, now, str(wrong.strerror))
        self._runs[state.name] = run
        try:
            state.state, state.started, state.reason, state.message = "running", run.started, "", ""
            await self._report()
            return await run.exit()
        finally:
            del self._runs[state.name]
            output.close()

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
