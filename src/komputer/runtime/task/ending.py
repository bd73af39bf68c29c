"""Decides what follows an attempt: one of the three ends, another attempt, or neither. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from komputer.domain.tasks import MILLISECONDS_LIMIT, TOKEN_FIELDS, TOKENS_LIMIT, TURNS_LIMIT, plausible
from komputer.events.schema import (
    End,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
)
from komputer.runtime.ledger.ledger import OpenTask
from komputer.runtime.ledger.rules import fitting

if TYPE_CHECKING:
    from claude_agent_sdk import ResultMessage

CRASHES_PER_ATTEMPT: Final = 4
"""A task that makes progress between its crashes may crash `CRASHES_PER_ATTEMPT * max_attempts` times. A guess,
unmeasured. Without a limit, a task with a command that kills Claude each time would cost money for ever."""


COMPACTED: Final = "The conversation was compacted."


class StopReason(Enum):
    """Why an attempt was stopped, the strongest reason first."""

    DROP = "drop"
    """The task has ended elsewhere: no more events of it are recorded."""
    CANCEL = "cancel"
    STALL = "stall"
    STOP = "stop"
    """The runtime stops; the next one resumes the task."""


class AttemptVerdict(Enum):
    """The consequence of an attempt that does not end its task."""

    AGAIN = "again"
    """Claude died: another attempt follows, unless the limit is reached."""
    KEEP = "keep"
    """The task stays open in the ledger."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of an attempt. Without a result Claude died, or never got the prompt."""

    result: ResultMessage | None = None
    api_error: str | None = None
    died: str = ""
    was_refused: bool = False
    """Whether Claude refused to open the session."""
    last_usage: Mapping[str, Any] | None = None
    turns: int = 0
    """The sum of the turns of all results."""
    was_compacted: bool = False


def judged(
    task: OpenTask, outcome: Outcome, stopped: StopReason | None, stall_s: int, now: float
) -> End | AttemptVerdict:
    """Return what follows an attempt. A result takes precedence over the reason of a stop: a task that was done when
    the cancel arrived is completed.

    `task` must have the costs up to now. `now` is Unix time in seconds.
    """
    result = outcome.result
    if stopped is StopReason.DROP:
        return AttemptVerdict.KEEP
    if result is not None and not _was_aborted(result):
        if not result.is_error and task.kind == "compact" and not outcome.was_compacted:
            return _failed(task, "compaction_failed", result.result or "Claude did not compact.", result.session_id)
        if not result.is_error:
            return _completed(task, outcome, result, now)
        if stopped is None:
            return _failed(task, code_of(result, outcome.api_error), error_text(result), result.session_id)
    session_id = result.session_id if result else task.session_id
    match stopped:
        case StopReason.CANCEL:
            return TaskCancelled(
                task_id=task.id, reason="cancelled by request", cost_usd=task.cost_usd, session_id=session_id
            )
        case StopReason.STALL:
            text = f"The model sent nothing for {stall_s} seconds. Assign the task again, or what is left of it."
            return _failed(task, "stalled", text, session_id)
        case StopReason.STOP:
            return AttemptVerdict.KEEP
        case _:
            return AttemptVerdict.AGAIN


def given_up(task: OpenTask, max_attempts: int) -> TaskFailed | None:
    """Return the end of a task that may not be attempted again, else None."""
    cause = task.cause or "runtime_died"
    if task.barren >= max_attempts:
        text = f"Claude broke off {task.barren} times in a row without finishing a step ({cause})."
    elif task.crashes >= CRASHES_PER_ATTEMPT * max_attempts:
        text = f"Claude broke off {task.crashes} times ({cause})."
    else:
        return None
    return _failed(task, "attempts_exhausted", text, task.session_id)


def compacted(task: OpenTask, now: float) -> TaskCompleted:
    """Return the end of a compaction that is in the transcript but whose result is lost."""
    return TaskCompleted(
        task_id=task.id,
        result=COMPACTED,
        cost_usd=task.cost_usd,
        duration_ms=plausible(1000 * (now - task.started_at), MILLISECONDS_LIMIT),
        turns=0,
        session_id=task.session_id,
        model=task.settings.model,
    )


