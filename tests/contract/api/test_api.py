"""API, operator and gateway together on a Kubernetes API: the contract of agents. Pods stay Pending, and the test
speaks for their runtimes."""

import asyncio
from collections.abc import Iterable

import httpx

from komputer import api
from komputer.domain import names
from komputer.domain.errors import NotFound
from komputer.domain.ref import ObjectRef
from komputer.events.log import EXPIRY, RETENTION, Live, Log
from komputer.kube import AGENTS, CONFIG_MAPS, PODS, PVCS, Cluster, Kind
from tests.contract.api.conftest import LOOPBACK, served
from tests.contract.gateway.serving import WITHIN_S, serving
from tests.contract.gateway.world import Runner, World
from tests.openapi import checked
from tests.waiting import eventually

COLLECTED_WITHIN_S = 90.0
"""A real garbage collector looks for kinds that are new to it every 30 s."""


async def created(rest: httpx.AsyncClient, name: str = "ada") -> httpx.Response:
    answer = await rest.post("/agents", json={"name": name, "instructions": "Say hello."})
    assert answer.status_code == 201, answer.text
    return answer


async def runtime(world: World, name: str = "ada") -> Runner:
    """What would run in the agent's pod, as soon as the operator has made that."""
    async with asyncio.timeout(COLLECTED_WITHIN_S):
        while True:
            try:
                pod = await world.cluster.get(PODS, names.pod_name(name), world.namespace)
            except NotFound:
                await asyncio.sleep(0.02)
                continue
            manifest = await world.cluster.get(AGENTS, name, world.namespace)
            if pod["metadata"]["ownerReferences"][0]["uid"] == manifest["metadata"]["uid"]:
                break
    runner = Runner(world, manifest, pod, task="")
    await take(runner)
    return runner


async def take(runner: Runner) -> None:
    """The next task that is assigned, begun."""
    async with runner.assignments() as lines:
        while True:
            assignment = await lines.next_assignment()
            if assignment.task and assignment.task.id != runner.task:
                break
    runner.task = assignment.task.id
    await runner.start()


async def settled(rest: httpx.AsyncClient, **fields: object) -> dict[str, object]:
    found: dict[str, object] = {}
    async with asyncio.timeout(WITHIN_S):
        while not (found and all(found.get(key) == value for key, value in fields.items())):
            found = (await rest.get("/agents/ada")).json()
            await asyncio.sleep(0.02)
    return found


async def world_has(world: World, kind: Kind, name: str) -> bool:
    return any(m["metadata"]["name"] == name for m in (await world.cluster.list(kind, world.namespace)).items)


async def test_an_agent_is_made_works_and_takes_its_next_task(rest: httpx.AsyncClient, world: World) -> None:
    body = (await created(rest)).json()
    assert body.keys() == {"name", "namespace", "model", "status", "createdAt"}
    busy = await rest.post("/agents", json={"name": "ada", "instructions": "Say more."})
    assert (busy.status_code, busy.json()["code"]) == (409, "busy")
    runner = await runtime(world)
    assert (await rest.get("/agents/ada")).json()["taskStatus"] == "InProgress"
    await runner.end()
    next_one = await rest.post("/agents", json={"name": "ada", "instructions": "Say more."})
    assert next_one.status_code == 200, "right after its end was taken the next task is accepted"
    await take(runner)
    await runner.end()
    done = await settled(rest, taskStatus="Complete", totalCostUSD="0.0200")
    assert done["status"] == "Pending", "no kubelet runs the pod"
    events = (await rest.get("/agents/ada/events")).json()["events"]
    assert [event["type"] for event in events] == ["task_started", "task_completed"] * 2
    listed = (await rest.get("/agents", params={"namespace": world.namespace})).json()["agents"]
    assert [agent["name"] for agent in listed] == ["ada"]


ANY_TEXT = '<a href="x">&amp;</a> \'\\/ é 😀 \u2028 \u2029 \x7f \t'
"""Characters that encoders of JSON write in different ways. Kubernetes compares the texts in a patch's tests."""


async def test_an_agent_whose_instructions_have_any_characters_takes_its_next_task(
    rest: httpx.AsyncClient, world: World
) -> None:
    answer = await rest.post(
        "/agents", json={"name": "ada", "instructions": ANY_TEXT, "systemPrompt": ANY_TEXT, "labels": {"a": "b"}}
    )
    assert answer.status_code == 201, answer.text
    await (await runtime(world)).end()
    changed = await rest.patch("/agents/ada", json={"labels": {"a": "c"}, "systemPrompt": f"{ANY_TEXT}!"})
    assert changed.status_code == 200, changed.text
    for instructions in (ANY_TEXT, "Say more."):
        accepted = await rest.post("/agents", json={"name": "ada", "instructions": instructions})
        assert accepted.status_code == 200, accepted.text
        cancelled = await rest.post("/agents/ada/cancel")
        assert cancelled.status_code == 200, cancelled.text
        await settled(rest, taskStatus="Complete", lastTaskOutcome="cancelled")


async def test_of_twenty_posts_at_once_one_is_accepted(rest: httpx.AsyncClient, world: World) -> None:
    await created(rest)
    await (await runtime(world)).end()
    posts = [rest.post("/agents", json={"name": "ada", "instructions": f"I am {n}."}) for n in range(20)]
    codes = sorted(answer.status_code for answer in await asyncio.gather(*posts))
    assert codes == [200] + [409] * 19


