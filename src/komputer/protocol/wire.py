"""Messages between an agent's runtime and the gateway. `docs/architecture.md` describes the conversation.

    POST /v1/hello           Hello      -> Welcome      a runtime introduces itself
    GET  /v1/assignment                 -> lines of Assignment | TaskMessage | Pulse, until the connection closes
    POST /v1/events          Post       -> Posted       events, in order
    POST /v1/heartbeat       Heartbeat  -> Pulse
    POST /model/v1/messages, /model/v1/messages/count_tokens      the model, with the platform's credential

Each request carries the pod's own token (`Authorization: Bearer`), which identifies the pod and so the agent.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, computed_field, field_serializer

from komputer.domain.agent import AgentTaskSettings, Model, Role, TaskKind
from komputer.domain.base import WireModel
from komputer.protocol import older

FORMAT_VERSION = 2
HEARTBEAT_S = 10.0
"""Seconds between heartbeats, in both directions. A side that receives nothing for three intervals considers the
connection dead."""
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
"""Claude's own tools that the model can use. WebSearch is not among them: it runs on the model's servers. The Task
tools maintain a to-do list, and TaskStop ends a background command."""

Term = Annotated[int, Field(ge=0, description="Issued by the log at each hello, always growing; 0: none yet.")]
TaskIds = Annotated[list[str], Field(max_length=4096)]
MessageId = Annotated[str, Field(pattern=r"^[0-9]{1,16}-[0-9]{1,3}$")]


class Hello(WireModel):
    """A runtime introduces itself and lists the tasks in its ledger."""

    format_version: Annotated[
        int,
        Field(description="The oldest format that this runtime works with. An older gateway refuses the hello."),
    ] = older.FORMAT
    term: Annotated[Term, Field(description="The term of its last hello, under which it numbered its events.")] = 0
    tasks: TaskIds = Field(default_factory=list)


class _LastSeq(WireModel):
    """Base of the messages with `lastSeq`, the number up to which the log holds a runtime's events. `older` has its
    former name."""

    last_seq: Annotated[
        int,
        Field(
            ge=0,
            validation_alias=older.LAST_SEQ,
            serialization_alias="lastSeq",
            description="The last number that the log accepted under a term.",
        ),
    ]

    @computed_field
    def taken(self) -> int:
        """The value of `last_seq` under its name in format 1."""
        return self.last_seq


class Welcome(_LastSeq):
    """The log's view of the runtime. The runtime now numbers its events from 1 under the new term; `last_seq` refers to
    the old term."""

    uid: str
    term: Term
    started: Annotated[TaskIds, Field(description="Tasks of the hello that have started in the log.")]
    ended: Annotated[TaskIds, Field(description="Tasks of the hello that have ended in the log.")]
    open: Annotated[TaskIds, Field(description="Every task that has started and not ended in the log.")]


class AssignedTask(WireModel):
    """The task that the runtime is to run."""

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
    """The whole desired state of an agent. Level-triggered: it does no harm if one is lost or repeated."""

    type: Literal["assignment"] = "assignment"
    uid: str
    name: str
    namespace: str
    generation: int
    task: AssignedTask | None = None
    cancel_task_id: Annotated[str | None, Field(alias="cancelTaskID")] = None
    accounted: Annotated[TaskIds, Field(description="Tasks whose ends the status has accounted for.")] = Field(
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
    """A message to the running task: a `user_message` of the agent's log. Sent at least once on each stream, in the
    order of the ids."""

    type: Literal["message"] = "message"
    id: Annotated[str, Field(description="The id of the event.")]
    task_id: str
    content: str


class Pulse(_LastSeq):
    """The log's view of a runtime, by which the runtime detects that the log has lost events."""

    type: Literal["pulse"] = "pulse"
    term: Term
    ended: Annotated[TaskIds, Field(description="Tasks of the heartbeat that have ended in the log.")] = Field(
        default_factory=list
    )


class Heartbeat(WireModel):
    """A sign of life of a runtime. The answer is a `Pulse`."""

    term: Term
    tasks: Annotated[TaskIds, Field(description="Ended tasks that the status has not accounted for yet.")] = Field(
        default_factory=list
    )


class NumberedEvent(WireModel):
    """An event of one of the agent's tasks, as the runtime numbered it."""

    seq: Annotated[
        int,
        Field(
            ge=1,
            validation_alias=older.SEQ,
            serialization_alias="seq",
            description="Counts from 1 under the present term, without a gap.",
        ),
    ]
    type: str
    payload: dict[str, Any]
    generation: Annotated[
        int | None, Field(description="The assignment's, for a start. None for a start that is repeated.")
    ] = None
    acked_message_id: Annotated[
        MessageId | None,
        Field(
            validation_alias=older.ACKED_MESSAGE_ID,
            serialization_alias="ackedMessageId",
            description="For a completion: the last message to the task that the model has answered; 0-0 for none. The "
            "log refuses the completion if there is a newer message.",
        ),
    ] = None


class Post(WireModel):
    """Events of a runtime, in order, all numbered under one term."""

    format_version: Annotated[int, Field(description="The format of the answers that the sender understands.")] = (
        older.FORMAT
    )
    term: Term
    events: Annotated[list[NumberedEvent], Field(min_length=1, max_length=500)]


AppendResult = Literal["ok", "duplicate", "fenced", "gap", "ended", "started", "stale", "unacknowledged"]


class Posted(WireModel):
    """The result of a post: one answer per event, in order. Events after the first refusal are not processed, so there
    may be fewer answers than events."""

    answers: list[Annotated[AppendResult, BeforeValidator(older.present_answer)]]
    format_version: Annotated[int, Field(exclude=True, description="The format in which the answers are written.")] = (
        FORMAT_VERSION
    )

    @field_serializer("answers")
    def _words(self, answers: list[AppendResult]) -> list[str]:
        return [older.answer(each, self.format_version) for each in answers]
