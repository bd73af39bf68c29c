"""KomputerAgent: the specification that people and the API write, and the status that the operator writes."""

import hashlib
import re
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field

from komputer.domain import names
from komputer.domain.base import AGE, Condition, Decimal4, Int32, Int64, Preserved, PrinterColumn, Resource, WireModel

INSTRUCTIONS_LIMIT_BYTES = 256 * 1024
"""Maximum size of instructions in bytes. An object holds the instructions of the manifest, those of a task, and the
prompts; together they must stay below the largest object that etcd stores (1.5 MiB)."""
PROMPT_LIMIT_BYTES = 128 * 1024

EMPTY: Final[tuple[Any, ...]] = (None, "", [], 0)
"""Values of a setting that mean its default."""
Role = Literal["manager", "worker"]
Effort = Literal["low", "medium", "high", "xhigh", "max"]
TURNS_LIMIT: Final = 1_000_000
"""The largest `maxTurns`. A guess: far above what a task takes."""
TOOL_NAME: Final = r"^[A-Za-z][A-Za-z0-9_-]{0,127}(\([^\n]{0,256}\))?$"
MODEL_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]*$"
ToolName = Annotated[str, Field(pattern=TOOL_NAME, max_length=400)]
"""A tool of Claude or of a connector (`mcp__github__create_issue`), with or without a pattern (`Bash(rm:*)`)."""
Phase = Literal["Pending", "Running", "Succeeded", "Failed", "Sleeping", "Queued", "Archived"]
TaskStatus = Literal["InProgress", "Compacting", "Complete", "Error"]
Outcome = Literal["completed", "cancelled", "error"]
TaskKind = Literal["compact"]
"""The kinds of tasks. A task without a kind is a text for the model. `compact` summarises the conversation; its
instructions are the `/compact` command."""

TASK_ID: Final = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
"""A ULID: the id of every task."""
TaskID = Annotated[str, Field(pattern=f"^{TASK_ID.pattern}$", description="ULID of a task.")]
Digest = Annotated[
    str, Field(pattern=r"^[0-9a-f]{32}$", description="Digest of spec.instructions: 32 hex digits of SHA-256.")
]
Model = Annotated[str, Field(min_length=1, max_length=256, pattern=MODEL_NAME)]
MODEL_ALIASES: Final = frozenset({"best", "default", "fable", "haiku", "inherit", "opus", "opusplan", "sonnet"})
"""Aliases that Claude Code accepts, also with `[1m]`, and the Messages API does not. Their meaning changes between
releases, so they are not resolved: a model is named by its id."""
Instructions = Annotated[str, Field(min_length=1, max_length=INSTRUCTIONS_LIMIT_BYTES)]


def digest_of(instructions: str) -> str:
    """Return the digest of a manifest's instructions: 32 hex digits of SHA-256."""
    return hashlib.sha256(instructions.encode()).hexdigest()[:32]


def is_model_alias(model: str) -> bool:
    """Return whether this is an alias of a model, not its id."""
    return model.lower().removesuffix("[1m]") in MODEL_ALIASES


class Covers(WireModel):
    """The state of the manifest when the API assigned a task: these instructions are not run after the task."""

    digest: Digest
    manifest_task_id: Annotated[TaskID | None, Field(alias="manifestTaskID")] = None


class Task(WireModel):
    """A task that the API assigned."""

    id: TaskID
    instructions: Annotated[Instructions, Field(description="What to do, or the command of a task of another kind.")]
    covers: Covers
    kind: Annotated[
        TaskKind | None,
        Field(description="compact: summarise the conversation. Without it the instructions are a text for the model."),
    ] = None
    manager_task_id: Annotated[
        TaskID | None, Field(alias="managerTaskID", description="The manager's task that gave this one.")
    ] = None


class Storage(WireModel):
    """The disk of an agent."""

    size: Annotated[
        str,
        Field(
            description="Size of the disk, as a Kubernetes quantity such as 5Gi.",
            pattern=r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$",
        ),
    ] = "5Gi"
    storage_class_name: Annotated[
        str | None, Field(description="StorageClass of the disk; without it the cluster's default.")
    ] = None


