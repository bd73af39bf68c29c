"""What each part of the platform does in its process. Heavy imports happen in the parent, before the forks."""

import asyncio
import contextlib
import logging
import logging.handlers
import os
import shlex
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import uvloop

from komputer import api, gateway, offline, operator
from komputer.background import Background
from komputer.domain.addresses import AddressRules
from komputer.domain.errors import Unavailable
from komputer.events.log import Log
from komputer.http.refusals import as_messages_api
from komputer.kube import Cluster
from komputer.local import credential, database, disk, valkey
from komputer.local.apiserver import ApiServer, Credentials, as_status, connect, ensure_kubeconfig
from komputer.local.datadir import DataDir
from komputer.local.install import AGENT_IMAGE, config, install
from komputer.local.kubelet import Kubelet, Sandbox, log_source
from komputer.local.supervisor import Fatal, tell
from komputer.serve import heap, logs
from komputer.serve.http import Ready, serve

LOG_LIMIT_BYTES, LOGS_KEPT = 10 * 1024 * 1024, 3
LAST_LINES = 12
"""Of a part's log, shown where it fails again and again."""


class PartLogFile(logging.handlers.RotatingFileHandler):
    """Rotated at `LOG_LIMIT_BYTES`; made anew where somebody removed it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        super().__init__(path, maxBytes=LOG_LIMIT_BYTES, backupCount=LOGS_KEPT, encoding="utf-8", errors="replace")

    def emit(self, record: logging.LogRecord) -> None:
        if not os.path.exists(self.baseFilename):
            with contextlib.suppress(OSError):
                os.makedirs(os.path.dirname(self.baseFilename), mode=0o700, exist_ok=True)
                self.close()
                self.stream = self._open()
        super().emit(record)


@dataclass(frozen=True)
class Sockets:
    """Opened by the parent, so that a part that is started again keeps its address and its waiting callers."""

    api: socket.socket
    kubernetes: socket.socket
    gateway: socket.socket
    model: socket.socket

    def url(self, part: socket.socket) -> str:
        host, port = part.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"


@dataclass(frozen=True)
class Platform:
    """What all parts are told."""

    data: DataDir
    sockets: Sockets
    sandbox: Sandbox
    is_offline: bool
    log_level: str
    log_format: Literal["text", "json"]
    unready: Callable[[], list[str]]
    create_status: int | None = None

    def restore(self) -> None:
        """Make what every part finds in the data directory, where somebody removed or changed it. Raises `OSError`."""
        self.data.restore()
        ensure_kubeconfig(self.data.kubeconfig, self.sockets.url(self.sockets.kubernetes), self.data.token)

    def watch(self) -> str | None:
        """Called by the parent all the time: restores what is missing; the reason where the platform must stop."""
        if lost := self.data.why_lost():
            return lost
        with contextlib.suppress(OSError):  # a full disk, which may have room again
            self.restore()
        return None

    def last_lines(self, part: str) -> list[str]:
        """The last lines that a part has logged."""
        found = []
        for name in (part, f"{part}-server"):
            with contextlib.suppress(OSError):
                with (self.data.logs / f"{name}.log").open("rb") as file:
                    file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
                    lines = file.read().decode("utf-8", "replace").splitlines()
                found += [line[:300] for line in lines if line.strip()][-LAST_LINES:]
        return found


def log_to_file(platform: Platform, part: str) -> None:
    """Everything that this process says goes to `logs/<part>.log`, rotated at 10 MiB; stderr too."""
    with contextlib.suppress(OSError):  # a full disk: the part may do without
        platform.restore()
    path = platform.data.logs / f"{part}.log"
    logs.to(PartLogFile(path), platform.log_level, platform.log_format)
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(log, 2)
    os.close(log)


def stop_signal() -> asyncio.Event:
    """Set by SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    return stop


def run_valkey(platform: Platform, ready: Ready) -> None:
    log_to_file(platform, "valkey")
    valkey.run(platform.data.valkey, platform.data.logs / "valkey-server.log", ready, tell)


def run_kubernetes(platform: Platform, ready: Ready) -> None:
    log_to_file(platform, "kubernetes")
    data = platform.data
    check_objects(data.objects)

    async def main() -> None:
        server = ApiServer(
            data.objects,
            Credentials(data.token, data.installation),
            log_source=log_source(data.logs / "pods"),
            full_disk=partial(disk.shortage, data.path),
        )

        async def install_ours() -> None:
            cluster = Cluster.connect(data.kubeconfig)
            try:
                await install(
                    cluster,
                    config(
                        valkey.url(data.valkey),
                        platform.sockets.url(platform.sockets.api),
                        platform.sockets.url(platform.sockets.gateway),
                    ),
                )
            finally:
                await cluster.close()
            ready()

        async with Background() as background:
            await serve(
                server.app(),
                platform.sockets.kubernetes,
                partial(_begin, background, install_ours),
                server.stop_watches,
                refusal=as_status,
                protocol=connect.ConnectProtocol,
            )

    uvloop.run(main())


