from datetime import timedelta

import pytest

from komputer.domain import names
from komputer.operator.agent.observed import Observed
from komputer.operator.agent.steps import BACKOFF, FORGIVEN_AFTER, Earlier, failures, steps
from tests.unit.operator.given import NOW, OLD_UID, agent, made, owned, pod, pvc, seen, settings, without_template

NONE = Earlier()


def told(value: Observed, earlier: Earlier = NONE) -> list[tuple[str, str]]:
    plan = steps(value, earlier)
    return [(step.verb, step.name) for step in (*plan.first, *plan.then)]


def test_a_new_agent_gets_disk_and_settings_and_then_its_pod() -> None:
    plan = steps(seen(pvc=None, settings=None, pod=None), NONE)
    assert [step.name for step in plan.first] == ["ada-pvc", "ada-config"]
    assert [step.name for step in plan.then] == ["ada-pod"]
    assert {step.verb for step in (*plan.first, *plan.then)} == {"create"}


def test_what_exists_is_left_alone() -> None:
    assert told(seen()) == []


def test_a_running_pod_is_left_alone_whatever_changes_around_it() -> None:
    assert told(seen(desired=without_template(agent()))) == []
    assert told(seen(agent(spec={"model": "claude-other", "systemPrompt": "p"}))) == []


def test_a_pod_that_knows_an_old_address_of_the_gateway_is_replaced() -> None:
    elsewhere = pod()
    elsewhere["metadata"]["annotations"] = {names.GATEWAY_ANNOTATION: "http://127.0.0.1:4711"}
    assert told(seen(pod=elsewhere)) == [("delete", "ada-pod")]
    elsewhere["metadata"]["annotations"] = {names.GATEWAY_ANNOTATION: "http://gateway:8081"}
    assert told(seen(pod=elsewhere)) == []
    assert made().pod["metadata"]["annotations"][names.GATEWAY_ANNOTATION] == "http://gateway:8081"


def test_settings_that_drifted_are_patched() -> None:
    drifted = settings()
    drifted["data"] = {"KOMPUTER_GATEWAY_URL": "http://elsewhere"}
    [step] = steps(seen(settings=drifted), NONE).first
    assert (step.verb, step.name) == ("patch", "ada-config")
    assert step.manifest["data"]["KOMPUTER_GATEWAY_URL"] == "http://gateway:8081"


def test_a_disk_that_is_too_small_is_grown() -> None:
    assert told(seen(pvc=pvc(size="1Gi"))) == [("patch", "ada-pvc")]


@pytest.mark.parametrize(
    "in_the_way",
    [pvc(None), owned("PersistentVolumeClaim", "ada-pvc", going_since=NOW)],
    ids=["a stranger's", "terminating"],
)
def test_nothing_is_made_beside_a_child_that_is_not_ours_to_use(in_the_way: dict[str, object]) -> None:
    assert told(seen(pvc=in_the_way, settings=None, pod=None)) == []


def test_what_an_earlier_agent_of_the_name_has_left_is_deleted_before_anything_is_made() -> None:
    """The garbage collector takes its time, and has missed such deletions when its own watch was cut off."""
    left = seen(pvc=pvc(OLD_UID), settings=settings(OLD_UID), pod=pod(uid=OLD_UID))
    assert told(left) == [("delete", "ada-pvc"), ("delete", "ada-config"), ("delete", "ada-pod")]
    assert told(seen(pvc=pvc(OLD_UID), settings=None, pod=pod(uid=OLD_UID, going_since=NOW))) == [("delete", "ada-pvc")]


def test_a_terminating_pod_is_waited_for() -> None:
    assert told(seen(pod=pod(going_since=NOW))) == []


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_pod_that_ended_is_deleted_when_its_back_off_is_over(phase: str) -> None:
    fresh = steps(seen(pod=pod(phase=phase, created=NOW)), NONE)
    assert (fresh.then, fresh.look_again) == ([], NOW + BACKOFF.delay(1))
    assert told(seen(pod=pod(phase=phase, created=NOW - BACKOFF.delay(1)))) == [("delete", "ada-pod")]


def test_the_back_off_doubles_with_each_failure_up_to_a_limit() -> None:
    waits = [steps(seen(pod=pod(phase="Failed", created=NOW, remade=n)), NONE).look_again for n in range(8)]
    assert waits == [NOW + timedelta(seconds=s) for s in (10, 20, 40, 80, 160, 300, 300, 300)]
    assert BACKOFF.delay_s(10**6) == BACKOFF.limit_s


def test_a_pod_that_lived_long_is_forgiven() -> None:
    assert failures(pod(created=NOW - FORGIVEN_AFTER, remade=5), NOW) == 0
    assert failures(pod(created=NOW, remade=5), NOW) == 5


def test_the_new_pod_bears_how_many_failed_before_it() -> None:
    [step] = steps(seen(pod=None), Earlier(failed=3)).then
    assert step.manifest["metadata"]["annotations"]["komputer.ai/remade"] == "3"
    [first] = steps(seen(pod=None), NONE).then
    assert "komputer.ai/remade" not in first.manifest["metadata"]["annotations"]


def test_an_annotation_that_somebody_spoiled_counts_as_none() -> None:
    spoiled = pod(created=NOW)
    spoiled["metadata"]["annotations"] = {"komputer.ai/remade": "many"}
    assert failures(spoiled, NOW) == 0
