"""A runtime that is silent loses its pod, and after that has repeated, its task."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from komputer.events.schema import TaskFailed
from komputer.operator.agent.decide import decide
from komputer.operator.agent.observe import LogState, observe
from komputer.operator.agent.observed import Observed
from komputer.operator.agent.pod_replacement import COUNT_RESET_AFTER, MAX_SILENT_PODS
from komputer.operator.agent.steps import steps
from komputer.operator.cluster_state import ClusterState
from komputer.operator.settings import SilenceLimits
from komputer.redis.presence import GatewayPresence
from tests.unit.operator.given import NOW, agent, live, manifest_task, observed, pod, settings, task_id

FRESH = task_id(99)
LIMITS = SilenceLimits()
QUIET = NOW - LIMITS.replace_after


def silent(*, silent_before: int = 0, has_task: bool = True, **changes: Any) -> Observed:
    status = {"manifestTask": manifest_task(1), "endedTasks": [] if has_task else [task_id(1)]}
    given = {"live": live(task_id(1), ended=not has_task, observed=QUIET), "pod": pod(silent=silent_before)}
    return observed(agent(status=status), **(given | changes))


@pytest.mark.parametrize("has_task", [True, False])
def test_a_silent_runtime_loses_its_pod_and_the_task_stays(has_task: bool) -> None:
    decision = decide(silent(has_task=has_task), FRESH)
    [step] = decision.steps.all
    assert (step.verb, step.name, step.annotations) == ("delete", "ada-pod", {"komputer.ai/silent": "1"})
    assert decision.endings == []


@pytest.mark.parametrize(
    "changes",
    [
        {"live": live(task_id(1), observed=QUIET + timedelta(seconds=1))},
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
    assert decide(silent(**changes), FRESH).steps.all == ()


def test_the_next_pod_is_annotated_with_the_number_of_silent_pods_before_it() -> None:
    [step] = steps(silent(pod=None), {"pod": {"komputer.ai/silent": "2"}}).all
    assert step.manifest["metadata"]["annotations"]["komputer.ai/silent"] == "2"


def test_repeated_silence_ends_the_task_before_the_pod_goes() -> None:
    decision = decide(silent(silent_before=MAX_SILENT_PODS - 1), FRESH)
    [end] = [ending.event for ending in decision.endings]
    assert isinstance(end, TaskFailed)
    assert (end.code, end.task_id) == ("runtime_lost", task_id(1))
    assert decision.steps.all == ()
    after = decide(silent(silent_before=MAX_SILENT_PODS - 1, has_task=False), FRESH)
    assert [step.verb for step in after.steps.all] == ["delete"]
    assert after.steps.all[0].annotations == {}, "the next task has as many pods again"


def test_a_pod_that_lived_long_counts_as_the_first_that_is_silent() -> None:
    old = silent(pod=pod(created=NOW - COUNT_RESET_AFTER, silent=MAX_SILENT_PODS - 1))
    assert decide(old, FRESH).endings == []
    assert [step.annotations for step in decide(old, FRESH).steps.all] == [{"komputer.ai/silent": "1"}]


@pytest.mark.parametrize("skew", [timedelta(hours=-1), timedelta(hours=1)])
def test_different_clocks_make_no_runtime_silent(skew: timedelta) -> None:
    """The log's server has a clock of its own: only what lies between two of its times counts."""
    store = ClusterState(None, None, wake=lambda *_: None)  # type: ignore[arg-type]
    there_us = int((NOW + skew).timestamp() * 1e6)
    heard = live(task_id(1), observed=NOW + skew - timedelta(seconds=5))
    alive = GatewayPresence(there_us, there_us - 3_600_000_000)
    found = observe(store, agent(), LogState(heard, (), alive), silence=LIMITS, now=NOW)
    assert found.live
    assert found.live.seen_us == int((NOW - timedelta(seconds=5)).timestamp() * 1e6)
    assert found.gateway_since == NOW - timedelta(hours=1)
    assert decide(replace(found, children={"pod": pod(), "settings": settings()}), FRESH).steps.all == ()
