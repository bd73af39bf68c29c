"""Runs the operator: its controllers, and what wakes them."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Final, NamedTuple

from prometheus_client import REGISTRY

from komputer.background import Background
from komputer.domain.ref import ObjectRef
from komputer.events.log import Log
from komputer.kube import AGENTS, CONNECTORS, Cluster, Kind
from komputer.kube.metrics import WatchMetrics
from komputer.operator import metrics
from komputer.operator.agent.reconcile import Reconciler
from komputer.operator.cluster_state import ClusterState
from komputer.operator.controllers import connector, ignored_fields
from komputer.operator.log_sweep import LogSweep
from komputer.operator.log_watch import LogWatch
from komputer.operator.queue import Queue
from komputer.operator.settings import OperatorSettings

OTHERS_CONCURRENCY: Final = 4
"""How many objects of each kind other than the agent are reconciled concurrently."""


class Controller(NamedTuple):
    """The queue of one kind's objects, and the function that reconciles one of them. The function returns after how
    long to repeat the turn even if nothing changes; None: never."""

    kind: Kind
    queue: Queue[ObjectRef]
    reconcile: Callable[[ObjectRef], Awaitable[timedelta | None]]

    async def run(self, state: ClusterState) -> None:
        async def turn(ref: ObjectRef) -> timedelta | None:
            requeue_after = await self.reconcile(ref)
            if state.get(self.kind, *ref) is None:
                self.queue.forget(ref)
            return requeue_after

        await self.queue.run(turn)


async def run(
    settings: OperatorSettings,
    cluster: Cluster,
    events: Log,
    *,
    ready: Callable[[], None],
    stop: asyncio.Event,
) -> None:
    """Run the operator until `stop` is set. `ready` is called when every object was listed once."""
    queues = _queues(settings)
    state = ClusterState(cluster, settings.namespaces, wake=lambda kind, ref: queues[kind].wake(ref))
    reconciler = Reconciler(settings, cluster, events, state)
    watch, sweep = LogWatch(events, state, queues[AGENTS].wake), LogSweep(cluster, events, state)
    controllers = [
        Controller(AGENTS, queues[AGENTS], reconciler.reconcile),
        Controller(CONNECTORS, queues[CONNECTORS], connector.ConnectorReconciler(cluster, state).reconcile),
    ]
    for kind in ignored_fields.TYPES:
        fields = ignored_fields.IgnoredFieldsReconciler(kind, cluster, state)
        controllers.append(Controller(kind, queues[kind], fields.reconcile))

    async def operate(background: Background) -> None:
        await state.synced()  # until everything was listed, an object that is missing in a cache may exist
        for each in controllers:
            background.run_forever(f"controller of {each.kind.plural}", partial(each.run, state))
        background.run_forever("notifications of the event log", watch.follow)
        background.run_forever("search for silent runtimes", partial(watch.find_silent, settings.silence.report_after))
        background.run_forever(
            "sweep of event logs", partial(sweep.run, settings.sweep_every, after_each=reconciler.check_namespaces)
        )
        ready()

    watches = WatchMetrics("komputer_operator", state.caches)
    REGISTRY.register(watches)
    try:
        async with Background() as background:
            metrics.FAILING.set_function(lambda: len(background.failing))
            state.run(background)
            background.run("start", partial(operate, background))
            await stop.wait()
    finally:
        REGISTRY.unregister(watches)


def _queues(settings: OperatorSettings) -> dict[Kind, Queue[ObjectRef]]:
    def others(kind: Kind, min_interval: timedelta) -> Queue[ObjectRef]:
        return Queue(kind.kind.lower(), concurrency=OTHERS_CONCURRENCY, min_interval=min_interval)

    return {
        AGENTS: Queue(AGENTS.kind.lower(), concurrency=settings.concurrency),
        CONNECTORS: others(CONNECTORS, connector.MIN_INTERVAL),
        **{kind: others(kind, timedelta(0)) for kind in ignored_fields.TYPES},
    }