def _settled(ready: Ready) -> Ready:
    """Also takes what was loaded out of garbage collection; `serve` does so for the HTTP servers."""

    def settled() -> None:
        heap.freeze()
        ready()

    return settled


def check_objects(objects: Path) -> None:
    """Raises `Fatal` where the file of the objects is damaged; else keeps a copy of it for a later repair."""
    if damage := database.find_damage(objects):
        raise Fatal(
            f"the objects (agents, connectors, configuration) are damaged: {damage}. Nothing was changed. To go on "
            "with what can be read (a copy is kept; workspaces stay): komputer repair "
            f"--data-dir {shlex.quote(str(objects.parent))}"
        )
    if kept := database.keep_backup_of_lost(objects):
        tell(f"note: {objects} is gone or empty: there are no agents now. Their state at the last start is {kept};")
        tell(f"      to go back to it, stop the platform and rename that file to {objects.name}")
    database.back_up(objects)


def _begin(background: Background, work: Callable[[], Coroutine[None, None, None]]) -> None:
    background.run("installation of the resource definitions", work)


def run_api(platform: Platform, ready: Ready) -> None:
    log_to_file(platform, "api")

    async def all_parts() -> None:
        missing = platform.unready()
        if missing:
            raise Unavailable(f"not ready yet: {', '.join(missing)}", code="starting")
        if full := disk.shortage(platform.data.path):
            raise Unavailable(full, code="disk_full")

    async def main() -> None:
        cluster = Cluster.connect(platform.data.kubeconfig)
        log = Log.connect(valkey.url(platform.data.valkey))
        settings = api.ApiSettings(
            also_ready=all_parts, addresses=_addresses(platform), create_status=platform.create_status
        )
        app = api.app(settings, cluster, log)
        await serve(app, platform.sockets.api, ready, app.state.streams.drain, websockets=api.WebSocketProtocol)
        await cluster.close()
        await log.close()

    uvloop.run(main())


def run_gateway(platform: Platform, ready: Ready) -> None:
    log_to_file(platform, "gateway")

    async def main() -> None:
        cluster = Cluster.connect(platform.data.kubeconfig)
        log = Log.connect(valkey.url(platform.data.valkey))
        app = gateway.app(_gateway_settings(platform), cluster, log)
        await serve(app, platform.sockets.gateway, ready, app.drain)
        await cluster.close()
        await log.close()

    uvloop.run(main())


def _gateway_settings(platform: Platform) -> gateway.GatewaySettings:
    descriptor = credential.handle()
    base_url, given = platform.sockets.url(platform.sockets.model), None
    if not platform.is_offline and descriptor is not None:
        access = credential.read(descriptor)
        base_url, given = access.base_url, gateway.ModelCredential(kind=access.kind, value=access.value)
    return gateway.GatewaySettings(
        model_base_url=base_url, model_credential=gateway.always(given), addresses=_addresses(platform)
    )


def _addresses(platform: Platform) -> AddressRules:
    """This machine's own servers may be connectors, but no part of the platform."""
    sockets = platform.sockets
    ours = (sockets.api, sockets.kubernetes, sockets.gateway, sockets.model)
    return AddressRules(loopback=True, own_ports=frozenset(each.getsockname()[1] for each in ours))


def run_operator(platform: Platform, ready: Ready) -> None:
    log_to_file(platform, "operator")

    async def main() -> None:
        cluster = Cluster.connect(platform.data.kubeconfig)
        log = Log.connect(valkey.url(platform.data.valkey))
        await operator.run(operator.OperatorSettings(), cluster, log, ready=_settled(ready), stop=stop_signal())
        await cluster.close()
        await log.close()

    os.environ["KUBECONFIG"] = str(platform.data.kubeconfig)
    uvloop.run(main())


def run_kubelet(platform: Platform, ready: Ready) -> None:
    log_to_file(platform, "kubelet")
    images = {AGENT_IMAGE: [sys.executable, "-I", "-B", "-m", "komputer.runtime"]}

    async def main() -> None:
        cluster = Cluster.connect(platform.data.kubeconfig)
        kubelet = Kubelet(cluster, platform.data.path, sandbox=platform.sandbox, images=images)
        async with Background() as background:
            background.run_forever("space set aside", partial(disk.keep_reserves, platform.data.path))
            await kubelet.run(stop_signal(), _settled(ready))
        await cluster.close()

    asyncio.run(main())


def run_model(platform: Platform, ready: Ready) -> None:
    log_to_file(platform, "model")
    uvloop.run(serve(offline.app(), platform.sockets.model, ready, refusal=as_messages_api))
