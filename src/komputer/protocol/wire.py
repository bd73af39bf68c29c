"""What a pod and the gateway say to each other. `docs/architecture.md` tells the conversation.

    POST /v1/hello           Hello      -> Welcome      a runtime introduces itself
    GET  /v1/assignment                 -> lines of Assignment | Message | Pulse, for as long as the connection holds
    POST /v1/events          Post       -> Posted       events, in order
    POST /v1/heartbeat       Heartbeat  -> Pulse
    POST /model/v1/messages, /model/v1/messages/count_tokens      the model, with the platform's credential

Each request carries the pod's own token (`Authorization: Bearer`), which names the pod and so the agent.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from komputer.domain.agent import AgentTaskSettings, Model, Role, TaskKind
from komputer.domain.base import WireModel

FORMAT_VERSION = 1
HEARTBEAT_S = 10.0
"""Both ways. A side that hears nothing for three of them takes the connection for dead."""
BUILT_IN_TOOLS: Final = (
    "Bash",
    "Read",
    "Write",
    "Edit",
    "Glob",
    "Grep",
    "WebFetch",
    "TaskCreate",
    "TaskGet",
    "TaskList",
    "TaskUpdate",
    "TaskStop",
)
"""Of Claude's own tools all that exist for the model. No WebSearch: it runs on the model's servers. The Task tools are
its list of things to do, and TaskStop ends a background command."""

Term = Annotated[int, Field(ge=0, description="Given by the log at each hello, always growing; 0: none yet.")]
TaskIds = Annotated[list[str], Field(max_length=4096)]


class Hello(WireModel):
    """A runtime introduces itself, and says which tasks its ledger knows."""

    format_version: int = FORMAT_VERSION
    term: Annotated[Term, Field(description="Of its last hello: the ledger id under which it numbered its events.")] = 0
    tasks: TaskIds = Field(default_factory=list)


class Welcome(WireModel):
    """What the log knows. From here on the runtime numbers its events from 1, under the new term."""

    uid: str
    term: Term
    taken: Annotated[int, Field(ge=0, description="The last number that the log took under the old term.")]
    started: Annotated[TaskIds, Field(description="Of the tasks asked about: started in the log.")]
    ended: Annotated[TaskIds, Field(description="Of the tasks asked about: ended in the log.")]
    open: Annotated[TaskIds, Field(description="Every task that the log shows started and not ended.")]


class AssignedTask(WireModel):
    id: str
    instructions: str
    kind: TaskKind | None = None


class TaskSettings(AgentTaskSettings):
    """The settings of one task. A task keeps those that it began with, also when it is resumed; a change takes effect
    with the next task. A field that the other side does not know is ignored, and one that it does not send has its
    default: runtime and gateway may be of different versions."""

    model: Model
    role: Role
    connectors: list[str] = Field(default_factory=list)
    disallowed_tools: list[str] = Field(default_factory=list)


class Assignment(WireModel):
    """The whole desired state of an agent. Level-triggered: a lost or repeated one changes nothing."""

    type: Literal["assignment"] = "assignment"
    uid: str
    name: str
    namespace: str
    generation: int
    task: AssignedTask | None = None
    cancel_task_id: Annotated[str | None, Field(alias="cancelTaskID")] = None
    accounted: Annotated[TaskIds, Field(description="Tasks whose ends the status shows as counted.")] = Field(
        default_factory=list
    )
    settings: TaskSettings
    environment: Annotated[
        dict[str, str],
        Field(repr=False, description="`SECRET_…` variables for the agent's tools: secret, never logged."),
    ] = Field(default_factory=dict)
    stall_seconds: int = 300
    max_attempts: int = 5


class TaskMessage(WireModel):
    """What somebody said to the running task: a `user_message` of the agent's log. Sent at least once on each stream,
    in the order of their ids."""

    type: Literal["message"] = "message"
    id: Annotated[str, Field(description="The event's.")]
    task_id: str
    content: str


class Pulse(WireModel):
    """What the log holds of this runtime, so that it sees what the log lacks."""

    type: Literal["pulse"] = "pulse"
    term: Term
    taken: int
    ended: Annotated[TaskIds, Field(description="Of the tasks asked about: ended in the log.")] = Field(
        default_factory=list
    )


class Heartbeat(WireModel):
    term: Term
    tasks: Annotated[TaskIds, Field(description="Tasks whose ends the runtime owes.")] = Field(default_factory=list)


class NumberedEvent(WireModel):
    """An event of one of the agent's tasks. `n` counts from 1 under the present term, without a hole."""

    n: Annotated[int, Field(ge=1)]
    type: str
    payload: dict[str, Any]
    generation: Annotated[int | None, Field(description="A start carries its assignment's; a repeated one none.")] = (
        None
    )
    heard: Annotated[
        str | None,
        Field(
            pattern=r"^[0-9]{1,16}-[0-9]{1,3}$",
            description="Of an end that must not come before an answer: the last message that the model has answered, "
            "0-0 for none.",
        ),
    ] = None


class Post(WireModel):
    term: Term
    events: Annotated[list[NumberedEvent], Field(min_length=1, max_length=500)]


AppendResult = Literal["ok", "duplicate", "fenced", "hole", "ended", "started", "stale", "unheard"]


class Posted(WireModel):
    """One answer per event, in order; after the first refusal no more are tried, so there may be fewer."""

    answers: list[AppendResult]
