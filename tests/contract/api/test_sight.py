"""Lists and streams name nothing of a namespace that their caller does not see.

Who sees what is a table here, so that it runs without RBAC; `test_access.py` asks a real one.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import httpx2
import pytest

from komputer import api
from komputer.domain.errors import Unavailable
from komputer.events.log import Log, LogKey
from komputer.kube import AGENTS, NAMESPACES, SERVICE_ACCOUNTS, Cluster
from komputer.kube.connection import open_connection
from komputer.services.access import AccessRequest, Rights
from tests.contract.gateway.serving import serving
from tests.contract.log.events import Producer, said
from tests.openapi import checked
from tests.waiting import eventually

AUDIENCE = "komputer-api"
SPEC = {"instructions": "Say hello.", "model": "claude-sonnet-4-6"}


class Ruled(Cluster):
    """A Kubernetes API whose callers may do everything in some namespaces; in `*`: in all."""

    def __init__(self, http: httpx2.AsyncClient, sees: dict[str, set[str]]) -> None:
        super().__init__(http)
        self.sees = sees

    async def review_access(
        self,
        user: str,
        groups: Sequence[str],
        verb: str,
        group: str,
        resource: str,
        namespace: str | None = None,
        name: str | None = None,
        subresource: str | None = None,
    ) -> bool:
        seen = self.sees[user.rpartition(":")[2]]
        return "*" in seen or namespace in seen


@dataclass
class Two:
    """Two namespaces with agents; `ann` sees one, `ben` the other, `eve` both and all others, `zoe` none."""

    here: str
    there: str
    url: str
    log: Log
    writers: dict[str, Producer]
    tokens: dict[str, str] = field(default_factory=dict)

    def client(self, who: str) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self.tokens[who]}"}
        return httpx.AsyncClient(
            base_url=f"{self.url}/api/v1", headers=headers, timeout=30, event_hooks={"response": [checked]}
        )


@pytest.fixture
async def two(kubernetes: Path, cluster: Cluster, log: Log) -> AsyncIterator[Two]:
    here, there = (f"{word}-{uuid4().hex[:8]}" for word in ("here", "there"))
    sees = {"ann": {here}, "ben": {there}, "eve": {"*"}, "zoe": set[str]()}
    ruled = Ruled(open_connection(kubernetes), sees)
    writers = {}
    for namespace in (here, there):
        await cluster.create(NAMESPACES, {"metadata": {"name": namespace}})
        made = await cluster.create(AGENTS, {"metadata": {"name": "ada", "namespace": namespace}, "spec": SPEC})
        writers[namespace] = Producer(log, LogKey(namespace, "ada", made["metadata"]["uid"]))
        await writers[namespace].hello()
    settings = api.ApiSettings(auth="kubernetes", token_audiences=(AUDIENCE,), loopback_only=False)
    async with serving(api.app(settings, ruled, log)) as url:
        found = Two(here, there, url, log, writers)
        for who in sees:
            await cluster.create(SERVICE_ACCOUNTS, {"metadata": {"name": who, "namespace": here}})
            found.tokens[who] = (await cluster.create_token(who, here, AUDIENCE, 3600)).token

        async def is_ready() -> bool:
            async with found.client("zoe") as anybody:
                return (await anybody.get(f"{url}/readyz")).status_code == 200

        await eventually(is_ready)
        yield found
    await ruled.close()
    for namespace in (here, there):
        await cluster.delete(NAMESPACES, namespace)


async def namespaces_of(client: httpx.AsyncClient, **query: Any) -> list[str]:
    answer = await client.get("/agents", params=query)
    assert answer.status_code == 200, answer.text
    named: list[str] = answer.json()["facets"]["namespaces"]
    return named


async def test_a_list_of_one_namespace_names_the_others_that_its_caller_sees_and_no_more(two: Two) -> None:
    async with two.client("ann") as ann, two.client("ben") as ben, two.client("eve") as eve:
        for _ in range(2):  # made, and as it is kept
            for more in ({}, {"q": "ada"}):
                assert {two.here, two.there} <= set(await namespaces_of(eve, namespace=two.here, **more))
                assert await namespaces_of(ann, namespace=two.here, **more) == [two.here]
                assert await namespaces_of(ben, namespace=two.there, **more) == [two.there]
        assert (await ann.get("/agents", params={"namespace": two.there})).status_code == 403


@dataclass
class Follower:
    """One who follows all agents, and comes back with the newest cursor whenever the stream is cut off."""

    client: httpx.AsyncClient
    query: dict[str, str] = field(default_factory=dict)
    last: str | None = None
    got: list[tuple[str, int]] = field(default_factory=list)
    """Namespace and number of each event."""
    said: list[str] = field(default_factory=list)
    """All lines but those with events."""

    async def follow(self, is_enough: Callable[["Follower"], bool] = lambda _: True) -> None:
        """Until a message is enough; then the stream is cut off."""
        headers = {"Last-Event-ID": self.last} if self.last else {}
        async with (
            asyncio.timeout(30),
            self.client.stream("GET", "/events/stream", params=self.query, headers=headers) as answer,
        ):
            assert answer.status_code == 200
            last = self.last
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    event = json.loads(line[6:])
                    self.got.append((event["namespace"], int(event["payload"]["content"])))
                else:
                    self.said.append(line)
                if line.startswith("id: "):
                    last = line[4:]
                if not line:  # what a browser goes by: the end of a message
                    self.last = last
                    if is_enough(self):
                        return

    async def take(self, count: int, at_once: int) -> None:
        """So many events in all, cut off after each few."""
        while len(self.got) < count:
            await self.follow(has_got(min(count, len(self.got) + at_once)))


def has_got(count: int) -> Callable[[Follower], bool]:
    return lambda follower: len(follower.got) >= count


def is_not_at(cursor: str | None) -> Callable[[Follower], bool]:
    return lambda follower: follower.last != cursor


async def publish(two: Two, first: int, count: int) -> None:
    """In both namespaces in the same moment, so that ids of the one lie between the other's."""
    for n in range(first, first + count):
        await asyncio.gather(*(writer.post(said("t", str(n))) for writer in two.writers.values()))


