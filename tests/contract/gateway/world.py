"""Agents and their pods in a real Kubernetes API, a real log, and the gateway between them and a test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import uuid4

import httpx
from ulid import ULID

from komputer import gateway
from komputer.domain import names
from komputer.domain.agent import digest_of
from komputer.domain.errors import Unavailable
from komputer.events.log import Log, LogKey
from komputer.kube import AGENTS, CONFIGS, CONNECTORS, CRDS, NAMESPACES, PODS, SERVICE_ACCOUNTS, Cluster, Kind, Manifest
from komputer.protocol import wire
from tests.contract.gateway.serving import WITHIN_S, Model
from tests.waiting import eventually

CREDENTIAL = "sk-platform-4711"
MODEL = "claude-sonnet-4-6"
OWN_PORT = 6443
"""Of this machine, and the platform's: no connector may call it."""
FINALIZER = "komputer.ai/test"


def asking(**more: Any) -> dict[str, Any]:
    """A model request that passes."""
    return {"model": MODEL, "max_tokens": 10, "messages": [{"role": "user", "content": "Hello"}], **more}


@dataclass
class World:
    """One test's: a namespace, a gateway at `url`, the model's address behind it."""

    cluster: Cluster
    log: Log
    gateway: gateway.Gateway
    url: str
    model: Model
    http: httpx.AsyncClient
    namespace: str = field(default_factory=lambda: f"gateway-{uuid4().hex[:10]}")

    async def open(self) -> None:
        await self.cluster.create(NAMESPACES, {"metadata": {"name": self.namespace}})
        account = {"metadata": {"name": names.SERVICE_ACCOUNT, "namespace": self.namespace}}
        await self.cluster.create(SERVICE_ACCOUNTS, account)

    async def close(self) -> None:
        for manifest in (await self.cluster.list(AGENTS, self.namespace)).items:
            if manifest["metadata"].get("finalizers"):
                await self.release(manifest["metadata"]["name"])
        await self.cluster.delete(NAMESPACES, self.namespace)

    async def agent(self, name: str = "ada", **spec: Any) -> Runner:
        """An agent whose manifest's task is recorded, and its pod."""
        metadata = {"name": name, "namespace": self.namespace}
        whole = {"instructions": "Say hello.", "model": MODEL, **spec}
        made = await self.cluster.create(AGENTS, {"metadata": metadata, "spec": whole})
        task = str(ULID())
        recorded = {"phase": "Running", "manifestTask": {"digest": digest_of(whole["instructions"]), "id": task}}
        made = await self.cluster.merge_patch(AGENTS, name, self.namespace, {"status": recorded}, "status")
        return Runner(self, made, await self.pod(made), task)

    async def pod(self, agent: Manifest) -> Manifest:
        name, uid = agent["metadata"]["name"], agent["metadata"]["uid"]
        owner = {"apiVersion": names.API_VERSION, "kind": AGENTS.kind, "name": name, "uid": uid, "controller": True}
        metadata = {
            "name": names.pod_name(name),
            "namespace": self.namespace,
            "labels": {names.AGENT_LABEL: name},
            "ownerReferences": [owner],
        }
        spec = {"serviceAccountName": names.SERVICE_ACCOUNT, "containers": [{"name": "agent", "image": "none"}]}
        return await self.cluster.create(PODS, {"metadata": metadata, "spec": spec})

    async def delete_pod(self, name: str) -> None:
        """Gone at once, as after a node's loss."""
        await self.cluster.delete(PODS, name, self.namespace, grace_s=0)
        await self.until_gone(name)

    async def until_gone(self, pod: str) -> None:
        async with asyncio.timeout(WITHIN_S):
            while True:
                found = await self.cluster.list(PODS, self.namespace)
                if all(each["metadata"]["name"] != pod for each in found.items):
                    return
                await asyncio.sleep(0.02)

    async def hold(self, name: str) -> None:
        """Let the agent be held by a finalizer when it is deleted."""
        patch = {"metadata": {"finalizers": [FINALIZER]}}
        await self.cluster.merge_patch(AGENTS, name, self.namespace, patch)

    async def release(self, name: str) -> None:
        await self.cluster.merge_patch(AGENTS, name, self.namespace, {"metadata": {"finalizers": None}})

    async def patch_spec(self, name: str = "ada", **spec: Any) -> None:
        await self.cluster.merge_patch(AGENTS, name, self.namespace, {"spec": spec})

    async def patch_status(self, name: str = "ada", **status: Any) -> None:
        await self.cluster.merge_patch(AGENTS, name, self.namespace, {"status": status}, "status")


