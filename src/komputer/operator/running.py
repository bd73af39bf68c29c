"""The operator's process: wires store, queue, kopf, bell and sweep together."""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import timedelta

import structlog

from komputer.events.log import Log, LogKey
from komputer.kube import AGENTS, CONNECTORS, Cluster
from komputer.operator import connectors, handlers
from komputer.operator.queue import Queue
from komputer.operator.reconcile import Reconciler
from komputer.operator.settings import Settings
from komputer.operator.status import CHATTY_EVERY, is_chatter
from komputer.operator.store import CHILDREN, KINDS, AgentKey, ConnectorKey, Store
from komputer.resources import names
from komputer.resources.errors import KomputerError, NotFound, Unavailable

log = structlog.get_logger(__name__)

CONNECTORS_AT_ONCE = 4


async def run(
    settings: Settings,
    cluster: Cluster,
    events: Log,
    *,
    ready: Callable[[], None] = lambda: None,
    stop: asyncio.Event | None = None,
) -> None:
    """Operate until `stop`, SIGTERM or SIGINT. `ready` is called when all that exists was seen once.

    Raises what kopf fails with: then it is to be started again. Wants a process of its own (see `handlers.watch`).
    """
    await _Operator(settings, cluster, events).run(ready, stop or asyncio.Event())


class _Operator:
    def __init__(self, settings: Settings, cluster: Cluster, events: Log) -> None:
        self._settings = settings
        self._cluster = cluster
        self._log = events
        self._queue: Queue[AgentKey] = Queue("komputeragent", at_once=settings.at_once)
        self._connectors: Queue[ConnectorKey] = Queue("komputerconnector", at_once=CONNECTORS_AT_ONCE)
        self._store = Store(self._queue.wake, lambda key: self._connectors.wake(key, at_most_every=connectors.EVERY))
        self._statuses = connectors.ConnectorStatuses(cluster, self._store)
        self._reconciler = Reconciler(settings, cluster, events, self._store)
        self._must_sweep = asyncio.Event()

    async def run(self, ready: Callable[[], None], stop: asyncio.Event) -> None:
        await self._first_look(stop)
        if stop.is_set():
            return
        work = [
            asyncio.create_task(self._queue.run(self._turn), name="turns"),
            asyncio.create_task(self._connectors.run(self._connector), name="connectors"),
            asyncio.create_task(self._listen(), name="bell"),
            asyncio.create_task(self._sweep(), name="sweep"),
        ]
        watching = asyncio.create_task(
            handlers.watch(self._store, self._settings.namespaces, self._must_sweep.set), name="kopf"
        )
        stopping = asyncio.create_task(stop.wait(), name="stop")
        ready()
        try:
            done, _ = await asyncio.wait([*work, watching, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*work, watching, stopping):
                task.cancel()
            await asyncio.gather(*work, watching, stopping, return_exceptions=True)
        for task in done:
            task.result()

    async def _turn(self, key: AgentKey) -> timedelta | None:
        again = await self._reconciler.reconcile(key)
        if self._store.get(AGENTS, *key) is None:
            self._queue.forget(key)
        return again

    async def _connector(self, key: ConnectorKey) -> timedelta | None:
        again = await self._statuses.turn(key)
        if self._store.get(CONNECTORS, *key) is None:
            self._connectors.forget(key)
        return again

    async def _first_look(self, stop: asyncio.Event) -> None:
        """Everything that exists, before anything is decided. Waits for the API server and for our kinds."""
        while not stop.is_set():
            try:
                await self._compare()
                return
            except Unavailable as why:
                log.warning("waiting for the Kubernetes API", error=why.message)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), why.retry_after_s)

    async def _compare(self) -> None:
        for kind in KINDS:
            labels = names.AGENT_LABEL if kind in CHILDREN else None
            for namespace in self._settings.namespaces or (None,) if kind.namespaced else (None,):
                listed = await self._cluster.list(kind, namespace, labels)
                self._store.keep_only(kind, namespace, listed.items, int(listed.resource_version))

    async def _listen(self) -> None:
        """The log's bell: an agent's events give it a turn; at once where a task has started or ended."""
        async for rung in self._log.bell():
            try:
                live = await self._log.live_many(rung)
            except Unavailable:
                rung = frozenset()
            for key in map(AgentKey._make, rung) if rung else self._store.agents():
                agent = self._store.get(AGENTS, *key)
                if agent and rung and is_chatter(agent.get("status") or {}, agent["metadata"]["uid"], live.get(key)):
                    self._queue.wake(key, at_most_every=CHATTY_EVERY)
                else:
                    self._queue.wake(key)

    async def _sweep(self) -> None:
        """Logs whose agent is gone, at the start and from time to time; and what a watch has missed."""
        while True:
            try:
                await self._bury_orphans()
            except KomputerError as why:
                log.warning("sweep not finished", error=why.message)
            try:
                async with asyncio.timeout(self._settings.sweep_every.total_seconds()):
                    await self._must_sweep.wait()
            except TimeoutError:
                pass
            self._must_sweep.clear()
            try:
                await self._compare()
                self._reconciler.forget_namespaces()
            except KomputerError as why:
                log.warning("sweep not finished", error=why.message)

    async def _bury_orphans(self) -> None:
        for namespace, name, uid in await self._log.buried_candidates():
            known = self._store.get(AGENTS, namespace, name)
            if known is not None and known["metadata"]["uid"] == uid:
                continue
            if await self._exists(namespace, name, uid):
                continue
            await self._log.bury(LogKey(namespace, name, uid))
            log.info("log buried", agent=f"{namespace}/{name}", uid=uid)

    async def _exists(self, namespace: str, name: str, uid: str) -> bool:
        """Asked of the API server itself: the store may lag behind an agent that was made this moment."""
        try:
            found = await self._cluster.get(AGENTS, name, namespace)
        except NotFound:
            return False
        return bool(found["metadata"]["uid"] == uid)
