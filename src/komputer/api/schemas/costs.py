"""The response of `GET /agents/{name}/cost`."""

from typing import Annotated

from pydantic import Field

from komputer.api.schemas.events import EventBody
from komputer.domain.base import WireModel
from komputer.services.costs import TaskCost


class TaskCostEntry(TaskCost):
    """The cost of one task and, if the request asks for them, its events."""

    events: Annotated[list[EventBody] | None, Field(description="Present with `events=true`.")] = None


class CostBreakdown(WireModel):
    """`totalCost` includes every task that ever ended; `tasks` are those whose events are still kept."""

    agent: str
    total_cost: float
    task_count: int
    tasks: list[TaskCostEntry]
