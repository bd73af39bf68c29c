"""The operator: wires store, queues, bell and sweep together."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import structlog
from prometheus_client import REGISTRY

from komputer.background import Background
from komputer.domain import names
from komputer.domain.errors import KomputerError, NotFound, Unavailable
from komputer.domain.ref import ObjectRef
from komputer.events.log import Log, LogKey
from komputer.kube import AGENTS, CONNECTORS, PODS, Cluster
from komputer.kube.metrics import WatchMetrics
from komputer.operator import metrics
from komputer.operator.agent.blockers import SILENCE, pod_is_running
from komputer.operator.agent.reconcile import Reconciler
from komputer.operator.agent.status import CHATTY_EVERY, is_chatter
from komputer.operator.cluster_state import ClusterState
from komputer.operator.controllers import connector
from komputer.operator.queue import Queue
from komputer.operator.settings import OperatorSettings

log = structlog.get_logger(__name__)

CONNECTORS_AT_ONCE = 4
READ_AT_ONCE = 500
"""Signs of life that are read in one round trip."""
MICROSECOND = timedelta(microseconds=1)


async def run(
    settings: OperatorSettings,
    cluster: Cluster,
    events: Log,
    *,
    ready: Callable[[], None],
    stop: asyncio.Event,
) -> None:
    """Operate until `stop`. `ready` is called when all that exists was seen once."""
    await _Operator(settings, cluster, events).run(ready, stop)


class _Operator:
    def __init__(self, settings: OperatorSettings, cluster: Cluster, events: Log) -> None:
        self._settings = settings
        self._cluster = cluster
        self._log = events
        self._queue: Queue[ObjectRef] = Queue("komputeragent", at_once=settings.at_once)
        self._connectors: Queue[ObjectRef] = Queue("komputerconnector", at_once=CONNECTORS_AT_ONCE)
        self._store = ClusterState(
            cluster,
            settings.namespaces,
            wake=self._queue.wake,
            wake_connector=lambda key: self._connectors.wake(key, at_most_every=connector.EVERY),
        )
        self._statuses = connector.ConnectorStatuses(cluster, self._store)
        self._reconciler = Reconciler(settings, cluster, events, self._store)

    async def run(self, ready: Callable[[], None], stop: asyncio.Event) -> None:
        watches = WatchMetrics("komputer_operator", self._store.caches)
        REGISTRY.register(watches)
        try:
            async with Background() as background:
                metrics.FAILING.set_function(lambda: len(background.failing))
                self._store.run(background)
                background.run("start", partial(self._operate, background, ready))
                await stop.wait()
        finally:
            REGISTRY.unregister(watches)

    async def _operate(self, background: Background, ready: Callable[[], None]) -> None:
        await self._store.synced()  # nothing is decided before everything that exists was seen
        background.run_forever("turns of agents", partial(self._queue.run, self._turn))
        background.run_forever("turns of connectors", partial(self._connectors.run, self._connector))
        background.run_forever("notifications of the event log", self._listen)
        background.run_forever("sweep of event logs", self._sweep)
        background.run_forever("search for silent runtimes", self._find_silent)
        ready()

    async def _turn(self, key: ObjectRef) -> timedelta | None:
        again = await self._reconciler.reconcile(key)
        if self._store.get(AGENTS, *key) is None:
            self._queue.forget(key)
        return again

    async def _connector(self, key: ObjectRef) -> timedelta | None:
        again = await self._statuses.turn(key)
        if self._store.get(CONNECTORS, *key) is None:
            self._connectors.forget(key)
        return again

    async def _listen(self) -> None:
        """The log's bell: an agent's events give it a turn; at once where a task has started or ended."""
        async for rung in self._log.notifications():
            try:
                live = await self._log.live_many(rung)
            except Unavailable:
                rung = frozenset()
            for key in rung or self._store.agents():
                agent = self._store.get(AGENTS, *key)
                if agent and rung and is_chatter(agent.get("status") or {}, agent["metadata"]["uid"], live.get(key)):
                    self._queue.wake(key, at_most_every=CHATTY_EVERY)
                else:
                    self._queue.wake(key)

    async def _find_silent(self) -> None:
        """Running pods whose runtimes are silent, though nothing rings and perhaps no task waits: the agents have a
        turn, which judges."""
        while True:
            await asyncio.sleep(SILENCE.total_seconds() / 2)
            try:
                alive = await self._log.gateways().read()
                running = self._running_agents() if alive.since_us is not None else []
                for first in range(0, len(running), READ_AT_ONCE):
                    live = await self._log.live_many(running[first : first + READ_AT_ONCE])
                    for key in running[first : first + READ_AT_ONCE]:
                        seen_us = live[key].seen_us if key in live else 0
                        if alive.now_us - seen_us >= SILENCE / MICROSECOND:
                            self._queue.wake(key)
            except Unavailable:
                continue  # nobody is judged while the log does not answer

    def _running_agents(self) -> list[ObjectRef]:
        return [key for key in self._store.agents() if pod_is_running(self._store.get(PODS, *_pod_of(key)))]

    async def _sweep(self) -> None:
        """Logs whose agent was made again under another uid, at the start and from time to time."""
        while True:
            try:
                await self._bury_orphans()
            except KomputerError as why:
                log.warning("sweep not finished", error=why.message)
            self._reconciler.forget_namespaces()
            await asyncio.sleep(self._settings.sweep_every.total_seconds())

    async def _bury_orphans(self) -> None:
        """An agent that is merely unknown was not deleted: the Kubernetes API may have been set back, and may know it
        again. Such a log stays until it expires."""
        for namespace, name, uid in await self._log.all_logs():
            known = self._store.get(AGENTS, namespace, name)
            if known is None or known["metadata"]["uid"] == uid:
                continue
            if await self._exists(namespace, name, uid):
                continue
            await self._log.purge(LogKey(namespace, name, uid))
            log.info("log buried", agent=f"{namespace}/{name}", uid=uid)

    async def _exists(self, namespace: str, name: str, uid: str) -> bool:
        """Asked of the API server itself: the store may lag behind an agent that was made this moment."""
        try:
            found = await self._cluster.get(AGENTS, name, namespace)
        except NotFound:
            return False
        return bool(found["metadata"]["uid"] == uid)


def _pod_of(agent: ObjectRef) -> ObjectRef:
    return ObjectRef(agent.namespace, names.pod_name(agent.name))
