"""What each part of the platform does in its process. Heavy imports happen in the parent, before the forks."""

import asyncio
import logging
import logging.handlers
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Literal

import uvloop

from komputer import api, gateway, offline, operator
from komputer.connectors.addresses import AddressRules
from komputer.events.log import Log
from komputer.kube import Cluster
from komputer.local import credential, valkey
from komputer.local.apiserver import ApiServer
from komputer.local.datadir import DataDir
from komputer.local.install import AGENT_IMAGE, config, install
from komputer.local.kubelet import Kubelet, Sandbox, log_source
from komputer.resources.errors import Unavailable
from komputer.serve import logs
from komputer.serve.http import Ready, serve

LOG_LIMIT_BYTES, LOGS_KEPT = 10 * 1024 * 1024, 3


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


def log_to_file(platform: Platform, part: str) -> None:
    """Everything that this process says goes to `logs/<part>.log`, rotated at 10 MiB; stderr too."""
    path = platform.data.logs / f"{part}.log"
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=LOG_LIMIT_BYTES, backupCount=LOGS_KEPT)
    logs.to(handler, platform.log_level, platform.log_format)
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(log, sys.stderr.fileno())
    os.close(log)


def stop_signal() -> asyncio.Event:
    """Set by SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    return stop


def run_valkey(platform: Platform, ready: Ready) -> None:
    log_to_file(platform, "valkey")
    valkey.run(platform.data.valkey, platform.data.logs / "valkey-server.log", ready)


def run_kubernetes(platform: Platform, ready: Ready) -> None:
    log_to_file(platform, "kubernetes")
    data = platform.data

    async def main() -> None:
        server = ApiServer(data.objects, admin_token=data.token, log_source=log_source(data.logs / "pods"))

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

        async with asyncio.TaskGroup() as group:
            await serve(server.app(), platform.sockets.kubernetes, lambda: _begin(group, install_ours()))

    uvloop.run(main())


def _begin(group: asyncio.TaskGroup, work: Coroutine[None, None, None]) -> None:
    group.create_task(work)


def run_api(platform: Platform, ready: Ready) -> None:
    log_to_file(platform, "api")

    async def all_parts() -> None:
        missing = platform.unready()
        if missing:
            raise Unavailable(f"not ready yet: {', '.join(missing)}", code="starting")

    async def main() -> None:
        cluster = Cluster.connect(platform.data.kubeconfig)
        log = Log.connect(valkey.url(platform.data.valkey))
        settings = api.Settings(
            also_ready=all_parts, addresses=_addresses(platform), create_status=platform.create_status
        )
        app = api.app(settings, cluster, log)
        await serve(app, platform.sockets.api, ready, app.state.streams.drain)
        await cluster.close()
        await log.close()

    uvloop.run(main())


def run_gateway(platform: Platform, ready: Ready) -> None:
    log_to_file(platform, "gateway")

    async def main() -> None:
        cluster = Cluster.connect(platform.data.kubeconfig)
        log = Log.connect(valkey.url(platform.data.valkey))
        app = gateway.app(_gateway_settings(platform), cluster, log)
        await serve(app, platform.sockets.gateway, ready)
        await cluster.close()
        await log.close()

    uvloop.run(main())


def _gateway_settings(platform: Platform) -> gateway.Settings:
    descriptor = credential.handle()
    base_url, given = platform.sockets.url(platform.sockets.model), None
    if not platform.is_offline and descriptor is not None:
        access = credential.read(descriptor)
        base_url, given = access.base_url, gateway.Credential(kind=access.kind, value=access.value)
    return gateway.Settings(
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
        await operator.run(operator.Settings(), cluster, log, ready=ready, stop=stop_signal())
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
        await kubelet.run(stop_signal(), ready)
        await cluster.close()

    asyncio.run(main())


def run_model(platform: Platform, ready: Ready) -> None:
    log_to_file(platform, "model")
    uvloop.run(serve(offline.app(), platform.sockets.model, ready))
