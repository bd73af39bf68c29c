"""`/api/v1/agents/{name}/cost`."""

from typing import Annotated, Final

import orjson
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict

from komputer.api.costs import Costs
from komputer.api.routes.shared import ERRORS, NO_AGENT, Json, Namespace, agents
from komputer.events.log import Log
from komputer.services.agents.view import total_cost

router = APIRouter(prefix="/api/v1/agents", tags=["agents"], responses=ERRORS)
PAGE: Final = 100
"""Events that are in memory at once: some are 256 KiB long."""


class TaskCost(BaseModel):
    """One task: what it was, how long it took, what it cost in US dollars."""

    model_config = ConfigDict(extra="allow")

    index: int
    taskID: str
    startedAt: str
    costUSD: float
    eventCount: int
    completedAt: str | None = None
    outcome: str | None = None
    instruction: str | None = None


class CostBreakdown(BaseModel):
    """`totalCost` counts every task that ever ended; `tasks` are those of which there still are events."""

    agent: str
    totalCost: float
    taskCount: int
    tasks: list[TaskCost]


@router.get("/{name}/cost", operation_id="get_agent_cost_breakdown", response_model=CostBreakdown, responses=NO_AGENT)
async def get_agent_cost_breakdown(
    request: Request,
    name: str,
    namespace: Namespace,
    limit: Annotated[int | None, Query(ge=1, le=10_000, description="Only the newest so many tasks.")] = None,
    events: Annotated[bool, Query(description="With the events of each task: the newest 16 MiB of all.")] = False,
    refresh: Annotated[bool, Query(description="For older clients: nothing is cached.")] = False,
) -> Json:
    """What the agent has cost, task by task."""
    manifest = await agents(request).one(namespace, name)
    costs = Costs(with_events=events)
    await _add_all(costs, request.app.state.log, namespace, name, manifest["metadata"]["uid"])
    # Its digits as they are: a sum of many tasks may have more than a binary fraction holds.
    answer = {
        "agent": name,
        "totalCost": orjson.Fragment(f"{total_cost(manifest):f}"),
        "taskCount": len(costs),
        "tasks": costs.tasks(limit),
    }
    return Json(orjson.dumps(answer))


async def _add_all(costs: Costs, log: Log, namespace: str, name: str, uid: str) -> None:
    """Every event that is kept, oldest first."""
    after = "0-0"
    while True:
        page = await log.page(namespace, name, limit=PAGE, after=after, uid=uid)
        for entry in page.entries:
            costs.add(entry)
        if page.last_id is None or (len(page.entries) < PAGE and not page.is_cut):
            return
        after = page.last_id
