"""KomputerAgent: what a person asks for, what the operator saw, and which task is wanted now."""

import hashlib
from collections.abc import Collection
from enum import Enum
from typing import Annotated, ClassVar, Final, Literal, NamedTuple

from pydantic import Field

from komputer.resources import names
from komputer.resources.base import AGE, Column, Condition, Decimal4, Int32, Int64, Part, Preserved, Resource

INSTRUCTIONS_LIMIT_BYTES = 256 * 1024
"""Below what etcd takes for an object (1.5 MiB), with room for the manifest's and a task's text and the prompts."""
PROMPT_LIMIT_BYTES = 128 * 1024

Role = Literal["manager", "worker"]
Effort = Literal["low", "medium", "high", "xhigh", "max"]
ToolName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,127}(\([^\n]{0,256}\))?$", max_length=400)]
"""A tool of Claude's or of a connector (`mcp__github__create_issue`), with or without a pattern (`Bash(rm:*)`)."""
Phase = Literal["Pending", "Running", "Succeeded", "Failed", "Sleeping", "Queued", "Archived"]
TaskStatus = Literal["InProgress", "Compacting", "Complete", "Error"]
Outcome = Literal["completed", "cancelled", "error"]
TaskKind = Literal["compact"]
"""Of tasks that are no text for the model: `compact` summarises the conversation; its instructions are the command."""

TaskID = Annotated[str, Field(pattern=r"^[0-9A-HJKMNP-TV-Z]{26}$", description="A ULID.")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="Of spec.instructions.")]
Model = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]*$")]
MODEL_ALIASES: Final = frozenset({"best", "default", "fable", "haiku", "inherit", "opus", "opusplan", "sonnet"})
"""Words that Claude Code understands, also with `[1m]`, and the Messages API does not. What they stand for changes
with releases, so nobody resolves them: a model is named by its id."""
Instructions = Annotated[str, Field(min_length=1, max_length=INSTRUCTIONS_LIMIT_BYTES)]


def digest_of(instructions: str) -> str:
    """32 hex digits that stand for a manifest's instructions."""
    return hashlib.sha256(instructions.encode()).hexdigest()[:32]


def is_model_alias(model: str) -> bool:
    """Whether this is a word for a model and no id of one."""
    return model.lower().removesuffix("[1m]") in MODEL_ALIASES


class Covers(Part):
    """What of the manifest the API had seen when it assigned a task: that much is not to be run after it."""

    digest: Digest
    manifest_task_id: Annotated[TaskID | None, Field(alias="manifestTaskID")] = None


class Task(Part):
    """A task that the API assigned."""

    id: TaskID
    instructions: Instructions
    covers: Covers
    kind: TaskKind | None = None
    manager_task_id: Annotated[
        TaskID | None, Field(alias="managerTaskID", description="The manager's task that gave this one.")
    ] = None


class Storage(Part):
    """The agent's disk."""

    size: Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$")] = "5Gi"
    storage_class_name: str | None = None


class AgentSpec(Part):
    """What is wanted. `instructions` belong to the manifest, `task` and `cancelTaskID` to the API."""

    instructions: Annotated[Instructions, Field(description="What to do: a new task each time that this text changes.")]
    template_ref: str = names.DEFAULT_TEMPLATE
    model: Model = names.DEFAULT_MODEL
    role: Annotated[Role, Field(description="A manager may have agents of its own; a worker has none.")] = "manager"
    internal_system_prompt: str | None = None
    system_prompt: Annotated[
        str | None, Field(max_length=PROMPT_LIMIT_BYTES, description="Put before the built-in prompt of the role.")
    ] = None
    secrets: Annotated[
        list[str] | None,
        Field(max_length=64, description="Names of Secrets of this namespace; SECRET_<NAME>_<KEY> for the tools."),
    ] = None
    skills: list[str] | None = None
    memories: list[str] | None = None
    connectors: Annotated[
        list[str] | None, Field(max_length=64, description="Names of KomputerConnectors of this namespace.")
    ] = None
    allowed_tools: Annotated[
        list[ToolName] | None, Field(max_length=256, description="What exists for the agent; without it, all tools.")
    ] = None
    disallowed_tools: Annotated[
        list[ToolName] | None, Field(max_length=256, description="What does not; it wins over allowedTools.")
    ] = None
    effort: Annotated[Effort | None, Field(description="How much the model thinks.")] = None
    lifecycle: Literal["", "Sleep", "AutoDelete", "Archive"] | None = None
    office_manager: str | None = None
    priority: Int32 = 0
    pod_spec: Preserved | None = None
    storage: Storage | None = None
    labels: dict[str, str] | None = None
    secrets_uid: Annotated[
        str | None,
        Field(
            alias="secretsUID", max_length=64, description="Set by the API: of the agent's own Secret, SECRET_<KEY>."
        ),
    ] = None
    task: Annotated[Task | None, Field(description="Set by the API: the task that it assigned last.")] = None
    cancel_task_id: Annotated[
        TaskID | None, Field(alias="cancelTaskID", description="Set by the API: the task that is to be cancelled.")
    ] = None


class ManifestTask(Part):
    """The id that the operator gave to the task which the manifest's present instructions are."""

    digest: Digest
    id: TaskID


