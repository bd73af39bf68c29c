"""With what the next attempt at an open task begins. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from komputer.events.types import TaskFailed
from komputer.runtime.ending import given_up, message_lost, session_lost
from komputer.runtime.ledger import Heard, OpenTask

LONGEST_PAUSE_S: Final = 30.0

CAUSES: Final = {
    "claude_died": "the Claude process ended unexpectedly",
    "session_refused": "the conversation could not be opened",
    "shutdown": "the platform was shut down or the agent was moved",
    "runtime_died": "the agent's process ended unexpectedly",
}
"""By the word that `task_resumed` carries: what the model is told."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What the transcript shows of a task."""

    has_file: bool
    has_conversation: bool
    has_prompt: bool
    messages: frozenset[str] = frozenset()
    """The uuids of those that it has."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """`resume`: the session exists; otherwise Claude makes one of that id."""

    prompt: str
    prompt_uuid: str
    session_id: str
    resume: bool
    messages: tuple[Heard, ...] = ()
    """To be given after the prompt."""
    is_command: bool = False
    """The prompt is one of Claude's own commands, not a text."""
    heard: int = 0
    """So many of the task's messages Claude knows then."""


def first(task: OpenTask) -> Start:
    return Start(
        prompt=_command(task.instructions) if task.kind == "compact" else task.instructions,
        prompt_uuid=task.prompt_uuid,
        session_id=task.session_id,
        resume=task.is_resuming,
        is_command=task.kind == "compact",
    )


def _command(instructions: str) -> str:
    """Claude's own command, and no other, whoever wrote the task."""
    words = instructions.split()
    return " ".join(words) if words[:1] == ["/compact"] else "/compact"


def again(task: OpenTask, recorded: Recorded, max_attempts: int, new_id: str) -> Start | TaskFailed:
    """After an attempt that broke off. The original instructions are given again only where Claude never took them in.

    `new_id` is a fresh UUID, for a message or a session.
    """
    if end := given_up(task, max_attempts):
        return end
    if task.kind == "compact":
        return replace(first(task), prompt_uuid=new_id) if recorded.has_conversation else session_lost(task)
    if recorded.has_prompt:
        start = Start(prompt=interrupted(task.cause), prompt_uuid=new_id, session_id=task.session_id, resume=True)
        return _with_messages(start, task, recorded)
    if task.phase == "acted":
        return session_lost(task)
    if recorded.has_conversation and task.cause != "session_refused":
        start = Start(prompt=task.instructions, prompt_uuid=task.prompt_uuid, session_id=task.session_id, resume=True)
        return _with_messages(start, task, recorded)
    is_free = not recorded.has_file and task.cause != "session_refused"
    session_id = task.session_id if is_free else new_id
    start = Start(prompt=task.instructions, prompt_uuid=task.prompt_uuid, session_id=session_id, resume=False)
    return _with_messages(start, task, recorded if session_id == task.session_id else None)


def going_on(task: OpenTask, recorded: Recorded, new_id: str) -> Start | TaskFailed:
    """After an end that the log refused as `unheard`: the conversation goes on with what was said meanwhile."""
    if not task.has_news:
        return message_lost(task)
    if not recorded.has_conversation:
        return session_lost(task)
    start = Start(prompt=interrupted(task.cause), prompt_uuid=new_id, session_id=task.session_id, resume=True)
    start = _with_messages(start, task, recorded)
    if not start.messages:
        return start
    news, *others = start.messages
    return replace(start, prompt=news.content, prompt_uuid=news.uuid, messages=tuple(others))


def _with_messages(start: Start, task: OpenTask, recorded: Recorded | None) -> Start:
    """And with those messages, in order, that the conversation does not have."""
    taken = recorded.messages if recorded else frozenset()
    missing = tuple(heard for heard in task.messages if heard.uuid not in taken)
    return replace(start, messages=missing, heard=len(task.messages))


def pause_s(task: OpenTask) -> float:
    """How long to wait before the next attempt: 1, 2, 4 … seconds after attempts that brought nothing."""
    return (
        0.0 if task.barren == 0 or task.cause == "session_refused" else min(2.0 ** (task.barren - 1), LONGEST_PAUSE_S)
    )


def costs_before(task: OpenTask, session_id: str, baseline_usd: float) -> dict[str, Any]:
    """The open task's fields when an attempt begins and the session's total is `baseline_usd`.

    The attempt before cost what we had asked last, or what Claude itself wrote down of it, if that is more.
    """
    attempt_usd = task.attempt_usd
    if task.baseline_usd is not None and session_id == task.session_id:
        attempt_usd = max(attempt_usd, baseline_usd - task.baseline_usd)
    return {"spent_usd": task.spent_usd + attempt_usd, "attempt_usd": 0.0, "baseline_usd": baseline_usd}


def interrupted(cause: str | None) -> str:
    """What the model reads when its conversation goes on."""
    reason = CAUSES.get(cause or "", CAUSES["runtime_died"])
    return (
        f"Your work on this task was interrupted: {reason}. Nobody is waiting for an answer to this message.\n\n"
        "The conversation above and the files in your workspace are as they were. A command that was running may or "
        "may not have taken effect, and processes that you had started are gone. Check the present state where it "
        "matters, then go on with the task from where you were; do not start over."
    )
