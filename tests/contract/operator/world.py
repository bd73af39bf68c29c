"""The operator's surroundings: a namespace, the log, and this test in the part of kubelet, API and runtime."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from ulid import ULID

from komputer.domain.agent import Agent, digest_of
from komputer.domain.base import Manifest
from komputer.domain.errors import NotFound
from komputer.events import schema
from komputer.events.log import Log, LogKey, Numbered
from komputer.kube import AGENTS, CONFIG_MAPS, CONFIGS, PODS, PVCS, TEMPLATES, Cluster, Kind

WITHIN_S = 30.0
READY_WITHIN_S = 90.0
SCHEDULED = {"type": "PodScheduled", "status": "True"}
"""What a real scheduler says of a pod before any kubelet speaks of it."""
CHILDREN = ((PVCS, "ada-pvc"), (CONFIG_MAPS, "ada-config"), (PODS, "ada-pod"))


@dataclass
class Operator:
    """The real one, in a process of its own."""

    kubeconfig: Path
    redis: str
    prefix: str
    output: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Returns when it has seen all that exists."""
        environment = os.environ | {
            "KUBECONFIG": str(self.kubeconfig),
            "KOMPUTER_REDIS_URL": self.redis,
            "KOMPUTER_STREAM_PREFIX": self.prefix,
            "KOMPUTER_PORT": "0",
            "KOMPUTER_METRICS_PORT": "0",
        }
        with self.output.open("ab") as output:
            begin = output.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.contract.operator.serve"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        until = time.monotonic() + READY_WITHIN_S
        while b'"event": "ready"' not in self.output.read_bytes()[begin:]:
            assert self.process.poll() is None, self.output.read_text()[-3000:]
            assert time.monotonic() < until, self.output.read_text()[-3000:]
            time.sleep(0.01)

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """`kill -9`."""
        assert self.process is not None
        self.process.kill()
        self._reap()

    def stop(self) -> int:
        """SIGTERM. The exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self._reap()

    def _reap(self) -> int:
        assert self.process is not None
        return self.process.wait(20)


class World:
    """All objects of a test live in `namespace`; its agent is called ada unless it says otherwise."""

    def __init__(self, cluster: Cluster, log: Log, namespace: str) -> None:
        self.cluster = cluster
        self.log = log
        self.namespace = namespace

    # ---- what people do --------------------------------------------------------------------------------------------
    async def apply(self, name: str = "ada", **spec: Any) -> Manifest:
        metadata = {"name": name, "namespace": self.namespace}
        return await self.cluster.create(AGENTS, {"metadata": metadata, "spec": {"instructions": "A", **spec}})

    async def template(self, name: str, pod_spec: Manifest | None = None) -> None:
        given = pod_spec or {"containers": [{"name": "agent", "image": "komputer-agent"}]}
        metadata = {"name": name, "namespace": self.namespace}
        await self.cluster.create(TEMPLATES, {"metadata": metadata, "spec": {"podSpec": given}})

    async def change(self, spec: Manifest, name: str = "ada") -> Manifest:
        return await self.cluster.merge_patch(AGENTS, name, self.namespace, {"spec": spec})

    async def assign(self, instructions: str = "do", name: str = "ada") -> str:
        """As the API does it. The task's id."""
        agent = await self.agent(name)
        recorded = agent.status.manifest_task
        covers: Manifest = {"digest": digest_of(agent.spec.instructions)}
        if recorded:
            covers["manifestTaskID"] = recorded.id
        task = str(ULID())
        await self.change({"task": {"id": task, "instructions": instructions, "covers": covers}}, name)
        return task

    async def delete(self, kind: Kind = AGENTS, name: str = "ada") -> None:
        await self.cluster.delete(kind, name, self.namespace, propagation="Background")

    # ---- what kubelet does -----------------------------------------------------------------------------------------
    async def pod_says(self, status: Manifest, name: str = "ada") -> None:
        await self.cluster.merge_patch(PODS, f"{name}-pod", self.namespace, {"status": status}, "status")

    async def pod_runs(self, name: str = "ada", restarts: int = 0) -> None:
        await self.pod_says(running(restarts), name)

    # ---- what is ---------------------------------------------------------------------------------------------------
    async def agent(self, name: str = "ada") -> Agent:
        return Agent.model_validate(await self.cluster.get(AGENTS, name, self.namespace))

    async def key(self, name: str = "ada") -> LogKey:
        return LogKey(self.namespace, name, (await self.agent(name)).metadata.uid)

    async def find(self, kind: Kind, name: str) -> Manifest | None:
        try:
            return await self.cluster.get(kind, name, self.namespace if kind.namespaced else None)
        except NotFound:
            return None

    async def until(self, kind: Kind, name: str, holds: Callable[[Manifest], bool], what: str = "") -> Manifest:
        """The object as soon as `holds` says yes of it. Looks at every state that the server tells of."""
        last: Manifest | None = None
        try:
            async with asyncio.timeout(WITHIN_S):
                while True:
                    listed = await self.cluster.list(kind, self.namespace if kind.namespaced else None)
                    last = next((m for m in listed.items if m["metadata"]["name"] == name), None)
                    if last and holds(last):
                        return last
                    version = listed.resource_version
                    watched = self.cluster.watch(kind, self.namespace, resource_version=version, timeout_s=5)
                    async with contextlib.aclosing(watched) as events:
                        async for event in events:
                            if event.type == "BOOKMARK" or event.manifest["metadata"]["name"] != name:
                                continue
                            last = event.manifest
                            if event.type != "DELETED" and holds(last):
                                return last
        except TimeoutError:
            raise AssertionError(f"{kind.kind} {name}: {what or 'never so'}; last seen: {last}") from None

    async def until_gone(self, kind: Kind, name: str, uid: str | None = None) -> None:
        async with asyncio.timeout(WITHIN_S):
            while True:
                listed = await self.cluster.list(kind, self.namespace)
                found = next((m for m in listed.items if m["metadata"]["name"] == name), None)
                if found is None or (uid and found["metadata"]["uid"] != uid):
                    return
                watched = self.cluster.watch(
                    kind, self.namespace, resource_version=listed.resource_version, timeout_s=5
                )
                async with contextlib.aclosing(watched) as events:
                    async for event in events:
                        if event.type == "DELETED" and event.manifest["metadata"]["name"] == name:
                            break

    async def until_status(self, holds: Callable[[Agent], bool], name: str = "ada") -> Agent:
        found = await self.until(AGENTS, name, lambda m: holds(Agent.model_validate(m)))
        return Agent.model_validate(found)

    async def until_reason(self, reason: str, name: str = "ada", kind: str = "Ready") -> Agent:
        return await self.until_status(lambda agent: reason_of(agent, kind) == reason, name)

    async def until_pod_waits(self, name: str = "ada") -> Agent:
        """Its pod is made and does not run yet: nobody schedules it, or a scheduler has found no node."""
        return await self.until_status(lambda agent: reason_of(agent) in ("PodStarting", "Unschedulable"), name)

    async def until_recorded(self, instructions: str = "A", name: str = "ada") -> str:
        """The id that the manifest's task was given."""
        digest = digest_of(instructions)
        agent = await self.until_status(
            lambda a: a.status.manifest_task is not None and a.status.manifest_task.digest == digest, name
        )
        assert agent.status.manifest_task
        return agent.status.manifest_task.id

    async def until_accounted(self, *tasks: str, name: str = "ada") -> Agent:
        return await self.until_status(lambda agent: set(tasks) <= set(agent.status.ended_tasks), name)

    async def events(self, name: str = "ada") -> list[tuple[str, dict[str, Any]]]:
        """Type and payload of all that the log has."""
        page = await self.log.page(self.namespace, name, limit=1000)
        return [(event["type"], event["payload"]) for event in map(json.loads, page.entries)]


