"""All decisions about one agent, in their order. Pure: one value in, one value out."""

from datetime import datetime
from typing import Final, NamedTuple

from komputer.domain.agent import AgentStatus
from komputer.operator.agent import endings
from komputer.operator.agent.account import account
from komputer.operator.agent.blockers import SILENCE, Blocker, moment, trouble
from komputer.operator.agent.observed import Observed
from komputer.operator.agent.status import observed, recorded
from komputer.operator.agent.steps import Earlier, Steps, steps

NONE_EARLIER: Final = Earlier()


class Decision(NamedTuple):
    """`status` is what it is to say, `endings` what the log is to be told before anybody waits longer."""

    status: AgentStatus
    steps: Steps
    endings: list[endings.Ending]
    in_the_way: Blocker | None
    look_again: datetime | None


def decide(seen: Observed, fresh_id: str, earlier: Earlier = NONE_EARLIER) -> Decision:
    """`fresh_id` is for the manifest's task, should it need one; `earlier` is of the pod that is to be made."""
    spec, before = seen.agent.spec, seen.agent.status
    status = account(recorded(before, spec, fresh_id), spec, seen.ends)
    waiting = endings.waiting(seen, status) if seen.log_answers else {}
    # An id that the status does not name yet may be another one after a write that failed: it cannot be ended.
    waiting.pop(fresh_id, None)
    in_the_way = trouble(seen, _asked_since(seen, waiting))
    since = endings.since_not_ready(before, seen.now)
    patience = endings.patience(seen.config, in_the_way.reason) if in_the_way else None
    gives_up_at = since + patience if patience is not None else None
    has_given_up = gives_up_at is not None and seen.now >= gives_up_at
    late = endings.overdue(seen, waiting, in_the_way, since)
    cancelled = endings.cancelled(seen, status) if seen.log_answers else endings.Endings([], None)
    lost = endings.lost(seen, waiting)
    plan = steps(seen, earlier, has_lost_task=bool(lost))
    times = (
        None if has_given_up else gives_up_at,
        in_the_way.look_again if in_the_way else None,
        late.look_again,
        cancelled.look_again,
        plan.look_again,
        seen.now + SILENCE if _asked_since(seen, waiting) and seen.pod else None,
        seen.now if status.manifest_task != before.manifest_task else None,
    )
    return Decision(
        status=observed(seen, status, in_the_way, has_given_up=has_given_up),
        steps=plan,
        endings=[*cancelled.endings, *late.endings, *lost],
        in_the_way=in_the_way,
        look_again=min((at for at in times if at is not None), default=None),
    )


def _asked_since(seen: Observed, waiting: dict[str, datetime]) -> datetime | None:
    """Since when a runtime should have been heard of: it has a task, or was silent before."""
    if not seen.log_answers:
        return None
    silent = (c for c in seen.agent.status.conditions if c.type == "Ready" and c.reason == "RuntimeSilent")
    known = next((c.last_transition_time for c in silent if c.last_transition_time), None)
    return max(waiting.values(), default=None) or (moment(known) if known else None)
