"""Cancels the tasks that a manager gave to its agents when the manager's own task is cancelled."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import structlog

from komputer.background import Background
from komputer.domain.base import Manifest, fields_of, texts_in
from komputer.domain.errors import Conflict, NotFound
from komputer.gateway.managers import ownership
from komputer.kube import Cache, CacheChange
from komputer.services.agents.agents import Agents

log = structlog.get_logger(__name__)


class CancelCascade:
    """Watches all agents. It is level-triggered: the order in which manager and child change does not matter, and a
    cancel that a restart interrupted is done after it."""

    def __init__(self, agents: Agents, cache: Cache) -> None:
        self._agents = agents
        self._cache = cache
        self._running: set[tuple[str, str, str]] = set()
        self._background = Background()

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        async with self._background:
            yield

    @property
    def problem(self) -> str | None:
        """Why a cancel does not reach a child, or None."""
        return self._background.problem

    def agent_changed(self, change: CacheChange) -> None:
        if change.type == "DELETED":
            return
        manifest = change.manifest
        namespace = manifest["metadata"]["namespace"]
        cancelled = fields_of(manifest, "spec").get("cancelTaskID")
        if cancelled and cancelled not in texts_in(fields_of(manifest, "status").get("endedTasks")):
            for child in self._cache.items(namespace):
                self._cascade(child, manifest)
        if found := ownership.manager_of(manifest):
            self._cascade(manifest, self._cache.get(namespace, found[0]))

    async def task_given(self, manager: Manifest | None, manager_task: str, child: Manifest, task_id: str) -> None:
        """Cancel a task that was given while the manager's own task was being cancelled."""
        if manager and fields_of(manager, "spec").get("cancelTaskID") == manager_task:
            await self._cancel(child["metadata"]["namespace"], child["metadata"]["name"], task_id)

    def _cascade(self, child: Manifest, manager: Manifest | None) -> None:
        task = assigned_task(child)
        given_by, owner = task.get("managerTaskID"), ownership.manager_of(child)
        if not given_by or not isinstance(task.get("id"), str) or manager is None or owner is None:
            return
        if manager["metadata"]["uid"] != owner[1] or fields_of(manager, "spec").get("cancelTaskID") != given_by:
            return
        if task["id"] in texts_in(fields_of(child, "status").get("endedTasks")):
            return
        if fields_of(child, "spec").get("cancelTaskID") == task["id"]:
            return
        key = (child["metadata"]["namespace"], child["metadata"]["name"], task["id"])
        if key not in self._running:
            self._running.add(key)
            running = self._background.run(f"cancel of task {key[2]}", partial(self._cancel, *key))
            running.add_done_callback(lambda _: self._running.discard(key))

    async def _cancel(self, namespace: str, name: str, task_id: str) -> None:
        try:
            await self._agents.cancel(namespace, name, task_id)
        except (NotFound, Conflict):
            return
        log.info("task cancelled with its manager's", agent=f"{namespace}/{name}", task=task_id)


def assigned_task(manifest: Manifest) -> Manifest:
    """Return the task that was assigned to an agent last; empty if there is none."""
    task = fields_of(manifest, "spec").get("task")
    return task if isinstance(task, dict) else {}
