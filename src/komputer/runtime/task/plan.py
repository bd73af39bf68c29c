"""Decides how the next attempt at an open task starts. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Final

from komputer.backoff import Backoff
from komputer.events.schema import End
from komputer.protocol import wire
from komputer.runtime.claude.tools import both_allow
from komputer.runtime.ledger.ledger import MESSAGE, OpenTask, PendingMessage
from komputer.runtime.task.ending import compacted, given_up, no_conversation, session_lost

BACKOFF: Final = Backoff(1.0, 30.0)
"""The pauses after attempts without progress."""

CAUSES: Final = {
    "claude_died": "the Claude process ended unexpectedly",
    "session_refused": "the conversation could not be opened",
    "shutdown": "the platform was shut down or the agent was moved",
    "runtime_died": "the agent's process ended unexpectedly",
}
"""The reason that the prompt of a resumed task gives to the model, by the cause in `task_resumed`."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A task as the transcript records it."""

    has_file: bool
    has_conversation: bool
    has_prompt: bool
    messages: frozenset[str] = frozenset()
    """The ids of messages that Claude has recorded."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """The start of an attempt. With `resume` the session exists; otherwise Claude creates a session with that id."""

    prompt: str
    prompt_uuid: str
    session_id: str
    resume: bool
    given: frozenset[str] = frozenset()
    """The ids of messages to the task that Claude has, including the prompt if that is one of them."""


def permitted(assignment: wire.Assignment, task: OpenTask) -> tuple[wire.Assignment, OpenTask]:
    """Return the assignment and the task, both restricted to what is permitted now.

    The agent can write the ledger. So a resumed task gets no tool that the agent may not use now, and a task that is
    not the assigned one gets no secrets.
    """
    is_assigned = assignment.task is not None and assignment.task.id == task.id
    if not is_assigned:
        assignment = assignment.model_copy(update={"environment": {}})
    now = assignment.settings
    settings = task.settings.model_copy(
        update={
            "role": now.role if task.settings.role == "manager" else task.settings.role,
            "allowed_tools": both_allow(task.settings.allowed_tools, now.allowed_tools),
            "disallowed_tools": list(dict.fromkeys((*task.settings.disallowed_tools, *now.disallowed_tools))),
        }
    )
    return assignment, replace(task, settings=settings)


def unsent_messages(task: OpenTask, given: Collection[str]) -> list[PendingMessage]:
    """Return the messages that Claude does not have yet, in order."""
    return [message for message in task.messages if message.id not in given]


def first(task: OpenTask) -> Start:
    return Start(
        prompt=task.instructions, prompt_uuid=task.prompt_uuid, session_id=task.session_id, resume=task.is_resuming
    )


def again(task: OpenTask, recorded: Recorded, max_attempts: int, new_id: str, now: float) -> Start | End:
    """Return the start of the attempt that follows another one, or the task's end. The original instructions are sent
    again only if Claude has not recorded them.

    `new_id` is a new UUID, for a message or a session. `now` is Unix time in seconds.
    """
    if end := given_up(task, max_attempts):
        return end
    given = recorded.messages
    if task.kind == "compact" and recorded.has_prompt:
        return compacted(task, now)
    if task.kind == "compact" and not recorded.has_conversation:
        return no_conversation(task)
    if recorded.has_prompt:
        prompt, prompt_uuid = interrupted(task.cause), new_id
        if task.cause == MESSAGE and (unsent := unsent_messages(task, given)):
            prompt, prompt_uuid, given = unsent[0].content, unsent[0].uuid, given | {unsent[0].id}
        return Start(prompt=prompt, prompt_uuid=prompt_uuid, session_id=task.session_id, resume=True, given=given)
    if task.phase == "acted":
        return session_lost(task)
    if recorded.has_conversation and task.cause != "session_refused":
        return Start(prompt=task.instructions, prompt_uuid=task.prompt_uuid, session_id=task.session_id, resume=True)
    is_free = not recorded.has_file and task.cause != "session_refused"
    session_id = task.session_id if is_free else new_id
    return Start(prompt=task.instructions, prompt_uuid=task.prompt_uuid, session_id=session_id, resume=False)


def pause_s(task: OpenTask) -> float:
    """Return the pause before the next attempt: 1, 2, 4 … seconds after attempts without progress."""
    return 0.0 if task.cause == "session_refused" else BACKOFF.delay_s(task.barren)


def costs_before(task: OpenTask, session_id: str, baseline_usd: float) -> dict[str, Any]:
    """Return the open task's cost fields when an attempt begins and the session's total is `baseline_usd`.

    The cost of the previous attempt is the last one that was read, or the one that Claude has recorded if that is more.
    """
    attempt_usd = task.attempt_usd
    if task.baseline_usd is not None and session_id == task.session_id:
        attempt_usd = max(attempt_usd, baseline_usd - task.baseline_usd)
    return {"spent_usd": task.spent_usd + attempt_usd, "attempt_usd": 0.0, "baseline_usd": baseline_usd}


def interrupted(cause: str | None) -> str:
    """Return the prompt with which an interrupted conversation continues."""
    if cause == MESSAGE:
        return "Somebody wrote to you when you had just finished. Answer to it, then end the task."
    reason = CAUSES.get(cause or "", CAUSES["runtime_died"])
    return (
        f"Your work on this task was interrupted: {reason}. Nobody is waiting for an answer to this message.\n\n"
        "The conversation above and the files in your workspace are as they were. A command that was running may or "
        "may not have taken effect, processes that you had started are gone, and your home directory is empty. Check "
        "the present state where it matters, then go on with the task from where you were; do not start over."
    )
