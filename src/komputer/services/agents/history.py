"""The events of an agent that are kept, and the costs that they report."""

from decimal import Decimal
from typing import Final, NamedTuple

from komputer.events.log import Log, LogPage
from komputer.services.agents.reader import AgentReader
from komputer.services.agents.view import total_cost
from komputer.services.costs import Costs

PAGE: Final = 100
"""Number of events that are in memory at once while costs are computed. An event may be 256 KiB long."""


class PageRequest(NamedTuple):
    """The events to return. At most one of the cursors may be given; without one the newest are returned."""

    limit: int
    before: str | None = None
    after: str | None = None
    around: str | None = None
    types: frozenset[str] | None = None
    """None: all types."""


class AgentCosts(NamedTuple):
    """`total` counts all tasks that ever ended; `tasks` only those whose events are kept."""

    total: Decimal
    tasks: Costs


class AgentHistory:
    """Reads the event logs of agents. Every method raises `NotFound` for an agent that does not exist."""

    def __init__(self, agents: AgentReader, log: Log) -> None:
        self._agents = agents
        self._log = log

    async def page(self, namespace: str, name: str, request: PageRequest) -> LogPage:
        """Return one page of events, oldest first. Raises `Invalid` for a malformed cursor."""
        uid = (await self._agents.one(namespace, name))["metadata"]["uid"]
        return await self._log.page(
            namespace,
            name,
            uid=uid,
            limit=request.limit,
            before=request.before,
            after=request.after,
            around=request.around,
            types=request.types,
        )

    async def costs(self, namespace: str, name: str, *, with_events: bool) -> AgentCosts:
        """Return the costs of all tasks, computed from every event that is kept."""
        manifest = await self._agents.one(namespace, name)
        costs = Costs(with_events=with_events)
        after = "0-0"
        while True:
            page = await self._log.page(namespace, name, limit=PAGE, after=after, uid=manifest["metadata"]["uid"])
            for entry in page.entries:
                costs.add(entry)
            if page.last_id is None or (len(page.entries) < PAGE and not page.is_cut):
                return AgentCosts(total_cost(manifest), costs)
            after = page.last_id