class Runtime:
    """What speaks from inside a pod, without the pod."""

    def __init__(self, world: World, key: LogKey) -> None:
        self._world, self._key, self._term, self._n = world, key, 0, 0

    async def hello(self, floor: str | None = None) -> None:
        welcome = await self._world.log.hello(self._key, old_term=self._term, asked=[], floor=floor)
        self._term, self._n = welcome.term, 0

    async def says(self, *events: schema.Event) -> list[str]:
        numbered = [Numbered(self._n + i, event) for i, event in enumerate(events, 1)]
        answers = await self._world.log.append(self._key, self._term, numbered)
        self._n += sum(answer == "ok" for answer in answers)
        return list(answers)


async def runtime(world: World, name: str = "ada") -> Runtime:
    new = Runtime(world, await world.key(name))
    await new.hello()
    return new


def started(task: str) -> schema.TaskStarted:
    return schema.TaskStarted(task_id=task, instructions="do", resuming_session=False, model="m")


def completed(task: str, cost: float = 0.25) -> schema.TaskCompleted:
    return schema.TaskCompleted(
        task_id=task, result="done", cost_usd=cost, duration_ms=1, turns=1, session_id="session-1"
    )


def reason_of(agent: Agent, kind: str = "Ready") -> str | None:
    return next((c.reason for c in agent.status.conditions if c.type == kind), None)


def running(restarts: int = 0, since: datetime | None = None) -> Manifest:
    at = (since or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
    container = {
        "name": "agent",
        "image": "komputer-agent",
        "imageID": "",
        "ready": True,
        "restartCount": restarts,
        "state": {"running": {"startedAt": at}},
    }
    return {"phase": "Running", "startTime": at, "containerStatuses": [container], "conditions": [SCHEDULED]}


def waiting(reason: str, message: str = "", restarts: int = 0) -> Manifest:
    container = {
        "name": "agent",
        "image": "komputer-agent",
        "imageID": "",
        "ready": False,
        "restartCount": restarts,
        "state": {"waiting": {"reason": reason, "message": message}},
    }
    return {"phase": "Pending", "containerStatuses": [container], "conditions": [SCHEDULED]}


def total(costs: Sequence[float]) -> Decimal:
    return sum((Decimal(str(cost)) for cost in costs), Decimal(0))


@contextlib.asynccontextmanager
async def deadline(cluster: Cluster, seconds: int) -> Any:
    """For as long as this lasts, tasks wait so long for a runtime."""
    await cluster.merge_patch(CONFIGS, "default", None, {"spec": {"startDeadlineSeconds": seconds}})
    try:
        yield
    finally:
        await cluster.merge_patch(CONFIGS, "default", None, {"spec": {"startDeadlineSeconds": 600}})
