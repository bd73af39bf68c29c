"""The ledger: the state that a restarted runtime needs. `rules` has every decision about it, `store` keeps it on the
disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple
from uuid import NAMESPACE_URL, uuid5

from komputer.domain import money
from komputer.domain.agent import TaskKind
from komputer.domain.tasks import END_TYPES
from komputer.protocol import wire

Phase = Literal["written", "acted", "ended"]
"""The phase of the open task. `written`: the task is in the ledger. `acted`: the transcript has the prompt, and a tool
may have run. `ended`: the outbox holds the task's end."""

MESSAGE: Final = "message"
"""The cause of an attempt that only answers a message. The message arrived when the task was about to end."""

NO_MESSAGE: Final = "0-0"
"""An id that is lower than that of every message."""


class PendingMessage(NamedTuple):
    """A message to the running task: a `user_message` in the log, with its id there."""

    id: str
    content: str

    @property
    def uuid(self) -> str:
        """The uuid with which the message is sent to Claude. It is derived from the id, so that a later runtime can
        find out from the transcript whether Claude has the message."""
        return str(uuid5(NAMESPACE_URL, f"komputer:message:{self.id}"))


class Outgoing(NamedTuple):
    """An event that the log has not accepted yet. Only the first start of an assigned task carries a generation."""

    seq: int
    task_id: str
    type: str
    payload: dict[str, Any]
    generation: int | None = None

    @property
    def is_end(self) -> bool:
        return self.type in END_TYPES


@dataclass(frozen=True, kw_only=True)
class OpenTask:
    """The task that the runtime works on. It is written to the ledger before any work on it starts."""

    id: str
    instructions: str
    generation: int
    settings: wire.TaskSettings
    """The settings as they were when the task began."""
    session_id: str
    is_resuming: bool
    """Whether the session existed before this task."""
    kind: TaskKind | None = None
    prompt_uuid: str
    """The uuid of the message with the original instructions. They are not sent again once the transcript has this
    uuid."""
    started_at: float
    """Unix time in seconds."""
    phase: Phase = "written"
    attempt: int = 1
    """The number of attempts at the task, including the present one."""
    barren: int = 1
    """The number of consecutive attempts that finished no step. It includes the present attempt until a step of it has
    finished."""
    crashes: int = 0
    cause: str | None = None
    """Why the last attempt ended; None if the runtime died before it could record that."""
    spent_usd: float = 0.0
    """The cost of earlier attempts."""
    baseline_usd: float | None = None
    """The session's total cost when the present attempt began."""
    attempt_usd: float = 0.0
    """The cost of the present attempt when it was last read."""
    messages: tuple[PendingMessage, ...] = ()
    """All messages to the task, in order."""
    acked_message_id: str = NO_MESSAGE
    """The id of the last message that the model has answered."""

    @property
    def has_unanswered_message(self) -> bool:
        """Whether the model has not answered a message yet. The task must not be completed before it has."""
        return bool(self.messages) and self.messages[-1].id != self.acked_message_id

    @property
    def cost_usd(self) -> float:
        return money.number(money.amount(money.added(money.amount(self.spent_usd), money.amount(self.attempt_usd))))


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """All state that a restarted runtime finds."""

    uid: str | None = None
    """The agent's uid. The ledger of another agent is discarded."""
    term: int = 0
    seq: int = 0
    """The number of the last event under `term`."""
    generation: int = 0
    """The generation of the newest assignment."""
    session_id: str | None = None
    """The conversation that the next task continues."""
    task: OpenTask | None = None
    outbox: tuple[Outgoing, ...] = ()
    owed: Mapping[str, Outgoing] = field(default_factory=dict)
    """Ends by task id. They are in the log as far as the runtime knows, and the agent's status does not count them
    yet."""
    closed: tuple[str, ...] = ()
    """The ids of tasks that have ended, the newest last."""
    refused: tuple[str, int] | None = None
    """The task whose start the log answered with `stale`, and the generation of that start: the task may begin only
    with a newer generation. It is not written to the disk: a restarted runtime is refused once more."""


class Claim(NamedTuple):
    """The state that the log should have received from this runtime at one moment."""

    term: int
    last_seq: int
    owed: tuple[str, ...]