class AgentTaskSettings(WireModel):
    """The settings of an agent's tasks, all of them optional. A setting is declared here and nowhere else.

    Everything that carries settings inherits from this class, so that a new field is part of the resource definition
    (`AgentSpec`), of the request and response bodies of the REST API, of the assignment that a runtime receives
    (`protocol.wire.TaskSettings`), of what managers pass on to their agents, and of the generated reference pages. The
    runtime acts on it in `runtime/claude/options.py`. Subclasses override a field only to narrow its type or to give it
    a default.

    An empty value (None, "", [] or 0) always means the default, so that a client can clear a setting.
    """

    model: Annotated[Model | None, Field(description="Name of the Claude model that works on the agent's tasks.")] = (
        None
    )
    role: Annotated[Role | None, Field(description="A manager may have agents of its own; a worker has none.")] = None
    system_prompt: Annotated[
        str | None,
        Field(max_length=PROMPT_LIMIT_BYTES, description="Text that is put before the built-in prompt of the role."),
    ] = None
    connectors: Annotated[
        list[str] | None, Field(max_length=64, description="Names of KomputerConnectors of this namespace.")
    ] = None
    allowed_tools: Annotated[
        list[ToolName] | None,
        Field(
            max_length=256, description="Tools that exist for the agent, such as Bash or mcp__github; without it, all."
        ),
    ] = None
    disallowed_tools: Annotated[
        list[ToolName] | None,
        Field(max_length=256, description="Tools that the agent does not have; wins over allowedTools."),
    ] = None
    effort: Annotated[Effort | None, Field(description="How much the model thinks.")] = None
    max_turns: Annotated[
        int | None,
        Field(
            ge=0,
            le=TURNS_LIMIT,
            description="Turns that the model may take before the task ends with the error max_turns. Counted again "
            "for each message to the task, and after a crash. Without it or 0: no limit.",
            json_schema_extra={"format": "int32"},
        ),
    ] = None

    def given(self) -> dict[str, Any]:
        """Return the settings that have a value, by their names on the wire."""
        return {
            info.alias or name: value
            for name, info in AgentTaskSettings.model_fields.items()
            if (value := getattr(self, name)) not in EMPTY
        }


class AgentSpec(AgentTaskSettings):
    """The desired state. `instructions` belong to the author of the manifest, `task` and `cancelTaskID` to the API."""

    instructions: Annotated[Instructions, Field(description="What to do: a new task each time that this text changes.")]
    template_ref: Annotated[
        str,
        Field(description="Template of the agent's pods: one of the namespace, else a cluster template."),
    ] = names.DEFAULT_TEMPLATE
    model: Annotated[Model, Field(description="Name of the Claude model that works on the agent's tasks.")] = (
        names.DEFAULT_MODEL
    )
    role: Annotated[Role, Field(description="A manager may have agents of its own; a worker has none.")] = "manager"
    internal_system_prompt: Annotated[
        str | None, Field(description="For older manifests. Not used: the platform composes the prompt of the role.")
    ] = None
    secrets: Annotated[
        list[str] | None,
        Field(max_length=64, description="Names of Secrets of this namespace; SECRET_<NAME>_<KEY> for the tools."),
    ] = None
    skills: Annotated[list[str] | None, Field(description="Names of skills. No effect yet.")] = None
    memories: Annotated[list[str] | None, Field(description="Names of memories. No effect yet.")] = None
    lifecycle: Annotated[
        Literal["", "Sleep", "AutoDelete", "Archive"] | None,
        Field(
            description="What becomes of the agent after a task: nothing, Sleep, AutoDelete or Archive. No effect yet."
        ),
    ] = None
    office_manager: Annotated[
        str | None, Field(description="Name of the manager that made the agent; empty where a person did.")
    ] = None
    priority: Annotated[
        Int32, Field(description="Place in the queue of a template's agents; higher comes first. No effect yet.")
    ] = 0
    pod_spec: Annotated[
        Preserved | None, Field(description="Changes to the template's PodSpec for this agent. No effect yet.")
    ] = None
    storage: Annotated[
        Storage | None, Field(description="Disk of this agent instead of the template's. No effect yet.")
    ] = None
    labels: Annotated[
        dict[str, str] | None, Field(description="Labels for the agent, its pod and its disk; clients filter by them.")
    ] = None
    secrets_uid: Annotated[
        str | None,
        Field(
            alias="secretsUID",
            max_length=64,
            description="Set by the API: uid of the agent's own Secret, whose keys are SECRET_<KEY> for the tools.",
        ),
    ] = None
    task: Annotated[Task | None, Field(description="Set by the API: the task that it assigned last.")] = None
    cancel_task_id: Annotated[
        TaskID | None, Field(alias="cancelTaskID", description="Set by the API: the task that is to be cancelled.")
    ] = None


class ManifestTask(WireModel):
    """The task that the present instructions of the manifest are, with the id that the operator has given it."""

    digest: Digest
    id: TaskID


