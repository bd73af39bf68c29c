"""Metrics of agents' tasks. An event is counted when the log accepts it, so it is counted once, by one gateway."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily

from komputer.domain import money
from komputer.domain.agent import Outcome
from komputer.domain.tasks import ENDS, usage_of
from komputer.events import schema
from komputer.protocol import wire

TASK_SECONDS = tuple(float(2**n) for n in range(12))
TOOL_SECONDS = tuple(0.1 * 2**n for n in range(12))
OUTCOME_LABELS: Final[Mapping[Outcome, str]] = {"completed": "completed", "cancelled": "cancelled", "error": "errored"}
MODELS_OF_A_NAMESPACE: Final = 32
"""How many models of a namespace get a label of their own. Without a limit a manager, which may give its agents any
model, could create labels. A guess."""
OTHER: Final = "other"


def tool_label(tool: str) -> str:
    """Return the name of a tool if it is one of Claude's own, else a common label: a pod could invent names, and each
    would be a new series."""
    if tool in wire.BUILT_IN_TOOLS:
        return tool
    return "mcp" if tool.startswith("mcp__") else OTHER


class TaskMetrics:
    """The metrics, with the names and labels of Komputer.AI, so that existing dashboards work. `agent_name` is empty,
    which is Komputer.AI's default: each agent would add series. Pods cannot create label values."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._models: dict[str, set[str]] = {}
        labels = ["namespace", "model", "agent_name"]
        self._tasks = Counter("komputer_agent_tasks", "Tasks.", [*labels, "outcome"], registry=registry)
        self._seconds = Histogram(
            "komputer_agent_task_duration_seconds",
            "Duration of completed tasks.",
            labels,
            buckets=TASK_SECONDS,
            registry=registry,
        )
        self._costs: dict[tuple[str, str], Decimal] = {}
        registry.register(self)
        self._tokens = Counter("komputer_agent_task_tokens", "Tokens.", [*labels, "kind"], registry=registry)
        self._tools = Counter(
            "komputer_agent_tool_invocations",
            "Tool calls that were answered.",
            ["namespace", "tool", "outcome", "agent_name"],
            registry=registry,
        )
        self._tool_seconds = Histogram(
            "komputer_agent_tool_duration_seconds",
            "Duration of tool calls.",
            ["namespace", "tool", "agent_name"],
            buckets=TOOL_SECONDS,
            registry=registry,
        )

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the costs, which are summed exactly. prometheus-client calls this at each scrape."""
        costs = CounterMetricFamily(
            "komputer_agent_task_cost_usd", "US dollars.", labels=["namespace", "model", "agent_name"]
        )
        for (namespace, model), cost in self._costs.items():
            costs.add_metric([namespace, model, ""], money.number(cost))
        yield costs

    def accepted(self, namespace: str, model: str, event: schema.Event) -> None:
        """Count an event that the log has accepted for the first time."""
        model = self._model_label(namespace, model)
        match event:
            case schema.TaskStarted():
                self._tasks.labels(namespace, model, "", "started").inc()
            case schema.ToolResult():
                outcome = "error" if event.is_error else "success"
                tool = tool_label(event.tool)
                self._tools.labels(namespace, tool, outcome, "").inc()
                self._tool_seconds.labels(namespace, tool, "").observe(event.duration_ms / 1000)
            case schema.TaskCompleted() | schema.TaskCancelled() | schema.TaskFailed():
                self._ended(namespace, model, event)
            case _:
                pass

    def _model_label(self, namespace: str, model: str) -> str:
        """Return the model's name for the first models of a namespace, a common label for all others."""
        known = self._models.setdefault(namespace, set())
        if len(known) < MODELS_OF_A_NAMESPACE:
            known.add(model)
        return model if model in known else OTHER

    def _ended(self, namespace: str, model: str, event: schema.End) -> None:
        kind, payload = schema.to_wire(event)
        usage = usage_of(payload)
        self._tasks.labels(namespace, model, "", OUTCOME_LABELS[ENDS[kind].outcome]).inc()
        self._costs[namespace, model] = money.added(self._costs.get((namespace, model), Decimal(0)), usage.cost_usd)
        if usage.duration_ms is not None:
            self._seconds.labels(namespace, model, "").observe(usage.duration_ms / 1000)
        for token_kind, count in usage.tokens.items():
            if count:
                self._tokens.labels(namespace, model, "", token_kind).inc(count)
