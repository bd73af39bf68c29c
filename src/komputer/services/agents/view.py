"""The representation of an agent for clients: the resource, updated with the live state that the event log keeps.
Pure."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Final

from pydantic import Field, ValidationError

from komputer.domain import names, tasks
from komputer.domain.agent import Agent, AgentTaskSettings
from komputer.domain.base import Condition, Manifest, WireModel, fields_of
from komputer.domain.errors import Conflict
from komputer.events.entries import task_of
from komputer.events.log import Live

FAULTS_SHOWN: Final = 20
"""Maximum number of unreadable fields that `errors` names."""


class AgentSummary(WireModel):
    """The short form of an agent, which `POST /agents` returns."""

    name: str
    namespace: str
    model: str
    status: Annotated[str, Field(description="The phase: Pending, Running, Succeeded, Failed or Sleeping.")]
    created_at: str


class AgentView(AgentTaskSettings, AgentSummary):
    """An agent as of now. `taskStatus` and `lastTaskMessage` may be newer than the resource's status."""

    model: str
    priority: int
    template_ref: str | None = None
    task_status: Annotated[str | None, Field(description="InProgress, Compacting, Complete or Error.")] = None
    last_task_message: str | None = None
    last_task_outcome: Annotated[
        str | None, Field(description="completed, cancelled or error; absent while a task runs.")
    ] = None
    last_task_cost_usd: Annotated[str | None, Field(alias="lastTaskCostUSD", description="A decimal number.")] = None
    total_cost_usd: Annotated[str | None, Field(alias="totalCostUSD", description="A decimal number.")] = None
    total_tokens: Annotated[int | None, Field(description="Tokens in the conversation after the last turn.")] = None
    model_context_window: Annotated[int | None, Field(description="In tokens.")] = None
    last_activity_at: str | None = None
    completion_time: Annotated[str | None, Field(description="When the last task ended.")] = None
    task_id: Annotated[str | None, Field(alias="taskID", description="The task that runs or is about to.")] = None
    session_id: Annotated[str | None, Field(description="The Claude conversation that the next task continues.")] = None
    instructions: str | None = None
    labels: dict[str, str] | None = None
    secrets: Annotated[list[str] | None, Field(description="Names of the Secrets that `secretRefs` gave it.")] = None
    office_manager: Annotated[str | None, Field(description="The manager that created the agent.")] = None
    conditions: list[Condition] | None = None
    errors: Annotated[
        list[str] | None, Field(description="Fields of the resource that this version cannot read and does not show.")
    ] = None


def typed(manifest: Manifest) -> Agent:
    """Return the agent as a model. Raises `Conflict` (`agent_unreadable`) for one that bypassed validation."""
    try:
        return Agent.model_validate(manifest)
    except ValidationError as wrong:
        metadata = manifest["metadata"]
        where = ".".join(str(part) for part in wrong.errors(include_input=False)[0]["loc"])
        raise Conflict(
            f"agent {metadata['name']!r} in namespace {metadata['namespace']!r} is not as this version knows agents: "
            f"see {where}; correct it with kubectl, or delete it",
            code="agent_unreadable",
        ) from None


def total_cost(manifest: Manifest) -> Decimal:
    """Return the cost of all ended tasks in US dollars."""
    try:
        return Decimal(Agent.salvaged(manifest)[0].status.total_cost_usd or 0)
    except ValidationError:
        return Decimal(0)


def usd(amount: str | None) -> str | None:
    """Return the amount with at least four fraction digits."""
    if amount is None:
        return None
    number = Decimal(amount)
    exponent = number.as_tuple().exponent
    return f"{number:.{max(4, -exponent if isinstance(exponent, int) else 4)}f}"


def agent_view(manifest: Manifest, live: Live | None) -> AgentView:
    """Return the agent as clients see it. An agent that bypassed validation is shown as far as it can be read; `errors`
    names the rest."""
    try:
        agent, left_out = Agent.salvaged(manifest)
    except ValidationError:
        return _unreadable(manifest)
    spec, status = agent.spec, agent.status
    own = live if live and live.uid == agent.metadata.uid else None
    logged = task_of(live, agent.metadata.uid)
    is_busy = tasks.is_busy(spec, status, logged)
    phase = status.phase or "Pending"
    # A task that has started runs in a pod, even if the kubelet has not reported the pod as running yet.
    has_started = tasks.open_task(status, logged) is not None
    task_status = own.task_status if own and own.task_status else status.task_status
    if is_busy:
        task_status = tasks.status_of_running("compact" if tasks.is_compacting(spec, status, logged) else None)
    return AgentView(
        name=agent.metadata.name,
        namespace=agent.metadata.namespace or "",
        **spec.given(),
        status="Running" if has_started and phase == "Pending" else phase,
        created_at=agent.metadata.creation_timestamp or "",
        priority=spec.priority,
        template_ref=spec.template_ref or None,
        task_status=task_status or None,
        last_task_message=(own.message if own and own.message else None) or status.last_task_message or None,
        last_task_outcome=None if is_busy else (own.outcome if own and own.outcome else status.last_task_outcome),
        last_task_cost_usd=usd(status.last_task_cost_usd),
        total_cost_usd=usd(status.total_cost_usd),
        total_tokens=status.total_tokens,
        model_context_window=status.model_context_window,
        last_activity_at=(own.last_at if own else None) or status.last_activity_at or None,
        completion_time=status.completion_time or None,
        task_id=tasks.current_task(spec, status, logged) if is_busy else None,
        session_id=status.session_id or None,
        instructions=spec.task.instructions if spec.task and not spec.task.kind else spec.instructions,
        labels=spec.labels or None,
        secrets=spec.secrets or None,
        office_manager=spec.office_manager or None,
        conditions=status.conditions or None,
        errors=_faults(left_out) or None,
    )


def _unreadable(manifest: Manifest) -> AgentView:
    """Return the view of an agent whose spec contains nothing that can be shown."""
    model = fields_of(manifest, "spec").get("model")
    return AgentView(
        name=manifest["metadata"]["name"],
        namespace=manifest["metadata"]["namespace"],
        model=model if isinstance(model, str) else names.DEFAULT_MODEL,
        status="Failed",
        created_at=manifest["metadata"].get("creationTimestamp") or "",
        priority=0,
        errors=_faults(["spec"]),
    )


def _faults(paths: Sequence[str]) -> list[str]:
    shown = [f"{path[:200]} is not as this version knows it, and is left out" for path in paths[:FAULTS_SHOWN]]
    return [*shown, f"and {len(paths) - FAULTS_SHOWN} more"] if len(paths) > FAULTS_SHOWN else shown


def agent_summary(manifest: Manifest, status: str | None = None) -> AgentSummary:
    """Return the short form of an agent. `status` replaces the recorded phase."""
    agent = typed(manifest)
    return AgentSummary(
        name=agent.metadata.name,
        namespace=agent.metadata.namespace or "",
        model=agent.spec.model,
        status=status or agent.status.phase or "Pending",
        created_at=agent.metadata.creation_timestamp or "",
    )
