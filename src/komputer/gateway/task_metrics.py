"""What agents' tasks come to, counted where their events are accepted: each event once, whichever gateway takes it."""

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
"""That are told apart; a manager may give its agents any. More than anybody uses, a guess."""
OTHER: Final = "other"


def tool_label(tool: str) -> str:
    """A tool's name where it is one of Claude's own; a pod may say any name, and each would be series of its own."""
    if tool in wire.BUILT_IN_TOOLS:
        return tool
    return "mcp" if tool.startswith("mcp__") else OTHER


class TaskMetrics:
    """The names and labels of the Go version, whose dashboards go on to work; `agent_name` is empty, as it is there
    unless one asks for it: each agent would be series of its own. No label grows with what pods say."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._models: dict[str, set[str]] = {}
        of_a_task = ["namespace", "model", "agent_name"]
        self._tasks = Counter("komputer_agent_tasks", "Tasks.", [*of_a_task, "outcome"], registry=registry)
        self._seconds = Histogram(
            "komputer_agent_task_duration_seconds",
            "Of completed tasks.",
            of_a_task,
            buckets=TASK_SECONDS,
            registry=registry,
        )
        self._costs: dict[tuple[str, str], Decimal] = {}
        registry.register(self)
        self._tokens = Counter("komputer_agent_task_tokens", "Tokens.", [*of_a_task, "kind"], registry=registry)
        self._tools = Counter(
            "komputer_agent_tool_invocations",
            "Tool calls that were answered.",
            ["namespace", "tool", "outcome", "agent_name"],
            registry=registry,
        )
        self._tool_seconds = Histogram(
            "komputer_agent_tool_duration_seconds",
            "Of tool calls.",
            ["namespace", "tool", "agent_name"],
            buckets=TOOL_SECONDS,
            registry=registry,
        )

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Costs, which are summed exactly. prometheus-client asks for them at each scrape."""
        costs = CounterMetricFamily(
            "komputer_agent_task_cost_usd", "US dollars.", labels=["namespace", "model", "agent_name"]
        )
        for (namespace, model), cost in self._costs.items():
            costs.add_metric([namespace, model, ""], money.number(cost))
        yield costs

    def accepted(self, namespace: str, model: str, event: schema.Event) -> None:
        """The log has taken it, and had not before."""
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
        """Of the namespace's models the first by their names; all others as one."""
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
