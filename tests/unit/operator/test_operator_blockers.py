import dataclasses
import inspect
import re
from datetime import timedelta
from typing import Any

import pytest

from komputer.domain.base import Manifest
from komputer.operator.agent import blockers, children, observe
from komputer.operator.agent.blockers import STABLE_AFTER, TERMINATION_LIMIT, find_blocker
from komputer.operator.agent.decide import decide
from komputer.operator.agent.endings import CODES
from komputer.operator.agent.observed import Blocker, Observed
from komputer.operator.settings import SilenceLimits
from tests.unit.operator.given import (
    NOW,
    OLD_UID,
    agent,
    assigned,
    completed,
    live,
    manifest_task,
    observed,
    owned,
    pod,
    pvc,
    ready,
    settings,
    task_id,
    without_template,
)

FRESH = task_id(99)
SILENCE, SILENCE_LIMIT = SilenceLimits().report_after, SilenceLimits().replace_after


def reason(value: Observed) -> str | None:
    found = find_blocker(value, None)
    return found.reason if found else None


def state(kind: str, why: str) -> Manifest:
    return {kind: {"reason": why, "message": "told"}}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (pod(), None),
        (pod(phase="Pending", state={}), "PodStarting"),
        (pod(phase="Pending", state=state("waiting", "ContainerCreating")), "PodStarting"),
        (pod(phase="Pending", state=state("waiting", "ErrImagePull")), "ImagePullFailed"),
        (pod(phase="Pending", state=state("waiting", "ImagePullBackOff")), "ImagePullFailed"),
        (pod(phase="Pending", state=state("waiting", "InvalidImageName")), "ImagePullFailed"),
        (pod(phase="Pending", state=state("waiting", "CreateContainerError")), "CreateContainerError"),
        (pod(phase="Pending", state=state("waiting", "CreateContainerConfigError")), "CreateContainerError"),
        (pod(state=state("waiting", "CrashLoopBackOff"), restarts=3), "CrashLoopBackOff"),
        (pod(state=state("terminated", "Error"), restarts=2), "CrashLoopBackOff"),
        (pod(state=state("terminated", "Error"), restarts=0), "PodStarting"),
        (pod(restarts=1, created=NOW), None),
        (pod(restarts=2, created=NOW - STABLE_AFTER), None),
        (pod(phase="Failed", state={}), "PodFailed"),
        (pod(phase="Succeeded", state={}), "PodFailed"),
        (pod(phase="Unknown"), "NodeLost"),
        (pod(reason="NodeLost"), "NodeLost"),
        (pod(going_since=NOW), "WaitingForOldPod"),
        (pod(going_since=NOW - TERMINATION_LIMIT), "NodeLost"),
        (pod(uid=OLD_UID), "WaitingForOldPod"),
        (pod(uid=None), "ChildNotOurs"),
    ],
)
def test_a_pods_state_is_one_reason(found: Manifest, expected: str | None) -> None:
    assert reason(observed(pod=found)) == expected


def test_an_unschedulable_pod_says_what_the_scheduler_says() -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    found = find_blocker(observed(pod=pod(phase="Pending", state={}, conditions=[condition])), None)
    assert found == Blocker("Unschedulable", "0/3 nodes")


def test_what_kubelet_says_of_containers_counts_more_than_what_the_scheduler_said_before() -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    assert reason(observed(pod=pod(conditions=[condition]))) is None
    waiting = pod(phase="Pending", state=state("waiting", "ErrImagePull"), conditions=[condition])
    assert reason(observed(pod=waiting)) == "ImagePullFailed"


def test_an_init_container_without_an_image_is_a_blocker_too() -> None:
    inits = [{"name": "i", "state": state("waiting", "ErrImagePull")}]
    assert reason(observed(pod=pod(phase="Pending", state={}, initContainerStatuses=inits))) == "ImagePullFailed"


def test_a_container_that_waits_says_for_what() -> None:
    waiting = {"waiting": {"reason": "ContainerCreating", "message": "No space left on device"}}
    found = find_blocker(observed(pod=pod(phase="Pending", state=waiting)), None)
    assert found == Blocker("PodStarting", "the pod is starting: No space left on device")
    full = {"waiting": {"reason": "DiskPressure", "message": "the disk is full"}}
    assert reason(observed(pod=pod(phase="Pending", state=full))) == "DiskFull"


def test_a_full_disk_is_a_condition_of_an_agent_that_runs_until_there_is_space() -> None:
    full = {"type": "DiskPressure", "status": "True", "reason": "DiskFull", "message": "the disk is full"}
    found = decide(observed(pod=pod(conditions=[full])), FRESH).status
    assert found.message == "the disk is full"
    assert [c.status for c in found.conditions if c.type in ("DiskPressure", "Ready")] == ["True", "True"]
    later = decide(observed(agent(status=found.to_wire()), pod=pod()), FRESH).status
    assert later.message is None
    assert [c.status for c in later.conditions if c.type == "DiskPressure"] == ["False"]


