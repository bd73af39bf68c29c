from datetime import timedelta

import pytest

from komputer.domain import names
from komputer.operator.agent.observed import Observed
from komputer.operator.agent.pod_replacement import BACKOFF, COUNT_RESET_AFTER, failures
from komputer.operator.agent.steps import SuccessorAnnotations, steps
from tests.unit.operator.given import NOW, OLD_UID, agent, made, observed, owned, pod, pvc, settings, without_template

NONE: SuccessorAnnotations = {}


def planned(value: Observed) -> list[tuple[str, str]]:
    return [(step.verb, step.name) for step in steps(value, NONE).all]


def test_a_new_agent_gets_disk_and_settings_and_then_its_pod() -> None:
    plan = steps(observed(pvc=None, settings=None, pod=None), NONE)
    assert [[step.name for step in stage] for stage in plan.stages] == [["ada-pvc", "ada-config"], ["ada-pod"]]
    assert {step.verb for step in plan.all} == {"create"}


def test_what_exists_is_left_alone() -> None:
    assert planned(observed()) == []


def test_a_running_pod_is_left_alone_whatever_changes_around_it() -> None:
    assert planned(observed(desired=without_template(agent()))) == []
    assert planned(observed(agent(spec={"model": "claude-other", "systemPrompt": "p"}))) == []


def test_a_pod_that_knows_an_old_address_of_the_gateway_is_replaced() -> None:
    elsewhere = pod()
    elsewhere["metadata"]["annotations"] = {names.GATEWAY_ANNOTATION: "http://127.0.0.1:4711"}
    assert planned(observed(pod=elsewhere)) == [("delete", "ada-pod")]
    elsewhere["metadata"]["annotations"] = {names.GATEWAY_ANNOTATION: "http://gateway:8081"}
    assert planned(observed(pod=elsewhere)) == []
    assert made()["pod"]["metadata"]["annotations"][names.GATEWAY_ANNOTATION] == "http://gateway:8081"


def test_settings_that_drifted_are_patched() -> None:
    drifted = settings()
    drifted["data"] = {"KOMPUTER_GATEWAY_URL": "http://elsewhere"}
    [step] = steps(observed(settings=drifted), NONE).all
    assert (step.verb, step.name) == ("patch", "ada-config")
    assert step.manifest["data"]["KOMPUTER_GATEWAY_URL"] == "http://gateway:8081"


def test_a_disk_that_is_too_small_is_grown() -> None:
    assert planned(observed(pvc=pvc(size="1Gi"))) == [("patch", "ada-pvc")]


@pytest.mark.parametrize(
    "in_the_way",
    [pvc(None), owned("PersistentVolumeClaim", "ada-pvc", going_since=NOW)],
    ids=["a stranger's", "terminating"],
)
def test_nothing_is_made_beside_a_child_that_is_not_ours_to_use(in_the_way: dict[str, object]) -> None:
    assert planned(observed(pvc=in_the_way, settings=None, pod=None)) == []


def test_what_an_earlier_agent_of_the_name_has_left_is_deleted_before_anything_is_made() -> None:
    """The garbage collector takes its time, and has missed such deletions when its own watch was cut off."""
    left = observed(pvc=pvc(OLD_UID), settings=settings(OLD_UID), pod=pod(uid=OLD_UID))
    assert planned(left) == [("delete", "ada-pvc"), ("delete", "ada-config"), ("delete", "ada-pod")]
    assert planned(observed(pvc=pvc(OLD_UID), settings=None, pod=pod(uid=OLD_UID, going_since=NOW))) == [
        ("delete", "ada-pvc")
    ]


def test_a_terminating_pod_is_waited_for() -> None:
    assert planned(observed(pod=pod(going_since=NOW))) == []


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_pod_that_ended_is_deleted_when_its_back_off_is_over(phase: str) -> None:
    fresh = steps(observed(pod=pod(phase=phase, created=NOW)), NONE)
    assert (fresh.all, fresh.requeue_at) == ((), NOW + BACKOFF.delay(1))
    assert planned(observed(pod=pod(phase=phase, created=NOW - BACKOFF.delay(1)))) == [("delete", "ada-pod")]


def test_the_back_off_doubles_with_each_failure_up_to_a_limit() -> None:
    waits = [steps(observed(pod=pod(phase="Failed", created=NOW, remade=n)), NONE).requeue_at for n in range(8)]
    assert waits == [NOW + timedelta(seconds=s) for s in (10, 20, 40, 80, 160, 300, 300, 300)]
    assert BACKOFF.delay_s(10**6) == BACKOFF.limit_s


def test_a_pod_that_lived_long_is_forgiven() -> None:
    assert failures(pod(created=NOW - COUNT_RESET_AFTER, remade=5), NOW) == 0
    assert failures(pod(created=NOW, remade=5), NOW) == 5


def test_the_next_pod_is_annotated_with_the_number_of_failed_pods_before_it() -> None:
    [step] = steps(observed(pod=None), {"pod": {"komputer.ai/remade": "3"}}).all
    assert step.manifest["metadata"]["annotations"]["komputer.ai/remade"] == "3"
    [first] = steps(observed(pod=None), NONE).all
    assert "komputer.ai/remade" not in first.manifest["metadata"]["annotations"]


def test_an_annotation_that_somebody_spoiled_counts_as_none() -> None:
    spoiled = pod(created=NOW)
    spoiled["metadata"]["annotations"] = {"komputer.ai/remade": "many"}
    assert failures(spoiled, NOW) == 0
