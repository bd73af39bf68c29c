"""How an agent looks to clients: the resource's status, made newer by the log's live hash. Pure."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import orjson
from pydantic import ValidationError

from komputer.domain import names, tasks
from komputer.domain.agent import Agent
from komputer.domain.base import Manifest, fields_of
from komputer.domain.errors import Conflict
from komputer.events.entries import task_of
from komputer.events.log import Live

FAULTS_SHOWN: Final = 20
"""Of one agent, in `errors`."""


def typed(manifest: Manifest) -> Agent:
    """The agent, to decide on. Raises `Conflict` (`agent_unreadable`) for one that was written past our checks."""
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
    """Of all ended tasks, in US dollars."""
    try:
        return Decimal(Agent.salvaged(manifest)[0].status.total_cost_usd or 0)
    except ValidationError:
        return Decimal(0)


def usd(amount: str | None) -> str | None:
    """A decimal with four fraction digits or more, whoever has written it."""
    if amount is None:
        return None
    number = Decimal(amount)
    exponent = number.as_tuple().exponent
    return f"{number:.{max(4, -exponent if isinstance(exponent, int) else 4)}f}"


def agent_body(manifest: Manifest, live: Live | None) -> dict[str, Any]:
    """AgentResponse. Fields without a value are left out; costs are decimal strings. Of an agent that was written past
    our checks what can be shown, and `errors`."""
    try:
        agent, left_out = Agent.salvaged(manifest)
    except ValidationError:
        return _unreadable(manifest)
    spec, status = agent.spec, agent.status
    mine = live if live and live.uid == agent.metadata.uid else None
    logged = task_of(live, agent.metadata.uid)
    busy = tasks.is_busy(spec, status, logged)
    phase = status.phase or "Pending"
    # A task that has started runs in a pod, also where the kubelet has not said so yet.
    is_open = tasks.open_task(status, logged) is not None
    task_status = mine.task_status if mine and mine.task_status else status.task_status
    if busy:
        kind = "compact" if tasks.is_compacting(spec, status, logged) else None
        task_status = tasks.status_of_running(kind)
    body: dict[str, Any] = {
        "name": agent.metadata.name,
        "namespace": agent.metadata.namespace,
        **spec.given(),
        "status": "Running" if is_open and phase == "Pending" else phase,
        "createdAt": agent.metadata.creation_timestamp,
        "priority": spec.priority,
        "templateRef": spec.template_ref,
        "taskStatus": task_status,
        "lastTaskMessage": (mine.message if mine and mine.message else None) or status.last_task_message,
        "lastTaskOutcome": None if busy else (mine.outcome if mine and mine.outcome else status.last_task_outcome),
        "lastTaskCostUSD": usd(status.last_task_cost_usd),
        "totalCostUSD": usd(status.total_cost_usd),
        "totalTokens": status.total_tokens,
        "modelContextWindow": status.model_context_window,
        "lastActivityAt": (mine.last_at if mine else None) or status.last_activity_at,
        "completionTime": status.completion_time,
        "taskID": tasks.current_task(spec, status, logged),
        "sessionId": status.session_id,
        "instructions": spec.task.instructions if spec.task and not spec.task.kind else spec.instructions,
        "labels": spec.labels,
        "secrets": spec.secrets,
        "officeManager": spec.office_manager,
        "conditions": [condition.to_wire() for condition in status.conditions],
        "errors": _faults(left_out),
    }
    return {key: value for key, value in body.items() if value not in (None, "", [], {})} | {"priority": spec.priority}


def _unreadable(manifest: Manifest) -> dict[str, Any]:
    """Of an agent whose spec says nothing that could be shown."""
    model = fields_of(manifest, "spec").get("model")
    return {
        "name": manifest["metadata"]["name"],
        "namespace": manifest["metadata"]["namespace"],
        "model": model if isinstance(model, str) else names.DEFAULT_MODEL,
        "status": "Failed",
        "createdAt": manifest["metadata"].get("creationTimestamp"),
        "priority": 0,
        "errors": _faults(["spec"]),
    }


def _faults(paths: Sequence[str]) -> list[str]:
    told = [f"{path[:200]} is not as this version knows it, and is left out" for path in paths[:FAULTS_SHOWN]]
    return [*told, f"and {len(paths) - FAULTS_SHOWN} more"] if len(paths) > FAULTS_SHOWN else told


def created_body(manifest: Manifest, status: str | None = None) -> dict[str, Any]:
    """The short answer to `POST /agents`."""
    agent = typed(manifest)
    return {
        "name": agent.metadata.name,
        "namespace": agent.metadata.namespace,
        "model": agent.spec.model,
        "status": status or agent.status.phase or "Pending",
        "createdAt": agent.metadata.creation_timestamp,
    }


def encoded(body: dict[str, Any]) -> bytes:
    return orjson.dumps(body)