def test_a_container_that_crashed_counts_as_looping_until_it_has_run_steadily() -> None:
    """Else each short life of a crash loop would begin the patience anew."""
    found = find_blocker(observed(pod=pod(restarts=2, created=NOW)), None)
    assert found
    assert found.reason == "CrashLoopBackOff"
    assert found.requeue_at == NOW + STABLE_AFTER


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "PodMissing"),
        ({"refused": "quota exceeded"}, "PodRefused"),
        ({"desired": Blocker("ConfigMissing", "none")}, "ConfigMissing"),
        ({"desired": without_template(agent())}, "TemplateMissing"),
        ({"pvc": pvc(None)}, "ChildNotOurs"),
        ({"pvc": pvc(OLD_UID)}, "WaitingForOldChildren"),
        ({"settings": settings(OLD_UID)}, "WaitingForOldChildren"),
        ({"pvc": owned("PersistentVolumeClaim", "ada-pvc", going_since=NOW)}, "WaitingForOldChildren"),
    ],
)
def test_without_a_pod_the_reason_is_what_keeps_it_from_being_made(changes: Any, expected: str) -> None:
    assert reason(observed(**({"pod": None} | changes))) == expected


def test_a_deleted_template_does_not_block_a_running_pod() -> None:
    assert reason(observed(desired=without_template(agent()))) is None


def test_an_owner_of_another_kind_is_not_an_old_agent() -> None:
    claim = pvc(OLD_UID)
    claim["metadata"]["ownerReferences"][0]["kind"] = "StatefulSet"
    assert reason(observed(pod=None, pvc=claim)) == "ChildNotOurs"


def test_a_silent_runtime_is_a_blocker_with_a_task_and_without_one() -> None:
    """An idle agent too: its next task must find a working pod."""
    quiet = live(task_id(1), observed=NOW - SILENCE)
    for waiting_since in (None, NOW, NOW - LONG):
        found = find_blocker(observed(live=quiet), waiting_since)
        assert found
        assert (found.reason, found.requeue_at) == ("RuntimeSilent", NOW - SILENCE + SILENCE_LIMIT)
    assert find_blocker(observed(live=live(task_id(1), observed=NOW - SILENCE / 2)), NOW - LONG) is None
    assert find_blocker(observed(live=quiet, pod=pod(created=NOW)), NOW - LONG) is None, "a pod that has just begun"


def test_silence_counts_only_while_a_gateway_could_hear() -> None:
    quiet = live(task_id(1), observed=NOW - LONG)
    assert find_blocker(observed(live=quiet, gateway_since=NOW - SILENCE / 2), NOW - LONG) is None
    away = observed(live=quiet, gateway_since=None)
    assert find_blocker(away, None) is None
    found = find_blocker(away, NOW - LONG)
    assert found
    assert found.reason == "GatewayAway"
    assert (decide(away, FRESH).steps.all, decide(away, FRESH).endings) == ((), [])
    assert find_blocker(observed(live=quiet, log_answers=False, gateway_since=None), NOW - LONG) is None


def test_a_platform_without_a_gateway_ends_no_task_however_long_that_lasts() -> None:
    quiet = live(task_id(1, NOW - 9 * LONG), observed=NOW - 9 * LONG)
    value = after_deadline("GatewayAway", since=9 * LONG, given=9 * LONG, live=quiet, gateway_since=None)
    decision = decide(value, FRESH)
    assert (decision.endings, decision.status.phase) == ([], "Running")


def after_deadline(reason_now: str, *, since: timedelta, given: timedelta, **changes: Any) -> Observed:
    """An agent with a task, given a while ago, that was not ready for a while."""
    status = {
        "manifestTask": manifest_task(1, moment=NOW - given),
        "conditions": [ready("False", reason_now, NOW - since)],
    }
    return observed(agent(status=status), **changes)


BROKEN = {"pod": pod(phase="Pending", state=state("waiting", "ImagePullBackOff"))}
LONG, SHORT = timedelta(seconds=600), timedelta(seconds=599)


def test_a_task_ends_with_an_error_when_its_reason_has_held_for_the_deadline() -> None:
    decision = decide(after_deadline("ImagePullFailed", since=LONG, given=LONG, **BROKEN), FRESH)
    [ending] = decision.endings
    assert ending.event.type == "error"
    assert (ending.event.code, ending.event.task_id) == ("image_pull_failed", task_id(1, NOW - LONG))
    assert ending.unless_started is False
    assert decision.status.phase == "Failed"


