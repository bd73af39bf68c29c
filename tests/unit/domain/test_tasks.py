"""Decisions about tasks: which one is wanted, whether the agent is busy, what an end means and what the task used."""

from decimal import Decimal
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from komputer.domain.agent import AgentSpec, AgentStatus, Covers, ManifestTask, Outcome, Task, digest_of
from komputer.domain.tasks import (
    ENDS,
    NO_LOGGED_TASK,
    TOKEN_FIELDS,
    TOKENS_LIMIT,
    LoggedTask,
    current_task,
    is_busy,
    is_compacting,
    open_task,
    usage_of,
)

MANIFEST, ASSIGNED, OTHER = "A" * 26, "B" * 26, "C" * 26
SPEC = AgentSpec(instructions="Say hello.")
RECORDED = AgentStatus(manifest_task=ManifestTask(digest=digest_of("Say hello."), id=MANIFEST))


def with_task(kind: Any = None) -> AgentSpec:
    covers = Covers(digest=digest_of("Say hello."), manifest_task_id=MANIFEST)
    return AgentSpec(
        instructions="Say hello.", task=Task(id=ASSIGNED, instructions="Say more.", covers=covers, kind=kind)
    )


def ended(*tasks: str) -> AgentStatus:
    return RECORDED.model_copy(update={"ended_tasks": list(tasks)})


@pytest.mark.parametrize(
    ("spec", "status", "logged", "busy", "current"),
    [
        (SPEC, AgentStatus(), NO_LOGGED_TASK, True, None),  # the operator has not given the task an id yet
        (SPEC, RECORDED, NO_LOGGED_TASK, True, MANIFEST),
        (SPEC, RECORDED, LoggedTask(MANIFEST, False), True, MANIFEST),
        (SPEC, RECORDED, LoggedTask(MANIFEST, True), False, None),  # the log knows the end before the status
        (SPEC, ended(MANIFEST), LoggedTask(MANIFEST, False), False, None),  # the status knows it before the log
        (SPEC, ended(MANIFEST), LoggedTask(OTHER, False), True, OTHER),
        (with_task(), RECORDED, NO_LOGGED_TASK, True, ASSIGNED),
        (with_task(), RECORDED, LoggedTask(ASSIGNED, True), False, None),  # its task covers the manifest's
        (with_task(), ended(ASSIGNED), NO_LOGGED_TASK, False, None),
    ],
)
def test_an_agent_is_busy_while_a_task_is_open_or_wanted(
    spec: AgentSpec, status: AgentStatus, logged: LoggedTask, busy: bool, current: str | None
) -> None:
    assert is_busy(spec, status, logged) == busy
    assert current_task(spec, status, logged) == current
    assert open_task(status, logged) in (None, current)


def test_an_agent_compacts_while_its_current_task_is_a_compaction() -> None:
    compacts = with_task("compact")
    assert is_compacting(compacts, RECORDED, NO_LOGGED_TASK)
    assert not is_compacting(compacts, RECORDED, LoggedTask(ASSIGNED, True))
    assert not is_compacting(compacts, RECORDED, LoggedTask(OTHER, False)), "another task is still open"
    assert not is_compacting(with_task(), RECORDED, NO_LOGGED_TASK)


def test_every_outcome_has_its_end() -> None:
    assert {meaning.outcome for meaning in ENDS.values()} == set(get_args(Outcome))


def test_the_usage_of_an_end_counts_what_the_last_turn_sent_as_the_context() -> None:
    last = {"input_tokens": 10, "output_tokens": 99, "cache_read_input_tokens": 200, "cache_creation_input_tokens": 3}
    payload = {"cost_usd": 0.0123, "usage": {"input_tokens": 9000}, "last_usage": last, "turns": 4, "duration_ms": 5}
    usage = usage_of(payload)
    assert (usage.cost_usd, usage.tokens, usage.context_tokens) == (Decimal("0.0123"), {"input": 9000}, 213)
    assert (usage.turns, usage.duration_ms, usage.context_window) == (4, 5, 0)
    assert usage_of({"usage": last}).context_tokens == 312, "without the last turn, all that was used"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda part: st.lists(part), max_leaves=3
)
USAGE = st.dictionaries(st.sampled_from([*TOKEN_FIELDS.values(), "x"]), JSON)


@given(
    st.dictionaries(
        st.sampled_from(["cost_usd", "usage", "last_usage", "turns", "duration_ms", "context_window"]), JSON | USAGE
    )
)
def test_the_usage_of_any_payload_is_within_its_limits(payload: dict[str, Any]) -> None:
    usage = usage_of(payload)
    assert usage.cost_usd >= 0
    assert all(0 <= count <= TOKENS_LIMIT for count in usage.tokens.values())
    assert 0 <= usage.context_tokens <= 4 * TOKENS_LIMIT