async def test_cursors_name_only_agents_that_the_reader_sees_and_lose_and_repeat_nothing(two: Two) -> None:
    async with contextlib.AsyncExitStack() as stack:
        ann, ben, eve, zoe = [await stack.enter_async_context(two.client(who)) for who in ("ann", "ben", "eve", "zoe")]
        of_here, of_there = Follower(ann), Follower(ben)
        filtered, of_both = Follower(eve, {"namespace": two.here}), Follower(eve)
        every = [of_here, of_there, filtered, of_both]
        for follower in [*every, Follower(zoe)]:
            await follower.follow()  # begins now
        forged = Follower(ann, last=f"1-0~{two.there}/ada:9000000000000-0")
        await forged.follow()
        await publish(two, 0, 50)
        publishing = asyncio.create_task(publish(two, 50, 50))
        await asyncio.gather(
            of_here.take(100, 1),
            of_there.take(100, 7),
            filtered.take(100, 3),
            of_both.take(200, 5),
            forged.take(100, 9),
        )
        await publishing
    for follower, where in ((of_here, two.here), (of_there, two.there), (filtered, two.here), (forged, two.here)):
        assert follower.got == [(where, n) for n in range(100)]
        assert any(f"~{where}/ada:" in line for line in follower.said)
        assert not any(f"~{other}/" in line for line in follower.said for other in {two.here, two.there} - {where})
        assert all(line.count("~") <= 1 for line in follower.said)
    for namespace in (two.here, two.there):
        assert [number for where, number in of_both.got if where == namespace] == list(range(100))


async def test_a_heartbeat_moves_the_cursor_and_names_nobody_whom_the_reader_does_not_see(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("komputer.api.stream.HEARTBEAT_S", 0.2)
    async with two.client("zoe") as nobody, two.client("ann") as ann, two.client("eve") as eve:
        followers = [Follower(nobody), Follower(ann), Follower(eve, {"namespace": two.here})]
        for follower in followers:
            await follower.follow()
        waiting = [asyncio.create_task(each.follow(is_not_at(each.last))) for each in followers]
        await two.writers[two.there].post(said("t", "0"))
        await asyncio.gather(*waiting)
        await two.writers[two.here].post(said("t", "1"))
        for follower in followers[1:]:
            await follower.take(1, 1)
    for follower in followers:
        assert not any(two.there in line for line in follower.said), follower.said
    assert [follower.got for follower in followers] == [[], [(two.here, 1)], [(two.here, 1)]]


async def test_a_stream_goes_on_while_nobody_can_tell_what_its_reader_sees(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nobody_tells(self: Rights, right: AccessRequest, namespace: str) -> bool:
        raise Unavailable("the Kubernetes API does not answer")

    monkeypatch.setattr("komputer.api.stream.HEARTBEAT_S", 0.2)
    async with two.client("ann") as ann:
        follower = Follower(ann)
        following = asyncio.create_task(follower.follow(has_got(2)))
        await eventually(lambda: bool(follower.last))
        await two.writers[two.here].post(said("t", "0"))
        await eventually(lambda: bool(follower.got))
        with monkeypatch.context() as away:
            away.setattr(Rights, "allow_in", nobody_tells)
            before = follower.said.count(":")
            await eventually(lambda: following.done() or follower.said.count(":") > before + 2)
        await two.writers[two.here].post(said("t", "1"))
        await following
    assert follower.got == [(two.here, 0), (two.here, 1)]