class AgentStatus(WireModel):
    """The observed state. Only the operator writes it."""

    phase: Annotated[
        Phase | None,
        Field(description="State of the agent and its pod."),
    ] = None
    message: Annotated[str | None, Field(description="Why the agent is in its phase, as a sentence for people.")] = None
    observed_generation: Annotated[
        Int64 | None, Field(description="metadata.generation that the operator last acted on.")
    ] = None
    conditions: Annotated[
        list[Condition],
        Field(
            description="What holds for the agent now, and why; one entry of each type.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = Field(default_factory=list)
    pod_name: Annotated[str | None, Field(description="Name of the agent's pod.")] = None
    pvc_name: Annotated[str | None, Field(description="Name of the PersistentVolumeClaim of the agent's disk.")] = None
    start_time: Annotated[
        str | None, Field(description="When the agent's pod started.", json_schema_extra={"format": "date-time"})
    ] = None
    completion_time: Annotated[
        str | None, Field(description="When the last task ended.", json_schema_extra={"format": "date-time"})
    ] = None
    task_status: Annotated[
        TaskStatus | None,
        Field(description="State of the task that runs or ran last: InProgress, Compacting, Complete or Error."),
    ] = None
    last_task_message: Annotated[
        str | None, Field(description="Newest line of what the agent has said or done, up to 200 characters.")
    ] = None
    last_task_id: Annotated[str | None, Field(description="ID of the task that ended last.", alias="lastTaskID")] = None
    last_task_outcome: Annotated[
        Outcome | None, Field(description="How the last task ended: completed, cancelled or error.")
    ] = None
    last_activity_at: Annotated[str | None, Field(description="Time of the agent's newest event, RFC 3339 in UTC.")] = (
        None
    )
    session_id: Annotated[
        str | None, Field(description="ID of the Claude conversation that the next task continues.")
    ] = None
    last_task_cost_usd: Annotated[
        Decimal4 | None,
        Field(
            description="Cost of the last task in US dollars, with at least four fraction digits.",
            alias="lastTaskCostUSD",
        ),
    ] = None
    total_cost_usd: Annotated[
        Decimal4 | None,
        Field(
            description="Cost of all ended tasks in US dollars, with at least four fraction digits.",
            alias="totalCostUSD",
        ),
    ] = None
    total_tokens: Annotated[Int64 | None, Field(description="Tokens in the conversation after the last turn.")] = None
    model_context_window: Annotated[
        Int64 | None, Field(description="Size of the model's context window in tokens.")
    ] = None
    manifest_task: ManifestTask | None = None
    ended_tasks: Annotated[
        list[TaskID], Field(description="Accounted tasks, the newest last; those that spec and status name are kept.")
    ] = Field(default_factory=list)
    last_event_id: Annotated[
        str | None,
        Field(alias="lastEventID", description="The newest event that is accounted."),
    ] = None
    queue_position: Annotated[
        Int32 | None, Field(description="Place in the queue for a pod, 1 first. Not set yet.")
    ] = None
    queue_reason: Annotated[str | None, Field(description="Why the agent waits in the queue. Not set yet.")] = None
    squad: Annotated[bool | None, Field(description="Whether the agent shares the pod of a squad. Not set yet.")] = None
    port: Annotated[Int32 | None, Field(description="For older versions. Not set: pods have no inbound port.")] = None


class Agent(Resource):
    """A persistent Claude agent: a pod, a disk, a conversation."""

    kind_name: ClassVar[str] = "KomputerAgent"
    plural: ClassVar[str] = "komputeragents"
    columns: ClassVar[tuple[PrinterColumn, ...]] = (
        PrinterColumn(name="Phase", type="string", json_path=".status.phase"),
        PrinterColumn(name="Task", type="string", json_path=".status.taskStatus"),
        PrinterColumn(name="Model", type="string", json_path=".spec.model"),
        PrinterColumn(name="Cost", type="string", json_path=".status.totalCostUSD"),
        PrinterColumn(name="Queue", type="integer", json_path=".status.queuePosition", priority=1),
        PrinterColumn(name="Message", type="string", json_path=".status.lastTaskMessage", priority=1),
        PrinterColumn(name="Pod", type="string", json_path=".status.podName", priority=1),
        PrinterColumn(name="Connectors", type="string", json_path=".spec.connectors", priority=1),
        AGE,
    )
    ignored_fields: ClassVar[tuple[str, ...]] = (
        "internal_system_prompt",
        "memories",
        "skills",
        "lifecycle",
        "pod_spec",
        "priority",
        "storage",
    )

    spec: AgentSpec
    status: AgentStatus = Field(default_factory=AgentStatus)
