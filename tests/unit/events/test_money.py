"""Money is exact where it is added, and bounded where it comes in."""

import json
import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from komputer.domain import money, tasks
from komputer.domain.errors import Invalid
from komputer.domain.money import COST_LIMIT_USD
from komputer.events import schema
from komputer.services.costs import Costs

TASK = "01M85YRSC75NS6QDFF19GM95DJ"
AMOUNTS = st.decimals(0, 1000, places=9)
IMPOSSIBLE: list[Any] = [
    *(1e308, -1.0, -1e-12, float("nan"), float("inf"), float("-inf"), COST_LIMIT_USD + 0.01),
    *(10**400, -(10**400), 2**63, "1", "0.5", True, None, [], {}, [1.0]),
]


def end_of(**payload: Any) -> schema.Event:
    whole = {"result": "r", "cost_usd": 0.5, "duration_ms": 1, "turns": 1, "task_id": TASK}
    return schema.from_wire("task_completed", whole | payload)


@pytest.mark.parametrize("cost", IMPOSSIBLE)
def test_a_cost_that_no_task_can_have_is_refused(cost: Any) -> None:
    with pytest.raises(Invalid) as refused:
        end_of(cost_usd=cost)
    assert (refused.value.code, refused.value.field) == ("invalid_event", "cost_usd")
    assert 0 <= money.amount(cost) <= COST_LIMIT_USD


@pytest.mark.parametrize("field", ["duration_ms", "turns", "context_window"])
@pytest.mark.parametrize("count", [-1, 10**13, 2**63, 10**400, 1.5, 3.0, "3", True, float("nan")])
def test_a_count_that_no_task_can_have_is_refused(field: str, count: Any) -> None:
    with pytest.raises(Invalid):
        end_of(**{field: count})


@given(st.one_of(st.floats(), st.integers(), st.booleans(), st.text(), st.none(), st.decimals()))
def test_any_value_becomes_an_amount_within_its_bounds(value: object) -> None:
    found = money.amount(value)
    assert 0 <= found <= COST_LIMIT_USD
    assert money.amount(money.number(found)) == found, "nothing is lost as a number of JSON"
    assert tasks.plausible(value, 1000) in range(1001)


@given(AMOUNTS, AMOUNTS)
def test_costs_that_claude_counts_in_binary_fractions_become_exact(before: Decimal, task: Decimal) -> None:
    difference = float(before + task) - float(before)  # 0.0006659999999999999
    event = end_of(cost_usd=max(0.0, difference))
    text = json.dumps(schema.to_wire(event)[1]["cost_usd"])
    assert Decimal(text) == task


@given(st.lists(AMOUNTS, max_size=30))
def test_sums_are_exact_and_read_as_money(costs: list[Decimal]) -> None:
    total = Decimal(0)
    for cost in costs:
        total = money.added(total, money.amount(float(cost)))
    assert total == sum(costs)
    assert Decimal(money.text(total)) == total
    assert re.fullmatch(r"[0-9]+\.[0-9]{4,}", money.text(total))


@given(st.lists(AMOUNTS, min_size=1, max_size=5))
def test_the_breakdown_is_exact_even_if_events_are_not(costs: list[Decimal]) -> None:
    found = Costs(with_events=False)
    for n, cost in enumerate(costs):
        payload = {"task_id": f"t{n}", "cost_usd": float(cost) + 1e-15}
        found.add(json.dumps({"type": "error", "timestamp": "", "payload": payload}).encode())
    assert [Decimal(json.dumps(task.to_wire()["costUSD"])) for task in found.tasks()] == costs


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(), part, max_size=3),
    max_leaves=6,
)
FIELDS = ["task_id", "cost_usd", "usage", "turns", "duration_ms", "instructions", "steer"]


@given(
    st.sampled_from(["task_started", "user_message", "task_completed", "error", "unreadable"]),
    st.dictionaries(st.sampled_from(FIELDS), JSON) | st.builds(lambda usage: {"task_id": "t", "usage": usage}, JSON),
)
def test_an_invalid_event_does_not_affect_the_other_tasks_of_a_breakdown(kind: str, payload: dict[str, Any]) -> None:
    found = Costs(with_events=True)
    found.add(json.dumps({"type": kind, "timestamp": "", "payload": payload}).encode())
    found.add(json.dumps({"type": "error", "timestamp": "", "payload": {"task_id": "t2", "cost_usd": 0.5}}).encode())
    assert found.tasks()[-1].cost_usd == 0.5


def test_amounts_read_as_their_decimal_string() -> None:
    told = [money.text(Decimal(text)) for text in ("0", "1200", "0.00012345", "1E-7", "99999.9999999999")]
    assert told == ["0.0000", "1200.0000", "0.00012345", "0.0000001", "99999.9999999999"]