@pytest.mark.parametrize(("since", "given"), [(SHORT, LONG), (LONG, SHORT)])
def test_the_deadline_counts_from_the_later_of_reason_and_task(since: timedelta, given: timedelta) -> None:
    decision = decide(after_deadline("ImagePullFailed", since=since, given=given, **BROKEN), FRESH)
    assert decision.endings == []
    assert decision.requeue_at == NOW + timedelta(seconds=1)


def test_a_started_task_is_ended_by_the_same_rule() -> None:
    value = after_deadline("CrashLoopBackOff", since=LONG, given=LONG, pod=pod(state={}, restarts=4))
    task = task_id(7)
    [one, two] = decide(seen_with(value, live(task, observed=NOW - LONG)), FRESH).endings
    assert {one.event.task_id, two.event.task_id} == {task, task_id(1, NOW - LONG)}


def seen_with(value: Observed, heard: Any) -> Observed:
    return dataclasses.replace(value, live=heard)


def test_an_end_that_stands_in_the_log_is_not_written_again() -> None:
    value = after_deadline("ImagePullFailed", since=LONG, given=LONG, **BROKEN)
    ended = dataclasses.replace(value, ends=(completed(1, task_id(1, NOW - LONG)),))
    assert decide(ended, FRESH).endings == []


def test_a_task_without_a_recorded_id_is_not_ended_before_it_has_one() -> None:
    """A write that fails would leave another id behind, and the end of a task that never was."""

    def nameless(status: Manifest | None = None) -> Observed:
        return observed(agent(name="ada.b", status=status), pod=None, pvc=None, settings=None)

    first = decide(nameless(), FRESH)
    assert first.endings == []
    assert first.requeue_at == NOW
    again = decide(nameless(first.status.to_wire()), task_id(98))
    assert [ending.event.task_id for ending in again.endings] == [FRESH]


def test_every_reason_has_a_code() -> None:
    text = "".join(map(inspect.getsource, (observe, children, blockers)))
    named = set(re.findall(r'Blocker\(\s*"(\w+)"', text)) | {"WaitingForOldPod", "WaitingForOldChildren"}
    assert named == set(CODES)


def test_a_cancelled_task_that_has_not_started_ends_at_once() -> None:
    who = agent(spec={"cancelTaskID": task_id(1)}, status={"manifestTask": manifest_task(1)})
    [ending] = decide(observed(who), FRESH).endings
    assert (ending.event.type, ending.unless_started) == ("task_cancelled", True)


def test_a_cancelled_task_that_runs_is_its_runtimes_to_end() -> None:
    who = agent(spec={"cancelTaskID": task_id(1)}, status={"manifestTask": manifest_task(1)})
    decision = decide(observed(who, live=live(task_id(1), observed=NOW - SILENCE / 2)), FRESH)
    assert decision.endings == []
    assert decision.requeue_at == NOW + SILENCE / 2


@pytest.mark.parametrize("changes", [{"live": live(task_id(1), observed=NOW - SILENCE)}, {"pod": None}])
def test_a_cancelled_task_that_no_runtime_holds_is_ended(changes: Any) -> None:
    who = agent(spec={"cancelTaskID": task_id(1)}, status={"manifestTask": manifest_task(1)})
    value = observed(who, **({"live": live(task_id(1))} | changes))
    [ending] = decide(value, FRESH).endings
    assert (ending.event.type, ending.unless_started) == ("task_cancelled", False)


@pytest.mark.parametrize(
    "changes",
    [
        {"live": live(task_id(1), ended=True)},
        {"ends": (completed(1, task_id(1)),)},
        {"log_answers": False},
    ],
)
def test_a_cancel_of_what_has_ended_writes_nothing(changes: Any) -> None:
    who = agent(spec={"cancelTaskID": task_id(1)}, status={"manifestTask": manifest_task(1)})
    assert decide(observed(who, **changes), FRESH).endings == []


def test_a_silent_runtime_stays_a_blocker_after_its_task_was_ended() -> None:
    status = {
        "manifestTask": manifest_task(1),
        "endedTasks": [task_id(1)],
        "conditions": [ready("False", "RuntimeSilent", NOW - LONG)],
    }
    quiet = live(task_id(1), ended=True, observed=NOW - 2 * LONG)
    decision = decide(observed(agent(status=status), live=quiet), FRESH)
    assert decision.blocker
    assert decision.blocker.reason == "RuntimeSilent"
    assert decide(observed(agent(status=status), live=live(task_id(1), ended=True)), FRESH).blocker is None


def test_a_tasks_age_is_never_in_the_future() -> None:
    ahead = NOW + timedelta(days=300)
    spec = {"task": assigned(1) | {"id": task_id(1, ahead)}}
    status = {"manifestTask": manifest_task(2), "conditions": [ready("False", "TemplateMissing", NOW - LONG)]}
    who = agent(spec=spec, status=status)
    decision = decide(observed(who, pod=None, desired=without_template(who)), FRESH)
    assert decision.requeue_at == NOW + LONG
