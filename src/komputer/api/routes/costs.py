"""`/api/v1/agents/{name}/cost`."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request

from komputer.api.routes.shared import ERRORS, NO_AGENT, Json, Namespace
from komputer.api.schemas.costs import CostBreakdown
from komputer.api.state import state_of

router = APIRouter(prefix="/api/v1/agents", tags=["agents"], responses=ERRORS)


@router.get("/{name}/cost", operation_id="get_agent_cost_breakdown", response_model=CostBreakdown, responses=NO_AGENT)
async def get_agent_cost_breakdown(
    request: Request,
    name: str,
    namespace: Namespace,
    limit: Annotated[int | None, Query(ge=1, le=10_000, description="Only the newest tasks, this many.")] = None,
    events: Annotated[bool, Query(description="With the events of each task: the newest 16 MiB of all.")] = False,
    refresh: Annotated[bool, Query(description="No effect: nothing is cached.")] = False,
) -> Json:
    """Return what the agent has cost, task by task."""
    costs = await state_of(request).agents.history.costs(namespace, name, with_events=events)
    entries = costs.tasks.events() if events else {}
    tasks = [
        task.to_wire() | ({"events": [orjson.Fragment(entry) for entry in entries[task.task_id]]} if events else {})
        for task in costs.tasks.tasks(limit)
    ]
    # A fragment keeps all digits: the sum of many tasks may have more than a binary fraction holds.
    total = orjson.Fragment(f"{costs.total:f}")
    return Json(orjson.dumps({"agent": name, "totalCost": total, "taskCount": len(costs.tasks), "tasks": tasks}))
