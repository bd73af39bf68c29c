from decimal import Decimal

import pytest
from hypothesis import given as property_of
from hypothesis import strategies as st

from komputer.domain.agent import AgentSpec, AgentStatus
from komputer.domain.tasks import tasks_named
from komputer.operator.agent.account import ENDED_TASKS_KEPT, account
from tests.unit.operator.given import agent, assigned, completed, end, manifest_task, task_id

SPEC = AgentSpec(instructions="A")


def test_an_end_says_what_the_task_cost_and_how_it_ended() -> None:
    entry = completed(
        1,
        task_id(1),
        0.0123,
        result="All green.\nDetails follow.",
        usage={"input_tokens": 9000},
        last_usage={"input_tokens": 10, "cache_read_input_tokens": 200, "cache_creation_input_tokens": 3},
        context_window=200_000,
    )
    after = account(AgentStatus(), SPEC, [entry])
    assert after == AgentStatus(
        task_status="Complete",
        last_task_message="All green.",
        last_task_id=task_id(1),
        last_task_outcome="completed",
        last_activity_at=entry.timestamp,
        completion_time="2026-01-31T11:00:01Z",
        session_id="s-1",
        last_task_cost_usd="0.0123",
        total_cost_usd="0.0123",
        total_tokens=213,
        model_context_window=200_000,
        ended_tasks=[task_id(1)],
        last_event_id="1001-0",
    )


@pytest.mark.parametrize(
    ("kind", "payload", "status", "outcome"),
    [
        ("task_cancelled", {"reason": "by user"}, "Complete", "cancelled"),
        ("error", {"error": "boom", "code": "crash_loop"}, "Error", "error"),
    ],
)
def test_a_cancelled_task_is_complete_and_a_failed_one_an_error(
    kind: str, payload: dict[str, str], status: str, outcome: str
) -> None:
    after = account(AgentStatus(), SPEC, [end(1, kind, task_id(1), cost_usd=0.25, **payload)])
    assert (after.task_status, after.last_task_outcome, after.total_cost_usd) == (status, outcome, "0.2500")


def test_a_task_is_counted_once_by_its_id_however_often_its_end_comes() -> None:
    first = account(AgentStatus(), SPEC, [completed(1, task_id(1), 0.5), completed(2, task_id(1), 0.5)])
    again = account(first, SPEC, [completed(3, task_id(1), 0.5)])
    assert again.total_cost_usd == "0.5000"
    assert again.ended_tasks == [task_id(1)]
    assert again.last_event_id == "1003-0", "the cursor passes what was counted before"


@property_of(st.lists(st.decimals(0, 100, places=9), min_size=1, max_size=40))
def test_costs_are_summed_exactly(costs: list[Decimal]) -> None:
    ends = [completed(n % 60, task_id(n), float(cost)) for n, cost in enumerate(costs)]
    total = account(AgentStatus(), SPEC, ends).total_cost_usd
    assert total is not None
    assert Decimal(total) == sum(costs)
    assert len(total.partition(".")[2]) >= 4


def test_an_absurd_cost_still_fits_the_field() -> None:
    after = account(AgentStatus(total_cost_usd="0.000000000001"), SPEC, [completed(1, task_id(1), 1e300)])
    assert after.total_cost_usd == "100000.000000000001"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda part: st.lists(part), max_leaves=5
)


@property_of(
    st.sampled_from(["task_completed", "error", "unreadable", "text"]),
    st.dictionaries(st.sampled_from(["task_id", "cost_usd", "usage", "last_usage", "session_id", "turns"]), JSON),
)
def test_whatever_an_end_says_the_ends_behind_it_are_counted(kind: str, payload: dict[str, object]) -> None:
    ends = [end(1, kind, task_id(1))._replace(payload=payload), completed(2, task_id(2), 0.5)]
    after = account(AgentStatus(), SPEC, ends)
    assert (after.ended_tasks, after.last_event_id) == ([task_id(2)], ends[1].id)
    AgentStatus.model_validate(after.to_wire())


def test_an_end_of_a_later_release_is_counted_without_what_is_not_understood() -> None:
    after = account(AgentStatus(), SPEC, [end(1, "error", task_id(1), code="NEW CODE", cost_usd=0.5)])
    assert (after.task_status, after.total_cost_usd, after.ended_tasks) == ("Error", "0.5000", [task_id(1)])


def test_old_ids_are_dropped_but_never_one_that_spec_or_status_names() -> None:
    named = [task_id(n) for n in range(4)]
    spec = agent(spec={"task": assigned(0, covers=named[1]), "cancelTaskID": named[2]}).spec
    status = AgentStatus.model_validate({"manifestTask": manifest_task(3)})
    ends = [completed(n, task_id(n), 0.001) for n in range(4 + 2 * ENDED_TASKS_KEPT)]
    after = account(status, spec, ends)
    assert set(named) <= set(after.ended_tasks)
    assert tasks_named(spec, after) == set(named)
    assert after.ended_tasks[-ENDED_TASKS_KEPT:] == [
        task_id(n) for n in range(4 + ENDED_TASKS_KEPT, 4 + 2 * ENDED_TASKS_KEPT)
    ]
    assert len(after.ended_tasks) == 4 + ENDED_TASKS_KEPT


def test_the_session_stays_when_an_end_names_none() -> None:
    after = account(AgentStatus(session_id="s-0"), SPEC, [end(1, "task_cancelled", task_id(1), reason="r")])
    assert after.session_id == "s-0"
