"""A runtime that is silent loses its pod, and after that has repeated, its task."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from komputer.events.schema import TaskFailed
from komputer.operator.agent.blockers import SILENCE_LIMIT
from komputer.operator.agent.decide import decide
from komputer.operator.agent.observe import LogState, observe
from komputer.operator.agent.observed import Observed
from komputer.operator.agent.steps import FORGIVEN_AFTER, SILENT_PODS, Earlier, steps
from komputer.operator.cluster_state import ClusterState
from komputer.redis.presence import Alive
from tests.unit.operator.given import NOW, agent, live, manifest_task, pod, seen, settings, task_id

FRESH = task_id(99)
QUIET = NOW - SILENCE_LIMIT


def silent(*, silent_before: int = 0, has_task: bool = True, **changes: Any) -> Observed:
    status = {"manifestTask": manifest_task(1), "endedTasks": [] if has_task else [task_id(1)]}
    given = {"live": live(task_id(1), ended=not has_task, seen=QUIET), "pod": pod(silent=silent_before)}
    return seen(agent(status=status), **(given | changes))


@pytest.mark.parametrize("has_task", [True, False])
def test_a_silent_runtime_loses_its_pod_and_the_task_stays(has_task: bool) -> None:
    decision = decide(silent(has_task=has_task), FRESH)
    assert [(step.verb, step.name) for step in decision.steps.then] == [("delete", "ada-pod")]
    assert (decision.endings, decision.steps.earlier) == ([], Earlier(silent=1))


@pytest.mark.parametrize(
    "changes",
    [
        {"live": live(task_id(1), seen=QUIET + timedelta(seconds=1))},
        {"gateway_since": QUIET + timedelta(seconds=1)},
        {"gateway_since": None},
        {"log_answers": False},
        {"pod": pod(created=QUIET + timedelta(seconds=1))},
        {"pod": pod(state={"waiting": {"reason": "CrashLoopBackOff"}})},
        {"pod": pod(going_since=NOW)},
        {"pod": pod(uid=None)},
    ],
    ids=str,
)
def test_no_pod_is_deleted_without_evidence_of_silence(changes: Any) -> None:
    assert decide(silent(**changes), FRESH).steps.then == []


def test_the_next_pod_bears_how_many_were_silent_before_it() -> None:
    [step] = steps(silent(pod=None), Earlier(silent=2)).then
    assert step.manifest["metadata"]["annotations"]["komputer.ai/silent"] == "2"


def test_repeated_silence_ends_the_task_before_the_pod_goes() -> None:
    decision = decide(silent(silent_before=SILENT_PODS - 1), FRESH)
    [end] = [ending.event for ending in decision.endings]
    assert isinstance(end, TaskFailed)
    assert (end.code, end.task_id) == ("runtime_lost", task_id(1))
    assert decision.steps.then == []
    after = decide(silent(silent_before=SILENT_PODS - 1, has_task=False), FRESH)
    assert [step.verb for step in after.steps.then] == ["delete"]
    assert after.steps.earlier == Earlier(), "the next task has as many pods again"


def test_a_pod_that_lived_long_counts_as_the_first_that_is_silent() -> None:
    old = silent(pod=pod(created=NOW - FORGIVEN_AFTER, silent=SILENT_PODS - 1))
    assert decide(old, FRESH).endings == []
    assert decide(old, FRESH).steps.earlier == Earlier(silent=1)


@pytest.mark.parametrize("skew", [timedelta(hours=-1), timedelta(hours=1)])
def test_clocks_that_differ_make_nobody_silent(skew: timedelta) -> None:
    """The log's server has a clock of its own: only what lies between two of its times counts."""
    store = ClusterState(None, None, wake=lambda _: None, wake_connector=lambda _: None)  # type: ignore[arg-type]
    there_us = int((NOW + skew).timestamp() * 1e6)
    heard = live(task_id(1), seen=NOW + skew - timedelta(seconds=5))
    alive = Alive(there_us, there_us - 3_600_000_000)
    around = observe(store, agent(), LogState(heard, (), alive), None, NOW)
    assert around.live
    assert around.live.seen_us == int((NOW - timedelta(seconds=5)).timestamp() * 1e6)
    assert around.gateway_since == NOW - timedelta(hours=1)
    assert decide(replace(around, pod=pod(), settings=settings()), FRESH).steps.then == []