class AgentStatus(Part):
    """What the operator saw and counted. Nobody else writes it."""

    phase: Phase | None = None
    message: str | None = None
    observed_generation: Int64 | None = None
    conditions: Annotated[
        list[Condition],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = Field(default_factory=list)
    pod_name: str | None = None
    pvc_name: str | None = None
    start_time: Annotated[str | None, Field(json_schema_extra={"format": "date-time"})] = None
    completion_time: Annotated[str | None, Field(json_schema_extra={"format": "date-time"})] = None
    task_status: TaskStatus | None = None
    last_task_message: str | None = None
    last_task_id: Annotated[str | None, Field(alias="lastTaskID")] = None
    last_task_outcome: Outcome | None = None
    last_activity_at: str | None = None
    session_id: str | None = None
    last_task_cost_usd: Annotated[Decimal4 | None, Field(alias="lastTaskCostUSD")] = None
    total_cost_usd: Annotated[Decimal4 | None, Field(alias="totalCostUSD")] = None
    total_tokens: Int64 | None = None
    model_context_window: Int64 | None = None
    manifest_task: ManifestTask | None = None
    ended_tasks: Annotated[
        list[TaskID], Field(description="Accounted tasks, the newest last; those that spec and status name are kept.")
    ] = Field(default_factory=list)
    last_event_id: Annotated[
        str | None,
        Field(alias="lastEventID", description="The newest event that is accounted."),
    ] = None
    queue_position: Int32 | None = None
    queue_reason: str | None = None
    squad: bool | None = None
    port: Int32 | None = None


class Agent(Resource):
    """A persistent Claude agent: a pod, a disk, a conversation."""

    kind_name: ClassVar[str] = "KomputerAgent"
    plural: ClassVar[str] = "komputeragents"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(name="Phase", type="string", json_path=".status.phase"),
        Column(name="Task", type="string", json_path=".status.taskStatus"),
        Column(name="Model", type="string", json_path=".spec.model"),
        Column(name="Cost", type="string", json_path=".status.totalCostUSD"),
        Column(name="Queue", type="integer", json_path=".status.queuePosition", priority=1),
        Column(name="Message", type="string", json_path=".status.lastTaskMessage", priority=1),
        Column(name="Pod", type="string", json_path=".status.podName", priority=1),
        Column(name="Connectors", type="string", json_path=".spec.connectors", priority=1),
        AGE,
    )

    spec: AgentSpec
    status: AgentStatus = Field(default_factory=AgentStatus)


class Wanted(NamedTuple):
    """A task that is to be run now."""

    id: str
    instructions: str
    kind: TaskKind | None = None


class Unrecorded(Enum):
    """The manifest's task has no id yet: the operator will give it one. The agent counts as busy meanwhile."""

    YES = "unrecorded"


def wanted(spec: AgentSpec, status: AgentStatus, ended: Collection[str] = ()) -> Wanted | Unrecorded | None:
    """Which task is to be run now, or None.

    `ended` are ids of tasks that the log says have ended; those that the status names are added here. The API's task
    is wanted until it has ended, whatever the manifest says meanwhile (rule `sticky`); then the manifest's, unless
    that has ended or the API's task covers it.
    """
    over = {*ended, *status.ended_tasks}
    task, recorded = spec.task, status.manifest_task
    if task and task.id not in over:
        return Wanted(task.id, task.instructions, task.kind)
    if recorded is None or recorded.digest != digest_of(spec.instructions):
        return Unrecorded.YES
    if task and recorded.id in (task.id, task.covers.manifest_task_id):
        return None
    return None if recorded.id in over else Wanted(recorded.id, spec.instructions)


def may_start(spec: AgentSpec, status: AgentStatus, task_id: str) -> bool:
    """Whether an agent's runtime may begin this task now: it is the one that is wanted."""
    task = wanted(spec, status)
    return isinstance(task, Wanted) and task.id == task_id


def is_given(spec: AgentSpec, status: AgentStatus, task_id: str) -> bool:
    """Whether the platform has given this task to the agent, and not accounted its end: also one that is no longer
    wanted, which a runtime that has begun it finishes."""
    given = {spec.task and spec.task.id, status.manifest_task and status.manifest_task.id}
    return task_id in given and task_id not in status.ended_tasks


class LiveTask(NamedTuple):
    """What the log's live hash says of the newest task that it saw."""

    id: str | None
    has_ended: bool


def is_idle(spec: AgentSpec, status: AgentStatus, live: LiveTask) -> bool:
    """Whether a new task may be assigned: nothing is wanted, and the log shows no open task (rule `open`)."""
    if live.id and not live.has_ended and live.id not in status.ended_tasks:
        return False
    return wanted(spec, status, [live.id] if live.id and live.has_ended else []) is None


def tasks_named(spec: AgentSpec, status: AgentStatus) -> set[str]:
    """Ids that spec and status name: these are never dropped from `status.endedTasks` (rule `memory`)."""
    found = {spec.cancel_task_id, status.manifest_task and status.manifest_task.id}
    if spec.task:
        found |= {spec.task.id, spec.task.covers.manifest_task_id}
    return {name for name in found if name}


NOT_BUILT = ("memories", "skills", "lifecycle", "podSpec", "priority", "storage")
"""Fields that manifests of the published CRD may carry and that have no effect yet: a condition names them."""