@dataclass
class Runner:
    """A runtime, reduced to what it says: its pod's token on every call."""

    world: World
    manifest: Manifest
    pod: Manifest
    task: str
    term: int = 0
    n: int = 0
    token: str = ""

    @property
    def key(self) -> LogKey:
        return LogKey(self.world.namespace, self.manifest["metadata"]["name"], self.manifest["metadata"]["uid"])

    async def authorization(self) -> dict[str, str]:
        if not self.token:
            self.token = await self.issue()
        return {"authorization": f"Bearer {self.token}"}

    async def issue(self, audience: str = names.GATEWAY_AUDIENCE, account: str = names.SERVICE_ACCOUNT) -> str:
        metadata = self.pod["metadata"]
        issued = await self.world.cluster.create_token(
            account, self.world.namespace, audience, 3600, metadata["name"], metadata["uid"]
        )
        return issued.token

    async def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {**await self.authorization(), "content-type": "application/json", **headers}
        return await self.world.http.post(self.world.url + path, content=raw, headers=given)

    async def hello(self, *tasks: str) -> wire.Welcome:
        answered = await self.post("/v1/hello", {"term": self.term, "tasks": list(tasks)})
        assert answered.status_code == 200, answered.text
        welcome = wire.Welcome.model_validate_json(answered.content)
        self.term, self.n = welcome.term, 0
        return welcome

    def event(self, kind: str, **payload: Any) -> dict[str, Any]:
        self.n += 1
        return {"seq": self.n, "type": kind, "payload": {"task_id": self.task, **payload}}

    async def tell(self, *events: dict[str, Any]) -> httpx.Response:
        return await self.post(
            "/v1/events", {"formatVersion": wire.FORMAT_VERSION, "term": self.term, "events": list(events)}
        )

    async def start(self, model: str = MODEL) -> None:
        """Say hello, and that the task has begun."""
        await self.hello()
        answered = await self.tell(
            self.event("task_started", instructions="Say hello.", resuming_session=False, model=model)
        )
        assert answered.json() == {"answers": ["ok"]}, answered.text

    async def end(self, **more: Any) -> None:
        end = self.event("task_completed", result="Hello.", cost_usd=0.01, duration_ms=1, turns=1, **more)
        assert (await self.tell(end)).json() == {"answers": ["ok"]}

    async def ask(self, body: Any = None, path: str = "/model/v1/messages", **headers: str) -> httpx.Response:
        return await self.post(path, asking() if body is None else body, **headers)

    async def events(self) -> list[dict[str, Any]]:
        page = await self.world.log.page(self.key.namespace, self.key.name, limit=100)
        return [json.loads(entry) for entry in page.entries]

    @asynccontextmanager
    async def assignments(self) -> AsyncIterator[Lines]:
        url = f"{self.world.url}/v1/assignment"
        async with self.world.http.stream("GET", url, headers=await self.authorization()) as response:
            if response.status_code != 200:
                await response.aread()
            yield Lines(response)


class Lines:
    """An assignment stream's lines, one by one, within a deadline."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def next(self) -> dict[str, Any] | None:
        """None where the stream has ended."""
        async with asyncio.timeout(WITHIN_S):
            line = await anext(self._lines, None)
        if line is None:
            return None
        parsed: dict[str, Any] = json.loads(line)
        return parsed

    async def next_assignment(self) -> wire.Assignment:
        while True:
            line = await self.next()
            assert line is not None, "the stream has ended"
            if line["type"] == "assignment":
                return wire.Assignment.model_validate(line)

    async def until(self, holds: Callable[[wire.Assignment], object]) -> wire.Assignment:
        """The first assignment that is so: before it the gateway's watch may still tell how the agent was made."""
        while not holds(told := await self.next_assignment()):
            pass
        return told

    async def until_ended(self) -> None:
        while await self.next() is not None:
            pass


async def installed(cluster: Cluster, manifests: list[Manifest]) -> None:
    """The resource definitions are served."""
    there = {each["metadata"]["name"] for each in (await cluster.list(CRDS)).items}
    for manifest in manifests:
        if manifest["metadata"]["name"] not in there:
            await cluster.create(CRDS, manifest)
    for kind in (AGENTS, CONFIGS, CONNECTORS):
        await eventually(partial(_is_served, cluster, kind))


async def _is_served(cluster: Cluster, kind: Kind) -> bool:
    try:
        await cluster.list(kind)
    except Unavailable as missing:
        if missing.code == "kind_missing":
            return False
        raise
    return True
