"""What tasks come to, as Prometheus sees it: no label grows with what pods say."""

from prometheus_client import CollectorRegistry
from prometheus_client.samples import Sample

from komputer.events import schema
from komputer.gateway.task_metrics import MODELS_OF_A_NAMESPACE, TaskMetrics

TASK = "01JAPJ0000000000000000000A"


def samples(registry: CollectorRegistry, name: str) -> list[Sample]:
    return [sample for metric in registry.collect() for sample in metric.samples if sample.name == name]


def called(tool: str) -> schema.ToolResult:
    return schema.ToolResult(task_id=TASK, id="t", tool=tool, input={}, output="", is_error=False, duration_ms=150)


def started(model: str) -> schema.TaskStarted:
    return schema.TaskStarted(task_id=TASK, instructions="x", resuming_session=False, model=model)


def test_claudes_own_tools_are_counted_by_name_a_connectors_together_and_all_others_together() -> None:
    registry = CollectorRegistry()
    metrics = TaskMetrics(registry)
    for tool in ("Bash", "Read", "mcp__git__issue", "mcp__git__merge", "mcp__komputer__create_agent"):
        metrics.accepted("team", "m", called(tool))
    for n in range(1000):
        metrics.accepted("team", "m", called(f"Made-up-{n}"))
    counts = {
        sample.labels["tool"]: sample.value
        for sample in samples(registry, "komputer_agent_tool_invocations_total")
        if sample.value
    }
    assert counts == {"Bash": 1, "Read": 1, "mcp": 3, "other": 1000}
    timed = {sample.labels["tool"] for sample in samples(registry, "komputer_agent_tool_duration_seconds_count")}
    assert timed == {"Bash", "Read", "mcp", "other"}


def test_a_manager_that_makes_up_models_for_its_agents_makes_no_more_series_and_only_in_its_namespace() -> None:
    registry = CollectorRegistry()
    metrics = TaskMetrics(registry)
    metrics.accepted("team", "claude-sonnet-4-6", started("claude-sonnet-4-6"))
    for n in range(1000):
        metrics.accepted("team", f"made-up-{n}", started(f"made-up-{n}"))
    metrics.accepted("team", "claude-sonnet-4-6", started("claude-sonnet-4-6"))
    metrics.accepted("other-team", "claude-opus-5-5", started("claude-opus-5-5"))
    counts = {
        (sample.labels["namespace"], sample.labels["model"]): sample.value
        for sample in samples(registry, "komputer_agent_tasks_total")
    }
    assert len(counts) == MODELS_OF_A_NAMESPACE + 2
    assert counts["team", "claude-sonnet-4-6"] == 2
    assert counts["team", "other"] == 1001 - MODELS_OF_A_NAMESPACE
    assert counts["other-team", "claude-opus-5-5"] == 1
