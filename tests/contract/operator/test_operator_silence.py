"""A silent runtime loses its pod; repeated silence ends its task. The limits are zero here, and 60 s elsewhere."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest
from ulid import ULID

from komputer.background import Background
from komputer.domain.agent import digest_of
from komputer.domain.base import Manifest
from komputer.domain.errors import NotFound
from komputer.domain.ref import ObjectRef
from komputer.events.log import Log
from komputer.kube import AGENTS, PODS
from komputer.operator import OperatorSettings
from komputer.operator.agent.pod_replacement import MAX_SILENT_PODS
from komputer.operator.agent.reconcile import Reconciler
from komputer.operator.cluster_state import ClusterState
from komputer.operator.settings import SilenceLimits
from tests.contract.operator.world import WITHIN_S, Operator, World, running
from tests.fixtures.valkey import LogServer


@dataclass
class Turns:
    """The operator's turns, one after the other, in this process."""

    world: World
    store: ClusterState
    reconciler: Reconciler

    async def until(self, holds: Callable[[], bool]) -> None:
        key = ObjectRef(self.world.namespace, "ada")
        async with asyncio.timeout(WITHIN_S):
            while True:
                await self.reconciler.reconcile(key)
                pod = self.pod()
                if pod and pod["metadata"].get("deletionTimestamp"):
                    with contextlib.suppress(NotFound):  # kubelet's part
                        await self.world.cluster.delete(PODS, "ada-pod", self.world.namespace, grace_s=0)
                if holds():
                    return
                await asyncio.sleep(0.02)

    def pod(self) -> Manifest | None:
        return self.store.get(PODS, self.world.namespace, "ada-pod")

    async def pod_runs(self, before: str | None = None) -> str:
        """The uid of a pod that is another one than `before`, and runs."""
        await self.until(lambda: (pod := self.pod()) is not None and pod["metadata"]["uid"] != before)
        pod = self.pod()
        assert pod
        await self.world.pod_says(running())
        return str(pod["metadata"]["uid"])


@pytest.fixture
async def log(valkey: LogServer) -> AsyncIterator[Log]:
    """A platform of its own, whose gateways no other test speaks for."""
    found = Log.connect(valkey.url, prefix=valkey.prefix())
    yield found
    await found.close()


@pytest.fixture
async def turns(operator_process: Operator, world: World) -> AsyncIterator[Turns]:
    if operator_process.is_running:
        operator_process.kill()
    operator_process.output.touch()
    settings = OperatorSettings(silence=SilenceLimits(report_after=timedelta(0), replace_after=timedelta(0)))
    store = ClusterState(world.cluster, (world.namespace,), wake=lambda *_: None)
    async with Background() as background:
        store.run(background)
        await store.synced()
        yield Turns(world, store, Reconciler(settings, world.cluster, world.log, store))


async def test_a_silent_runtime_loses_its_pod_and_after_the_third_its_task(turns: Turns, world: World) -> None:
    task = str(ULID())
    await world.apply(task={"id": task, "instructions": "A", "covers": {"digest": digest_of("A")}})
    await world.log.gateways().beat()
    uid = None
    for nth in range(MAX_SILENT_PODS):
        assert await world.events() == []
        uid = await turns.pod_runs(uid)
        pod = turns.pod()
        assert pod
        assert pod["metadata"].get("annotations", {}).get("komputer.ai/silent", "0") == str(nth)
    await turns.until(lambda: task in _ended(turns))
    [(kind, payload)] = await world.events()
    assert (kind, payload["code"]) == ("error", "runtime_lost")
    await turns.pod_runs(uid)


async def test_an_idle_agents_silent_pod_is_replaced_too(turns: Turns, world: World) -> None:
    await world.apply()
    await world.log.gateways().beat()
    uid = await turns.pod_runs()
    agent = await world.agent()
    assert agent.status.manifest_task
    await world.cluster.merge_patch(
        AGENTS, "ada", world.namespace, {"status": {"endedTasks": [agent.status.manifest_task.id]}}, "status"
    )
    assert await turns.pod_runs(uid) != uid


async def test_while_no_gateway_is_alive_no_pod_is_deleted_and_no_task_ends(turns: Turns, world: World) -> None:
    await world.apply()
    uid = await turns.pod_runs()
    await turns.until(lambda: _reason(turns) == "GatewayAway")
    for _ in range(5):
        await turns.reconciler.reconcile(ObjectRef(world.namespace, "ada"))
    pod = turns.pod()
    assert pod
    assert (pod["metadata"]["uid"], pod["metadata"].get("deletionTimestamp")) == (uid, None)
    assert await world.events() == []


def _ended(turns: Turns) -> list[str]:
    agent = turns.store.get(AGENTS, turns.world.namespace, "ada") or {}
    return list((agent.get("status") or {}).get("endedTasks") or [])


def _reason(turns: Turns) -> str | None:
    conditions = ((turns.store.get(AGENTS, turns.world.namespace, "ada") or {}).get("status") or {}).get("conditions")
    return next((each["reason"] for each in conditions or [] if each["type"] == "Ready"), None)
