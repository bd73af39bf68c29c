"""The operator as a running process."""

import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import NamedTuple

from prometheus_client import Gauge, generate_latest

from komputer import operator
from komputer.bootstrap import heap
from komputer.bootstrap.backends import Backends
from komputer.bootstrap.health import HealthServer
from komputer.bootstrap.metrics import metrics_served
from komputer.bootstrap.stopping import stop_event
from komputer.kube.lease import Lease

LEADING = Gauge("komputer_operator_leading", "1 where this operator leads.")


@dataclass(frozen=True)
class ProbePorts:
    """Listening sockets for Kubernetes' probes and for Prometheus."""

    health: socket.socket
    metrics: socket.socket


class LeaseName(NamedTuple):
    """The name of the Kubernetes Lease by which several operators elect a leader."""

    namespace: str
    name: str


async def operate(
    settings: operator.OperatorSettings,
    backends: Backends,
    ready: Callable[[], None],
    *,
    ports: ProbePorts | None = None,
    lease: LeaseName | None = None,
) -> None:
    """Run the operator until a stop signal. `ready` is called once: when every existing object was read, or when
    another operator holds the lease. Without `ports` neither probes nor metrics are served. Without `lease` there is no
    leader election, and this operator always works. Raises `Invalid` (`kubeconfig`, `redis_address`),
    `LeadershipLost`."""

    on_ready, stop = heap.freeze_before(ready), stop_event()
    async with AsyncExitStack() as stack:
        cluster, log = await stack.enter_async_context(backends.connected())
        if ports is not None:
            await stack.enter_async_context(metrics_served(ports.metrics, generate_latest))
            health = await stack.enter_async_context(HealthServer(ports.health, on_ready))
            on_ready = health.set_ready
        if lease is not None:
            # The holder's identity is the host name, which is the pod's: a container that restarts in the same pod
            # leads again without waiting.
            held = Lease(cluster, lease.namespace, lease.name, socket.gethostname())
            LEADING.set_function(lambda: held.is_held)
            if not await held.acquired(stop, standing_by=on_ready):
                return
            await stack.enter_async_context(held.kept())
        await operator.run(settings, cluster, log, ready=on_ready, stop=stop)
