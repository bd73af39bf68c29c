"""Events, and a producer that numbers them as a runtime does."""

import json
from collections.abc import Sequence
from typing import Any

from komputer.events import schema
from komputer.events.log import Log, LogKey, LogPage, Numbered
from komputer.protocol.wire import AppendResult, Welcome

KEY = LogKey("team", "ada", "uid-1")


def started(task: str) -> schema.TaskStarted:
    return schema.TaskStarted(task_id=task, instructions=f"do {task}", resuming_session=False, model="m")


def said(task: str, text: str = "hello") -> schema.AgentText:
    return schema.AgentText(task_id=task, content=text)


def completed(task: str, cost: float = 0.25) -> schema.TaskCompleted:
    return schema.TaskCompleted(
        task_id=task, result=f"{task} is done", cost_usd=cost, duration_ms=1, turns=1, session_id="s1"
    )


def cancelled(task: str) -> schema.TaskCancelled:
    return schema.TaskCancelled(task_id=task, reason="asked for")


def failed(task: str, code: str = "workspace_lost") -> schema.TaskFailed:
    return schema.TaskFailed(task_id=task, error="it failed", code=code)


class Producer:
    """A runtime's side of the log: one term at a time, numbers from 1."""

    def __init__(self, log: Log, key: LogKey = KEY, floor: str | None = None) -> None:
        self.log, self.key, self.floor = log, key, floor
        self.term, self.n = 0, 0

    async def hello(self, asked: Sequence[str] = ()) -> Welcome:
        welcome = await self.log.hello(self.key, old_term=self.term, asked=asked, floor=self.floor)
        self.term, self.n = welcome.term, 0
        return welcome

    async def post(self, *events: schema.Event, generation: int | None = None) -> list[AppendResult]:
        """Numbers go on behind what was taken."""
        batch = [
            Numbered(self.n + i, event, generation if isinstance(event, schema.TaskStarted) else None)
            for i, event in enumerate(events, 1)
        ]
        answers = await self.log.append(self.key, self.term, batch, floor=self.floor)
        self.n += answers.count("ok")
        return answers


async def producer(log: Log, key: LogKey = KEY) -> Producer:
    new = Producer(log, key)
    await new.hello()
    return new


def read(page: LogPage) -> list[dict[str, Any]]:
    return [json.loads(entry) for entry in page.entries]


def texts(page: LogPage) -> list[str]:
    return [event["payload"]["content"] for event in read(page) if event["type"] == "text"]


def ids(page: LogPage) -> list[str]:
    return [event["id"] for event in read(page)]


async def everything(log: Log, key: LogKey = KEY) -> list[dict[str, Any]]:
    return read(await log.page(key.namespace, key.name, limit=1000))
