"""How a cache follows a server that forgets, breaks off, hangs up and lies down."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from komputer.background import Background
from komputer.kube import PODS, Cache, CacheChange, Manifest
from tests.unit.kube.server import answer_json, answering, begin_stream, stream

DEADLINE_S = 10


def pod(version: int, *, name: str = "ada-pod", uid: str = "u1", namespace: str = "team", **metadata: Any) -> Manifest:
    own = {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": str(version)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": own | metadata}


class Server:
    """Lists what `pods` says at `version`, and hands each open watch to the test."""

    def __init__(self) -> None:
        self.pods: list[Manifest] = []
        self.version = 5
        self.asked: list[str] = []
        self.watches: asyncio.Queue[Watch] = asyncio.Queue()
        self.refuses_with: int | None = None
        self.refuses_what = ""

    async def answer(self, request: str, writer: asyncio.StreamWriter) -> None:
        self.asked.append(request.split()[1])
        if self.refuses_with and self.refuses_what in request:
            return await answer_json(writer, self.refuses_with, {})
        if "/pods/" in request:
            named = [each for each in self.pods if f"/pods/{each['metadata']['name']} " in request]
            missing = {"kind": "Status", "reason": "NotFound", "details": {"name": "x", "kind": "pods"}}
            return await answer_json(writer, 200 if named else 404, named[0] if named else missing)
        if "watch=true" not in request:
            metadata = {"resourceVersion": str(self.version)}
            return await answer_json(writer, 200, {"items": self.pods, "metadata": metadata})
        await begin_stream(writer)
        watch = Watch(writer)
        await self.watches.put(watch)
        await watch.ended.wait()
        return None

    async def watch(self) -> "Watch":
        async with asyncio.timeout(DEADLINE_S):
            return await self.watches.get()


class Watch:
    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.ended = asyncio.Event()

    async def tell(self, type: str, manifest: Manifest) -> None:
        await stream(self._writer, json.dumps({"type": type, "object": manifest}).encode() + b"\n")

    async def end(self, *, cut_off: bool = False) -> None:
        if not cut_off:
            await stream(self._writer, b"")
        self.ended.set()


class Seen:
    """The changes that a subscriber was told."""

    def __init__(self, cache: Cache) -> None:
        self.all: list[CacheChange] = []
        self._more = asyncio.Event()
        cache.subscribe(self._see)

    def _see(self, change: CacheChange) -> None:
        self.all.append(change)
        self._more.set()

    @property
    def brief(self) -> list[tuple[str, str]]:
        return [(change.type, change.manifest["metadata"]["resourceVersion"]) for change in self.all]

    async def until(self, enough: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not enough():
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def running(server: Server, folder: Path, **options: Any) -> AsyncIterator[Cache]:
    async with answering(server.answer, folder) as cluster:
        cache = Cache(cluster, PODS, **options)
        async with Background() as background:
            background.run_forever("cache of pods", cache.run)
            yield cache


async def test_a_cache_lists_and_then_follows(tmp_path: Path) -> None:
    server = Server()
    server.pods = [pod(3, managedFields=[{"manager": "kubelet"}])]
    async with running(server, tmp_path) as cache:
        seen = Seen(cache)
        assert not cache.is_synced
        async with asyncio.timeout(DEADLINE_S):
            await cache.synced()
        assert cache.get("team", "ada-pod") == pod(3)
        watch = await server.watch()
        await watch.tell("MODIFIED", pod(7))
        await seen.until(lambda: len(seen.all) == 2)
        assert seen.all[1] == CacheChange("MODIFIED", pod(7), pod(3))
        assert cache.stale_s == 0
        assert cache.version == 2
    assert server.asked[0] == "/api/v1/pods?limit=500"
    assert "resourceVersion=5" in server.asked[1]


async def test_after_a_watch_ends_the_next_goes_on_from_there(tmp_path: Path) -> None:
    server = Server()
    async with running(server, tmp_path) as cache:
        seen = Seen(cache)
        for version, cut_off in ((6, False), (7, True)):
            watch = await server.watch()
            await watch.tell("BOOKMARK" if cut_off else "ADDED", pod(version))
            await watch.end(cut_off=cut_off)
        await (await server.watch()).tell("MODIFIED", pod(9))
        await seen.until(lambda: len(seen.all) == 2)
        assert seen.brief == [("ADDED", "6"), ("MODIFIED", "9")]
    assert [request.split("resourceVersion=")[1].split("&")[0] for request in server.asked[1:]] == ["5", "6", "7"]


async def test_an_answer_that_cannot_be_read_does_not_end_the_cache(tmp_path: Path) -> None:
    server = Server()
    async with running(server, tmp_path) as cache:
        seen = Seen(cache)
        watch = await server.watch()
        server.pods, server.version = [pod(8)], 9
        await watch.tell("MODIFIED", {"kind": "Pod"})
        await seen.until(lambda: len(seen.all) == 1)
        assert seen.brief == [("ADDED", "8")]
        await (await server.watch()).tell("MODIFIED", pod(10))
        await seen.until(lambda: len(seen.all) == 2)


async def test_history_that_was_compacted_is_replaced_by_a_list_and_missed_deletions_are_told(tmp_path: Path) -> None:
    server = Server()
    server.pods = [pod(3), pod(4, name="bob-pod", uid="u2")]
    async with running(server, tmp_path) as cache:
        seen = Seen(cache)
        watch = await server.watch()
        server.pods, server.version = [pod(8)], 9
        await watch.tell("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})
        await seen.until(lambda: len(seen.all) == 4)
        assert set(seen.brief[2:]) == {("DELETED", "4"), ("MODIFIED", "8")}
        assert cache.items() == [pod(8)]


async def test_a_server_that_is_down_is_waited_for(tmp_path: Path) -> None:
    server = Server()
    server.pods = [pod(3)]
    async with running(server, tmp_path) as cache:
        watch = await server.watch()
        server.refuses_with = 503
        await watch.end(cut_off=True)
        async with asyncio.timeout(DEADLINE_S):
            while len(server.asked) < 4:  # noqa: ASYNC110 - the server's own attempts are what is awaited
                await asyncio.sleep(0.01)
        assert cache.error is not None
        assert cache.error.code == "unavailable"
        assert cache.stale_s > 0
        assert cache.get("team", "ada-pod") == pod(3), "what is known stays known"
        server.refuses_with = None
        watch = await server.watch()
        seen = Seen(cache)
        await watch.tell("MODIFIED", pod(7))
        await seen.until(lambda: len(seen.all) == 1)
        assert cache.error is None
        assert cache.stale_s == 0


async def test_a_server_whose_history_began_anew_is_listed_after_some_failures(tmp_path: Path) -> None:
    server = Server()
    server.pods, server.version = [pod(30)], 50
    async with running(server, tmp_path) as cache:
        seen = Seen(cache)
        watch = await server.watch()
        server.pods, server.version = [pod(2, uid="u9")], 3
        await watch.end(cut_off=True)
        async with asyncio.timeout(DEADLINE_S):
            while len(seen.all) < 3:
                await (await server.watch()).end(cut_off=True)
        assert seen.brief == [("ADDED", "30"), ("DELETED", "30"), ("ADDED", "2")]


async def test_each_namespace_is_followed_on_its_own(tmp_path: Path) -> None:
    server = Server()
    async with running(server, tmp_path, namespaces=["team", "crew"], labels="a=b") as cache:
        async with asyncio.timeout(DEADLINE_S):
            await cache.synced()
        watches = [await server.watch(), await server.watch()]
        paths = [request for request in server.asked if "watch=true" in request]
        seen = Seen(cache)
        for watch, path in zip(watches, paths, strict=True):
            namespace = "team" if "/namespaces/team/" in path else "crew"
            await watch.tell("ADDED", pod(7, namespace=namespace, uid=namespace))
        await seen.until(lambda: len(seen.all) == 2)
        assert [manifest["metadata"]["uid"] for manifest in cache.items("crew")] == ["crew"]
        assert all("labelSelector=a%3Db" in request for request in server.asked)


async def test_a_cache_is_synced_when_every_namespace_was_listed(tmp_path: Path) -> None:
    server = Server()
    server.refuses_with, server.refuses_what = 403, "/namespaces/crew/"
    async with running(server, tmp_path, namespaces=["team", "crew"]) as cache:
        await server.watch()
        assert not cache.is_synced
        server.refuses_with = None
        async with asyncio.timeout(DEADLINE_S):
            await cache.synced()


async def test_an_answer_from_before_a_bookmark_is_about_the_past(tmp_path: Path) -> None:
    server = Server()
    async with running(server, tmp_path) as cache:
        seen = Seen(cache)
        watch = await server.watch()
        await watch.tell("BOOKMARK", pod(8))
        await watch.tell("ADDED", pod(6, name="bob-pod", uid="u2"))
        await seen.until(lambda: len(seen.all) == 1)
        cache.put(pod(7))
        assert cache.get("team", "ada-pod") is None


async def test_no_namespaces_is_nothing_to_wait_for(tmp_path: Path) -> None:
    async with running(Server(), tmp_path, namespaces=[]) as cache, asyncio.timeout(DEADLINE_S):
        await cache.synced()
        assert cache.stale_s == 0


async def unconnected(folder: Path) -> Cache:
    server = Server()
    async with answering(server.answer, folder) as cluster:
        return Cache(cluster, PODS)


async def test_a_subscriber_s_defect_is_its_own(tmp_path: Path) -> None:
    cache = await unconnected(tmp_path)

    def fails(change: CacheChange) -> None:
        raise ZeroDivisionError

    cache.subscribe(fails)
    seen = Seen(cache)
    cache.put(pod(3))
    assert seen.brief == [("ADDED", "3")]


async def test_what_a_subscriber_writes_is_told_after_what_it_was_told(tmp_path: Path) -> None:
    cache = await unconnected(tmp_path)
    cache.subscribe(lambda change: cache.put(pod(4)))
    seen = Seen(cache)
    cache.put(pod(3))
    assert seen.brief == [("ADDED", "3"), ("MODIFIED", "4")]


async def test_who_has_left_is_told_no_more(tmp_path: Path) -> None:
    cache = await unconnected(tmp_path)
    told: list[CacheChange] = []
    leave = cache.subscribe(told.append)
    leave()
    leave()
    cache.put(pod(3))
    assert told == []


async def test_a_deletion_of_ours_leaves_what_the_server_says_is_left(tmp_path: Path) -> None:
    cache = await unconnected(tmp_path)
    cache.put(pod(3))
    terminating = pod(4, deletionTimestamp="2026-01-01T00:00:00Z", finalizers=["a/b"])
    cache.forget(pod(3), terminating)
    assert cache.get("team", "ada-pod") == terminating
    cache.put(pod(5, name="bob-pod", uid="u2"))
    cache.forget(pod(5, name="bob-pod", uid="u2"))
    assert cache.items() == [terminating]


async def test_a_cache_can_be_stopped_in_the_middle_of_a_watch(tmp_path: Path) -> None:
    server = Server()
    async with running(server, tmp_path):
        await server.watch()


async def test_what_the_watch_has_not_told_yet_is_found_and_stays_known(tmp_path: Path) -> None:
    server = Server()
    async with running(server, tmp_path) as cache:
        async with asyncio.timeout(DEADLINE_S):
            await cache.synced()
        assert await cache.find("team", "ada-pod") is None
        server.pods = [pod(6), pod(7, name="going", deletionTimestamp="2026-01-01T00:00:00Z")]
        assert await cache.find("team", "ada-pod") == pod(6)
        assert await cache.find("team", "going") is None
        assert await cache.find("team", "..") is None
        before = len(server.asked)
        assert await cache.find("team", "ada-pod") == pod(6) == cache.get("team", "ada-pod")
        assert len(server.asked) == before


async def test_a_namespace_that_is_not_followed_is_not_asked_about(tmp_path: Path) -> None:
    server = Server()
    server.pods = [pod(3)]
    async with running(server, tmp_path, namespaces=["other"]) as cache:
        assert await cache.find("team", "ada-pod") is None
    assert not [request for request in server.asked if "/namespaces/team/" in request]
