"""The cache against a Kubernetes API: it follows, it reads our own writes, it survives the server's end."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from komputer.domain.errors import Conflict, NotFound
from komputer.kube import AGENTS, PODS, Cache, CacheChange, Cluster, Kind, Manifest
from tests.contract.kube.manifests import agent, pod, version

DEADLINE_S = 20


@asynccontextmanager
async def following(cluster: Cluster, kind: Kind, **options: Any) -> AsyncIterator[Cache]:
    cache = Cache(cluster, kind, **options)
    task = asyncio.create_task(cache.run())
    try:
        async with asyncio.timeout(DEADLINE_S):
            await cache.synced()
        yield cache
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until_told(cache: Cache, type: str, name: str) -> CacheChange:
    """The next change of that type."""
    told: asyncio.Future[CacheChange] = asyncio.get_running_loop().create_future()

    def see(change: CacheChange) -> None:
        if (change.type, change.manifest["metadata"]["name"]) == (type, name) and not told.done():
            told.set_result(change)

    leave = cache.subscribe(see)
    try:
        async with asyncio.timeout(DEADLINE_S):
            return await told
    finally:
        leave()


async def test_what_is_made_later_is_told(cluster: Cluster, team: str) -> None:
    await cluster.create(AGENTS, agent(team, "bob"))
    async with following(cluster, AGENTS, namespaces=[team]) as cache:
        assert [manifest["metadata"]["name"] for manifest in cache.items()] == ["bob"]
        telling = asyncio.create_task(until_told(cache, "ADDED", "ada"))
        await asyncio.sleep(0)
        made = await cluster.create(AGENTS, agent(team))
        change = await telling
        assert version(change.manifest) == version(made)
        telling = asyncio.create_task(until_told(cache, "DELETED", "bob"))
        await asyncio.sleep(0)
        await cluster.delete(AGENTS, "bob", team)
        await telling
        assert cache.get(team, "bob") is None


async def test_our_own_writes_are_read_at_once(cluster: Cluster, team: str) -> None:
    async with following(cluster, AGENTS) as cache:
        for number in range(20):
            made = await cluster.create(AGENTS, agent(team))
            cache.put(made)
            assert cache.get(team, "ada") is not None
            patched = await cluster.merge_patch(AGENTS, "ada", team, {"spec": {"priority": number + 1}})
            cache.put(patched)
            cache.put(made)
            held = cache.get(team, "ada")
            assert held is not None
            assert held["spec"]["priority"] == number + 1
            cache.forget(patched, await cluster.delete(AGENTS, "ada", team))
            cache.put(patched)
            assert cache.get(team, "ada") is None


async def test_labels_choose_what_is_followed(cluster: Cluster, team: str) -> None:
    async with following(cluster, PODS, namespaces=[team], labels="komputer.ai/agent-name") as cache:
        await cluster.create(PODS, pod(team, "stranger"))
        telling = asyncio.create_task(until_told(cache, "ADDED", "ada-pod"))
        await asyncio.sleep(0)
        await cluster.create(PODS, pod(team, "ada-pod", labels={"komputer.ai/agent-name": "ada"}))
        await telling
        telling = asyncio.create_task(until_told(cache, "DELETED", "ada-pod"))
        await asyncio.sleep(0)
        cache.put(await cluster.merge_patch(PODS, "ada-pod", team, {"metadata": {"labels": None}}))
        await telling
        assert cache.items() == []


async def test_after_many_writers_the_cache_equals_the_server(cluster: Cluster, team: str) -> None:
    """Two caches, one of which is told each answer late and in any order, and a follower of the changes alone."""
    async with following(cluster, AGENTS, namespaces=[team]) as cache, following(cluster, AGENTS) as other:
        mirror: dict[str, Manifest] = {}

        def follow(change: CacheChange) -> None:
            name = change.manifest["metadata"]["name"]
            assert mirror.get(name) == change.old
            if change.type == "DELETED":
                del mirror[name]
            else:
                mirror[name] = change.manifest

        cache.subscribe(follow)

        async def writer(seed: int) -> None:
            chance = random.Random(seed)
            answers: list[Manifest] = []
            for _ in range(30):
                name = chance.choice(["ada", "bob", "cyd"])
                try:
                    match chance.choice(["create", "patch", "patch", "delete"]):
                        case "create":
                            answers.append(await cluster.create(AGENTS, agent(team, name)))
                        case "patch":
                            spec = {"spec": {"priority": chance.randrange(1000)}}
                            answers.append(await cluster.merge_patch(AGENTS, name, team, spec))
                        case _:
                            read = await cluster.get(AGENTS, name, team)
                            await cluster.delete(AGENTS, name, team, uid=read["metadata"]["uid"])
                            cache.forget(read)
                except (NotFound, Conflict):
                    pass
                if answers and chance.random() < 0.6:
                    cache.put(answers.pop(chance.randrange(len(answers))))
            for answer in answers:
                cache.put(answer)

        await asyncio.gather(*map(writer, range(4)))
        made = await cluster.create(AGENTS, agent(team, "last"))
        async with asyncio.timeout(DEADLINE_S):
            while cache.get(team, "last") is None or other.get(team, "last") is None:  # noqa: ASYNC110 - two caches
                await asyncio.sleep(0.01)
        assert version(made) > 0
        truth = {
            each["metadata"]["name"]: each["metadata"]["resourceVersion"]
            for each in (await cluster.list(AGENTS, team)).items
        }
        for each in (cache.items(), other.items(team), list(mirror.values())):
            assert {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in each} == truth
