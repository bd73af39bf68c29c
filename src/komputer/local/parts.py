"""The parts of the platform on one machine: one function per part, which runs it in its process.

`api`, `gateway`, `operator` and `model` are the programs of a cluster (`komputer.bootstrap`). `valkey`, `kubernetes`
and `kubelet` replace what a cluster provides. All imports are at the top, so that the parent runs them before it forks.
"""

import asyncio
import shlex
import sys
from functools import partial
from pathlib import Path

import uvloop

from komputer import api, gateway, operator
from komputer.background import Background
from komputer.bootstrap import heap
from komputer.bootstrap.api import serve_api
from komputer.bootstrap.gateway import serve_gateway
from komputer.bootstrap.offline_model import serve_offline_model
from komputer.bootstrap.operator import operate
from komputer.bootstrap.server import Endpoint, Ready, serve
from komputer.bootstrap.stopping import stop_event
from komputer.domain.addresses import AddressRules
from komputer.domain.errors import Unavailable
from komputer.kube import Cluster
from komputer.local import credential, database, disk, valkey
from komputer.local.apiserver import ApiServer, ServerCredentials, as_status, connect
from komputer.local.datadir import Unusable
from komputer.local.install import AGENT_IMAGE, config, install
from komputer.local.kubelet import Kubelet, log_source
from komputer.local.part_log import log_to_file
from komputer.local.platform import Platform
from komputer.local.supervisor import Fatal
from komputer.local.terminal import tell


# ---- the programs of a cluster --------------------------------------------------------------------------------------
def run_api(platform: Platform, ready: Ready) -> None:
    log_to_file(platform, "api")

    async def every_part_ready() -> None:
        if unready := platform.unready():
            raise Unavailable(f"not ready yet: {', '.join(unready)}", code="starting")
        if full := disk.shortage(platform.data.path):
            raise Unavailable(full, code="disk_full")

    settings = api.ApiSettings(
        also_ready=every_part_ready, addresses=_addresses(platform), create_status=platform.options.create_status
    )
    uvloop.run(serve_api(settings, platform.backends, Endpoint(platform.sockets.api, ready)))


def run_gateway(platform: Platform, ready: Ready) -> None:
    log_to_file(platform, "gateway")
    descriptor = credential.handle()
    base_url, key = platform.sockets.url(platform.sockets.model), None
    if not platform.options.offline and descriptor is not None:
        access = credential.read(descriptor)
        base_url, key = access.base_url, gateway.ModelCredential(kind=access.kind, value=access.value)
    settings = gateway.GatewaySettings(
        model_base_url=base_url, model_credential=gateway.always(key), addresses=_addresses(platform)
    )
    uvloop.run(serve_gateway(settings, platform.backends, Endpoint(platform.sockets.gateway, ready)))


def _addresses(platform: Platform) -> AddressRules:
    """Return the rules for connectors' addresses: other servers of this machine are permitted, the parts of the
    platform are not."""
    return AddressRules(loopback=True, own_ports=platform.sockets.ports)


def run_operator(platform: Platform, ready: Ready) -> None:
    log_to_file(platform, "operator")
    uvloop.run(operate(operator.OperatorSettings(), platform.backends, ready))


def run_model(platform: Platform, ready: Ready) -> None:
    log_to_file(platform, "model")
    uvloop.run(serve_offline_model(Endpoint(platform.sockets.model, ready)))


# ---- what a cluster provides ----------------------------------------------------------------------------------------
def run_valkey(platform: Platform, ready: Ready) -> None:
    log_to_file(platform, "valkey")
    valkey.run(platform.data.valkey, platform.data.logs / "valkey-server.log", ready, tell)


def run_kubernetes(platform: Platform, ready: Ready) -> None:
    log_to_file(platform, "kubernetes")
    data, sockets = platform.data, platform.sockets
    check_objects(data.objects)

    async def install_resources() -> None:
        cluster = Cluster.connect(data.kubeconfig)
        try:
            urls = sockets.url(sockets.api), sockets.url(sockets.gateway)
            await install(cluster, config(valkey.url(data.valkey), *urls))
        finally:
            await cluster.close()
        ready()

    async def main() -> None:
        server = ApiServer(
            data.objects,
            ServerCredentials(data.token, data.installation),
            log_source=log_source(data.logs / "pods"),
            full_disk=partial(disk.shortage, data.path),
        )
        async with Background() as background:

            def begin() -> None:
                background.run("installation of the resource definitions", install_resources)

            await serve(
                server.app(),
                Endpoint(sockets.kubernetes, begin),
                drain=server.stop_watches,
                refusal=as_status,
                protocol=connect.ConnectProtocol,
            )

    uvloop.run(main())


def check_objects(objects: Path) -> None:
    """Raise `Fatal` if the database of the objects cannot be used. Otherwise copy it, for a later repair."""
    try:
        damage = database.find_damage(objects)
    except Unusable as wrong:
        raise Fatal(wrong.message) from wrong
    if damage:
        raise Fatal(
            f"the objects (agents, connectors, configuration) are damaged: {damage}. Nothing was changed. To continue "
            "with what can be read (a copy is kept; workspaces stay): komputer repair "
            f"--data-dir {shlex.quote(str(objects.parent))}"
        )
    if kept := database.keep_backup_of_lost(objects):
        tell(f"note: {objects} is missing or empty: there are no agents now. Their state at the last start is {kept};")
        tell(f"      to return to it, stop the platform and rename that file to {objects.name}")
    database.back_up(objects)


def run_kubelet(platform: Platform, ready: Ready) -> None:
    log_to_file(platform, "kubelet")
    images = {AGENT_IMAGE: [sys.executable, "-I", "-B", "-m", "komputer.runtime"]}

    async def main() -> None:
        cluster = Cluster.connect(platform.data.kubeconfig)
        kubelet = Kubelet(cluster, platform.data.path, sandbox=platform.sandbox, images=images)
        async with Background() as background:
            background.run_forever("reserved disk space", partial(disk.keep_reserves, platform.data.path))
            await kubelet.run(stop_event(), heap.freeze_before(ready))
        await cluster.close()

    asyncio.run(main())
