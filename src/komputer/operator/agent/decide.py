"""All decisions about one agent, in order. Pure: one value in, one value out."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple

from komputer.domain.agent import AgentStatus
from komputer.operator.agent import endings
from komputer.operator.agent.account import account
from komputer.operator.agent.blockers import find_blocker
from komputer.operator.agent.observed import Blocker, Observed
from komputer.operator.agent.pod_status import parse_time
from komputer.operator.agent.status import next_status, recorded
from komputer.operator.agent.steps import Steps, SuccessorAnnotations, steps

NO_SUCCESSORS: Final[SuccessorAnnotations] = {}


class Decision(NamedTuple):
    status: AgentStatus
    """The next status of the agent."""
    steps: Steps
    endings: list[endings.Ending]
    """Ends of tasks that the operator itself must append to the log."""
    blocker: Blocker | None
    requeue_at: datetime | None
    """The time at which to decide again even if nothing changes; None: not at all."""


def decide(observed: Observed, fresh_id: str, annotations: SuccessorAnnotations = NO_SUCCESSORS) -> Decision:
    """Return the decision about one agent. `fresh_id` becomes the id of the manifest's task if that needs one.
    `annotations` are those of children that replace deleted ones."""
    spec, before = observed.agent.spec, observed.agent.status
    status = account(recorded(before, spec, fresh_id), spec, observed.ends)
    pending = endings.pending_tasks(observed, status) if observed.log_answers else {}
    # If the status cannot be written, the next turn chooses another id. So no end may be appended for this id before
    # the status with it is stored.
    pending.pop(fresh_id, None)
    pending_since = _pending_since(observed, pending)
    blocker = find_blocker(observed, pending_since)
    blocked_since = endings.not_ready_since(before, observed.now)
    deadline = endings.deadline(observed.config, blocker.reason) if blocker else None
    fails_at = blocked_since + deadline if deadline is not None else None
    has_failed = fails_at is not None and observed.now >= fails_at
    overdue = endings.overdue(observed, pending, blocker, blocked_since)
    cancelled = endings.cancelled(observed, status) if observed.log_answers else endings.Endings([], None)
    lost = endings.lost(observed, pending)
    plan = steps(observed, annotations, has_lost_task=bool(lost))
    times = (
        None if has_failed else fails_at,
        blocker.requeue_at if blocker else None,
        overdue.requeue_at,
        cancelled.requeue_at,
        plan.requeue_at,
        observed.now + observed.silence.report_after if pending_since and observed.pod else None,
        observed.now if status.manifest_task != before.manifest_task else None,
    )
    return Decision(
        status=next_status(observed, status, blocker, has_failed=has_failed),
        steps=plan,
        endings=[*cancelled.endings, *overdue.endings, *lost],
        blocker=blocker,
        requeue_at=min((at for at in times if at is not None), default=None),
    )


def _pending_since(observed: Observed, pending: Mapping[str, datetime]) -> datetime | None:
    """Return the time since which the runtime should have sent something: since it has a task, or has been silent."""
    if not observed.log_answers:
        return None
    silent = (c for c in observed.agent.status.conditions if c.type == "Ready" and c.reason == "RuntimeSilent")
    since = next((c.last_transition_time for c in silent if c.last_transition_time), None)
    return max(pending.values(), default=None) or (parse_time(since) if since else None)
