"""Waits for the ends of tasks. Results are read from the log, so that a repeated call gets the same answer at any
gateway."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any, Final, NamedTuple

import orjson

from komputer.domain import money
from komputer.domain.base import Manifest
from komputer.domain.errors import Invalid, NotFound, Unavailable
from komputer.domain.ref import ObjectRef
from komputer.domain.tasks import END_TYPES, ENDS, WantedTask, open_task, usage_of, wanted
from komputer.events.entries import task_of
from komputer.events.follow.notifier import Notifier
from komputer.events.log import Log
from komputer.services.agents.agents import Agents
from komputer.services.agents.view import typed

CHECK_INTERVAL_S: Final = 10.0
"""Seconds between two checks of the tasks without a notification, and between two reports of progress."""
PAGE: Final = 200
Report = dict[str, Any]


class WaitRequest(NamedTuple):
    """A task to wait for, and its agent. The uid distinguishes the agent from a later one of the same name."""

    name: str
    uid: str
    task_id: str


def newest_task(manifest: Manifest) -> str:
    """Return the task that was assigned to the agent last. Raises `Invalid` if it never had one."""
    agent = typed(manifest)
    found = wanted(agent.spec, agent.status)
    if isinstance(found, WantedTask):
        return found.id
    task = agent.status.last_task_id or (agent.spec.task.id if agent.spec.task else None)
    if task is None:
        raise Invalid(f"agent {agent.metadata.name!r} has no task yet", code="no_task")
    return task


class Waiter:
    """Waits for tasks, and reports how they ended."""

    def __init__(self, agents: Agents, log: Log, notifier: Notifier) -> None:
        self._agents = agents
        self._log = log
        self._notifier = notifier

    async def until_ended(
        self,
        namespace: str,
        tasks: list[WaitRequest],
        require_open: Callable[[], Awaitable[None]],
        progress: Callable[[int, str], Awaitable[None]],
    ) -> list[Report]:
        """Return each task's report, in the order of `tasks`, when all have ended. There is no time limit:
        `require_open` raises if the waiting task itself is over. While the log does not answer, the wait continues."""
        reports: dict[WaitRequest, Report] = {}
        notified = asyncio.Event()
        with ExitStack() as subscriptions:
            for name in {task.name for task in tasks}:
                subscriptions.callback(self._notifier.on(ObjectRef(namespace, name), notified.set))
            while True:
                notified.clear()
                try:
                    await require_open()
                    for task in tasks:
                        if task not in reports and (found := await self.report(namespace, task)):
                            reports[task] = found
                except Unavailable:
                    await asyncio.sleep(1)
                if len(reports) == len(set(tasks)):
                    return [reports[task] for task in tasks]
                missing = ", ".join(sorted({task.name for task in tasks if task not in reports}))
                await progress(len(reports), f"{len(reports)} of {len(set(tasks))} have ended; waiting for {missing}")
                try:
                    async with asyncio.timeout(CHECK_INTERVAL_S):
                        await notified.wait()
                except TimeoutError:
                    pass

    async def report(self, namespace: str, request: WaitRequest) -> Report | None:
        """Return how the task ended, or None if it has not. Raises `Invalid` for a task that the agent never had."""
        try:
            manifest = await self._agents.one(namespace, request.name)
        except NotFound:
            return _report(request, "deleted", error="the agent was deleted")
        if manifest["metadata"]["uid"] != request.uid:
            return _report(request, "deleted", error="the agent was deleted and created again")
        agent = typed(manifest)
        live = (await self._log.live_many([ref := ObjectRef(namespace, request.name)])).get(ref)
        logged = task_of(live, request.uid)
        if open_task(agent.status, logged) == request.task_id:
            return None
        if live and live.uid == request.uid and (end := await self._end(namespace, request)):
            payload = end["payload"]
            details = {key: payload[key] for key in ("result", "error", "code", "reason") if key in payload}
            details["cost_usd"] = money.number(usage_of(payload).cost_usd)
            return _report(request, ENDS[end["type"]].outcome, **details)
        if request.task_id in agent.status.ended_tasks:
            return _report(request, "ended", error="the log no longer holds how; read the agent's events")
        task = wanted(agent.spec, agent.status)
        is_wanted = isinstance(task, WantedTask) and task.id == request.task_id
        if is_wanted or logged.id == request.task_id:
            return None
        raise Invalid(f"agent {request.name!r} has no task {request.task_id[:64]!r}", code="no_such_task")

    async def _end(self, namespace: str, request: WaitRequest) -> dict[str, Any] | None:
        """Return the task's end from the log, searched from the newest event on."""
        before: str | None = None
        while True:
            page = await self._log.page(
                namespace, request.name, limit=PAGE, before=before, types=END_TYPES, uid=request.uid
            )
            events = [orjson.loads(entry) for entry in page.entries]
            for event in reversed(events):
                if event["payload"].get("task_id") == request.task_id:
                    return dict(event)
            if not events or (len(events) < PAGE and not page.is_cut):
                return None
            before = events[0]["id"]


def _report(request: WaitRequest, outcome: str, **details: Any) -> Report:
    return {"agent": request.name, "task_id": request.task_id, "outcome": outcome, **details}
