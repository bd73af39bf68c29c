"""What became of a task: found in the log, so that whoever asks again, and wherever, gets the same answer."""

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

LOOK_S: Final = 10.0
"""How long nothing may ring before we look anyway and say that we still wait."""
PAGE: Final = 200
Report = dict[str, Any]


class WaitRequest(NamedTuple):
    """One agent's one task, of the very agent that was there when it was asked about."""

    name: str
    uid: str
    task_id: str


def newest_task(manifest: Manifest) -> str:
    """The task that the agent was given last. Raises `Invalid` where it never had one."""
    agent = typed(manifest)
    found = wanted(agent.spec, agent.status)
    if isinstance(found, WantedTask):
        return found.id
    task = agent.status.last_task_id or (agent.spec.task.id if agent.spec.task else None)
    if task is None:
        raise Invalid(f"agent {agent.metadata.name!r} has no task yet", code="no_task")
    return task


async def report(agents: Agents, log: Log, namespace: str, asked: WaitRequest) -> Report | None:
    """How the task ended, or None while it has not. Raises `Invalid` for a task that the agent never had."""
    try:
        manifest = await agents.one(namespace, asked.name)
    except NotFound:
        return _told(asked, "deleted", error="the agent was deleted")
    if manifest["metadata"]["uid"] != asked.uid:
        return _told(asked, "deleted", error="the agent was deleted and made again")
    agent = typed(manifest)
    live = (await log.live_many([ref := ObjectRef(namespace, asked.name)])).get(ref)
    logged = task_of(live, asked.uid)
    if open_task(agent.status, logged) == asked.task_id:
        return None
    if live and live.uid == asked.uid and (end := await _end(log, namespace, asked)):
        payload = end["payload"]
        told = {key: payload[key] for key in ("result", "error", "code", "reason") if key in payload}
        told["cost_usd"] = money.number(usage_of(payload).cost_usd)
        return _told(asked, ENDS[end["type"]].outcome, **told)
    if asked.task_id in agent.status.ended_tasks:
        return _told(asked, "ended", error="the log no longer holds how; read the agent's events")
    task = wanted(agent.spec, agent.status)
    if (isinstance(task, WantedTask) and task.id == asked.task_id) or logged.id == asked.task_id:
        return None
    raise Invalid(f"agent {asked.name!r} has no task {asked.task_id[:64]!r}", code="no_such_task")


async def _end(log: Log, namespace: str, asked: WaitRequest) -> dict[str, Any] | None:
    before: str | None = None
    while True:
        page = await log.page(namespace, asked.name, limit=PAGE, before=before, types=END_TYPES, uid=asked.uid)
        events = [orjson.loads(entry) for entry in page.entries]
        for event in reversed(events):
            if event["payload"].get("task_id") == asked.task_id:
                return dict(event)
        if not events or (len(events) < PAGE and not page.is_cut):
            return None
        before = events[0]["id"]


def _told(asked: WaitRequest, outcome: str, **more: Any) -> Report:
    return {"agent": asked.name, "task_id": asked.task_id, "outcome": outcome, **more}


async def until_ended(
    agents: Agents,
    log: Log,
    notifier: Notifier,
    namespace: str,
    tasks: list[WaitRequest],
    still: Callable[[], Awaitable[None]],
    progress: Callable[[int, str], Awaitable[None]],
) -> list[Report]:
    """Each task's report, in the order asked, when all have ended. No limit of time: `still` raises where the wait has
    lost its reason. While the log does not answer it waits on."""
    found: dict[WaitRequest, Report] = {}
    rung = asyncio.Event()
    with ExitStack() as listening:
        for name in {task.name for task in tasks}:
            listening.callback(notifier.on(ObjectRef(namespace, name), rung.set))
        while True:
            rung.clear()
            try:
                await still()
                for task in tasks:
                    if task not in found and (one := await report(agents, log, namespace, task)):
                        found[task] = one
            except Unavailable:
                await asyncio.sleep(1)
            if len(found) == len(set(tasks)):
                return [found[task] for task in tasks]
            missing = ", ".join(sorted({task.name for task in tasks if task not in found}))
            await progress(len(found), f"{len(found)} of {len(set(tasks))} have ended; waiting for {missing}")
            try:
                async with asyncio.timeout(LOOK_S):
                    await rung.wait()
            except TimeoutError:
                pass
