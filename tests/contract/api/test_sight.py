"""Lists and streams name nothing of a namespace that their caller does not see.

Who sees what is a table here, so that it runs without RBAC; `test_access.py` asks a real one.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import httpx2
import pytest

from komputer import api
from komputer.events.log import Log, LogKey
from komputer.kube import AGENTS, NAMESPACES, SERVICE_ACCOUNTS, Cluster
from komputer.kube.connection import open_connection
from tests.contract.gateway.serving import serving
from tests.contract.log.events import Producer
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
        return httpx.AsyncClient(base_url=f"{self.url}/api/v1", headers=headers, timeout=30)


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
    settings = api.Settings(auth="kubernetes", token_audiences=(AUDIENCE,), loopback_only=False)
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
