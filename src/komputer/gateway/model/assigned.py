"""The models that an agent may use now."""

from typing import Final

import orjson

from komputer.events.log import Log
from komputer.gateway.agents.identity import PodIdentity
from komputer.gateway.model import requests

TASKS_KEPT: Final = 10_000


class AssignedModels:
    """The models that agents may use. Caches the model of an open task if it differs from the model in the agent's
    spec."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._by_task: dict[str, str] = {}

    async def of(self, caller: PodIdentity, task: str, requested: object) -> set[str]:
        """Return the agent's model. If `requested` is another one, also return the one with which the open task was
        started: a change of the model applies to the next task."""
        models = {caller.agent.spec.model}
        if isinstance(requested, str) and not requests.serves(caller.agent.spec.model, requested):
            if task not in self._by_task and (model := await self._started_with(caller, task)):
                self._keep(task, model)
            models.update({self._by_task[task]} if task in self._by_task else ())
        return models

    async def _started_with(self, caller: PodIdentity, task: str) -> str | None:
        key = caller.key
        page = await self._log.page(key.namespace, key.name, limit=1, types={"task_started"}, uid=key.uid)
        for entry in page.entries:
            payload = orjson.loads(entry)["payload"]
            if payload["task_id"] == task:
                return str(payload["model"])
        return None

    def _keep(self, task: str, model: str) -> None:
        while len(self._by_task) >= TASKS_KEPT:
            del self._by_task[next(iter(self._by_task))]
        self._by_task[task] = model
