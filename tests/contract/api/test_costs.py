"""What an agent's tasks cost, from a log of many events."""

import tracemalloc
from typing import Any

import httpx
import pytest

from komputer.events.log import LogKey
from komputer.kube import AGENTS
from komputer.services import costs
from tests.contract.api.test_api import created
from tests.contract.gateway.world import World
from tests.contract.log.events import Producer, completed, said, started

EVENTS, SIZE, MIB = 1500, 16_000, 1024 * 1024


async def peak_of(rest: httpx.AsyncClient, **query: Any) -> tuple[dict[str, Any], int]:
    """The answer, and how much memory server and client took to make it and get it, but for its own text."""
    tracemalloc.start()
    try:
        answer = await rest.get("/agents/ada/cost", params=query)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body, peak - 3 * len(answer.content)


async def test_costs_are_summed_page_by_page_however_much_is_kept(
    rest: httpx.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await created(rest)
    uid = (await world.cluster.get(AGENTS, "ada", world.namespace))["metadata"]["uid"]
    writer = Producer(world.log, LogKey(world.namespace, "ada", uid))
    await writer.hello()
    for n in range(3):
        await writer.post(started(f"t{n}"))
        for _ in range(EVENTS // 3 // 50):
            assert set(await writer.post(*[said(f"t{n}", "x" * SIZE)] * 50)) == {"ok"}
        await writer.post(completed(f"t{n}"))
    plain, peak = await peak_of(rest)
    assert [task["eventCount"] for task in plain["tasks"]] == [EVENTS // 3 + 2] * 3
    assert [task["costUSD"] for task in plain["tasks"]] == [0.25] * 3
    assert peak < EVENTS * SIZE / 3

    monkeypatch.setattr(costs, "EVENTS_LIMIT_BYTES", 2 * MIB)
    whole, peak = await peak_of(rest, events=True, limit=2)
    assert whole["taskCount"] == 3
    second, third = whole["tasks"]
    assert second["events"] == []
    assert 0 < len(third["events"]) * SIZE < 2 * MIB
    assert third["events"][-1]["type"] == "task_completed"
    assert peak < EVENTS * SIZE / 3