def no_conversation(task: OpenTask) -> TaskFailed:
    return _failed(task, "no_conversation", "There is no conversation to compact; a task begins one.", None)


def workspace_unusable(task: OpenTask, reason: str, *, is_full: bool) -> TaskFailed:
    """Return the end of a task for which Claude's files could not be written."""
    advice = "Free space on the agent's disk, or give it a larger one" if is_full else "Delete and create the agent"
    text = f"The agent's workspace cannot be used: {reason}. {advice}, then assign the task again."
    return _failed(task, "disk_full" if is_full else "workspace_unusable", text, None)


def session_lost(task: OpenTask) -> TaskFailed:
    text = (
        "The record of the conversation is gone from the workspace, though Claude had begun this task. "
        "See in the events how far it came, then assign what is left."
    )
    return _failed(task, "session_lost", text, None)


def code_of(result: ResultMessage, api_error: str | None) -> str:
    """Return the code of an error result; docs/reference/events.md lists them. `api_error` is Claude's own name for
    it."""
    status, reason, text = result.api_error_status, result.terminal_reason or "", error_text(result).lower()
    if result.subtype == "error_max_turns":
        return "max_turns"
    if api_error == "billing_error" or "credit balance" in text:
        return "billing"
    if reason in ("prompt_too_long", "blocking_limit") or "prompt is too long" in text:
        return "prompt_too_long"
    if result.stop_reason == "model_context_window_exceeded" or "context window limit" in text:
        return "model_context_window_exceeded"  # Claude calls it max_output_tokens
    if status == 404 or api_error == "model_not_found":
        return "model_not_found"
    if api_error == "max_output_tokens":
        return "max_output_tokens"
    if "refusal" in (api_error or "") or result.stop_reason == "refusal":
        return "model_refused"
    match status:
        case 401:
            return "model_unauthorized"
        case 403:
            return "model_forbidden"
        case 429:
            return "model_rate_limited"
        case 529:
            return "model_overloaded"
        case int() if status >= 500:
            return "model_unavailable"
        case int():
            return "model_invalid_request"
    match api_error:
        case "authentication_failed":
            return "model_unauthorized"
        case "rate_limit":
            return "model_rate_limited"
        case "invalid_request":
            return "model_invalid_request"
    return "model_unavailable" if reason in ("api_error", "image_error") or api_error else "internal"


def error_text(result: ResultMessage) -> str:
    """Return Claude's description of an error as one text."""
    return "; ".join(result.errors or []) or result.result or result.terminal_reason or "Claude gave no reason"


def usage_of(usage: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the token counts that are part of the event's schema."""
    found = usage if isinstance(usage, Mapping) else {}
    return {
        key: plausible(value, TOKENS_LIMIT) for key in TOKEN_FIELDS.values() if isinstance(value := found.get(key), int)
    }


def _completed(task: OpenTask, outcome: Outcome, result: ResultMessage, now: float) -> TaskCompleted:
    models = result.model_usage if isinstance(result.model_usage, Mapping) else {}
    used = models.get(task.settings.model)
    window = plausible(used.get("contextWindow") if isinstance(used, Mapping) else None, TOKENS_LIMIT)
    return TaskCompleted(
        task_id=task.id,
        result=fitting(result.result or (COMPACTED if task.kind == "compact" else "")),
        cost_usd=task.cost_usd,
        duration_ms=plausible(1000 * (now - task.started_at), MILLISECONDS_LIMIT),
        turns=plausible(max(outcome.turns, plausible(result.num_turns, TURNS_LIMIT)), TURNS_LIMIT),
        stop_reason=result.stop_reason,
        session_id=result.session_id,
        usage=usage_of(result.usage),
        last_usage=usage_of(outcome.last_usage),
        context_window=window or None,
        model=task.settings.model,
    )


def _failed(task: OpenTask, code: str, text: str, session_id: str | None) -> TaskFailed:
    return TaskFailed(task_id=task.id, error=fitting(text), code=code, cost_usd=task.cost_usd, session_id=session_id)


def _was_aborted(result: ResultMessage) -> bool:
    aborted = (result.terminal_reason or "").startswith("aborted_")
    return aborted or result.subtype == "error_during_execution"