async def test_a_task_that_nobody_has_begun_is_cancelled(rest: httpx.AsyncClient, world: World) -> None:
    await created(rest)
    cancelled = await rest.post("/agents/ada/cancel")
    assert (cancelled.status_code, cancelled.json()) == (200, {"status": "cancelling", "name": "ada"})
    await settled(rest, taskStatus="Complete", lastTaskOutcome="cancelled")
    idle = await rest.post("/agents/ada/cancel")
    assert (idle.status_code, idle.json()["code"]) == (409, "idle")


async def test_a_change_is_all_or_nothing(rest: httpx.AsyncClient, world: World) -> None:
    await created(rest)
    wrong = await rest.patch("/agents/ada", json={"model": "claude-haiku-4-5", "connectors": ["nobody"]})
    assert (wrong.status_code, "nobody" in wrong.json()["error"]) == (400, True)
    assert (await rest.get("/agents/ada")).json()["model"] == "claude-sonnet-4-6"
    right = await rest.patch("/agents/ada", json={"model": "claude-haiku-4-5", "connectors": []})
    assert (right.status_code, right.json()["model"]) == (200, "claude-haiku-4-5")


async def test_a_deleted_agent_takes_all_that_was_its_own_and_its_name_is_free(
    rest: httpx.AsyncClient, world: World
) -> None:
    await created(rest)
    runner = await runtime(world)
    old = runner.manifest["metadata"]["uid"]
    assert (await rest.delete("/agents/ada")).json() == {"status": "deleted", "name": "ada"}
    for path in ("/agents/ada", "/agents/ada/events"):
        assert (await rest.get(path)).status_code == 404
    again = await rest.post("/agents", json={"name": "ada", "instructions": "Say hello again."})
    assert again.status_code == 201, again.text
    successor = await runtime(world)
    assert successor.manifest["metadata"]["uid"] != old
    assert (await runner.post("/v1/heartbeat", {"term": 1})).status_code in (401, 403, 410)
    events = (await rest.get("/agents/ada/events")).json()["events"]
    assert [event["type"] for event in events] == ["task_started"]
    assert (await rest.delete("/agents/ada")).status_code == 200
    for kind, name in ((PODS, "ada-pod"), (PVCS, "ada-pvc"), (CONFIG_MAPS, "ada-config")):

        async def is_collected(kind: Kind = kind, name: str = name) -> bool:
            return not await world_has(world, kind, name)

        await eventually(is_collected, within_s=COLLECTED_WITHIN_S)


async def test_a_namespace_that_does_not_exist_is_told(rest: httpx.AsyncClient, world: World) -> None:
    """Or made, where this Kubernetes API makes namespaces on first use."""
    answer = await rest.post("/agents", json={"name": "ada", "instructions": "x", "namespace": "nowhere-at-all"})
    assert answer.status_code in (201, 400, 404), answer.text
    if answer.status_code == 201:
        await rest.delete("/agents/ada", params={"namespace": "nowhere-at-all"})


async def test_a_server_of_some_namespaces_says_which(cluster: Cluster, log: Log, world: World) -> None:
    async with served(cluster, log, world, (world.namespace,)) as rest:
        await created(rest)
        body = {"name": "eve", "instructions": "Say hello.", "namespace": "elsewhere"}
        for asked in (
            rest.post("/agents", json=body),
            rest.post("/agents?namespace=elsewhere", json=body | {"namespace": ""}),
            rest.get("/agents/eve?namespace=elsewhere"),
            rest.get("/agents?namespace=elsewhere"),
            rest.get("/agents/eve/events?namespace=elsewhere"),
            rest.post("/secrets", json={"name": "eve", "namespace": "elsewhere", "data": {"a": "b"}}),
            rest.delete("/connectors/eve?namespace=elsewhere"),
        ):
            answer = await asked
            assert (answer.status_code, answer.json()["code"]) == (400, "namespace_not_served"), answer.text
            assert world.namespace in answer.json()["error"]
        listed = (await rest.get("/agents")).json()["agents"]
        assert [agent["name"] for agent in listed] == ["ada"]


class Slow(Log):
    """Tells of all agents when it is let."""

    def __init__(self, log: Log, prefix: str) -> None:
        super().__init__(log.server, prefix=prefix, retention=RETENTION, expiry=EXPIRY)
        self.is_read, self.may_answer = asyncio.Event(), asyncio.Event()

    async def live_many(self, keys: Iterable[ObjectRef]) -> dict[ObjectRef, Live]:
        self.is_read.set()
        await self.may_answer.wait()
        return await super().live_many(keys)


async def test_a_server_is_ready_when_it_knows_what_every_agent_does(cluster: Cluster, log: Log, prefix: str) -> None:
    slow = Slow(log, prefix)
    async with (
        serving(api.app(api.ApiSettings(addresses=LOOPBACK), cluster, slow)) as url,
        httpx.AsyncClient(base_url=url, timeout=30, event_hooks={"response": [checked]}) as client,
    ):
        await asyncio.wait_for(slow.is_read.wait(), WITHIN_S)

        async def readiness() -> tuple[int, str | None]:
            answer = await client.get("/readyz")
            return answer.status_code, answer.json().get("code")

        async def others_are_read() -> bool:
            return "have not been read" not in (await client.get("/readyz")).text

        await eventually(others_are_read)
        assert await readiness() == (503, "starting")
        slow.may_answer.set()

        async def is_ready() -> bool:
            return await readiness() == (200, None)

        await eventually(is_ready)
