from datetime import timedelta

from komputer.domain.agent import AgentStatus, digest_of
from komputer.domain.base import Condition
from komputer.domain.connector import Connector
from komputer.operator.agent.decide import decide
from komputer.operator.agent.observed import Observed
from komputer.operator.agent.status import PROGRESS_INTERVAL, is_progress_only, merge_patch, recorded, throttled
from tests.unit.operator.given import (
    NOW,
    OLD_UID,
    UID,
    agent,
    assigned,
    at,
    completed,
    live,
    manifest_task,
    observed,
    pod,
    pvc,
    task_id,
)

FRESH = task_id(99)


def after(value: Observed) -> AgentStatus:
    return decide(value, FRESH).status


def condition(status: AgentStatus, kind: str) -> Condition:
    return next(c for c in status.conditions if c.type == kind)


def test_the_manifests_first_task_gets_a_fresh_id() -> None:
    assert recorded(AgentStatus(), agent().spec, FRESH).to_wire()["manifestTask"] == {
        "digest": digest_of("A"),
        "id": FRESH,
    }


def test_the_first_manifest_task_takes_the_id_of_the_task_that_covers_it() -> None:
    spec = agent(spec={"task": assigned(1)}).spec
    found = recorded(AgentStatus(), spec, FRESH).manifest_task
    assert found
    assert found.id == task_id(1)


def test_a_later_manifest_never_takes_the_apis_id() -> None:
    spec = agent(spec={"instructions": "B", "task": assigned(1, digest_for="B")}).spec
    before = AgentStatus.model_validate({"manifestTask": manifest_task(0, "A")})
    found = recorded(before, spec, FRESH).manifest_task
    assert found
    assert found.id == FRESH


def test_a_task_that_covers_another_digest_gives_no_id() -> None:
    spec = agent(spec={"task": assigned(1, digest_for="something else")}).spec
    found = recorded(AgentStatus(), spec, FRESH).manifest_task
    assert found
    assert found.id == FRESH


def test_editing_a_to_b_to_a_gives_three_ids() -> None:
    ids, status = [], AgentStatus()
    for n, text in enumerate("ABA"):
        status = recorded(status, agent(spec={"instructions": text}).spec, task_id(n))
        assert status.manifest_task
        ids.append(status.manifest_task.id)
    assert len(set(ids)) == 3
    assert recorded(status, agent().spec, FRESH) is status, "re-applying the same text changes nothing"


def test_a_running_task_is_shown_as_in_the_log() -> None:
    who = agent(status={"manifestTask": manifest_task(1), "taskStatus": "Complete", "lastTaskOutcome": "completed"})
    status = after(observed(who, live=live(task_id(1), task_status="Compacting")))
    assert (status.phase, status.task_status, status.last_task_message) == (
        "Running",
        "Compacting",
        "Calling Bash: ls",
    )
    assert (status.last_task_id, status.last_task_outcome, status.session_id) == (task_id(1), None, "s-1")
    assert condition(status, "TaskStarted").to_wire() | {"lastTransitionTime": ""} == {
        "type": "TaskStarted",
        "status": "True",
        "reason": "TaskRunning",
        "message": f"task {task_id(1)} runs",
        "observedGeneration": 1,
        "lastTransitionTime": "",
    }


def test_a_live_hash_that_lags_does_not_undo_an_accounted_end() -> None:
    who = agent(status={"manifestTask": manifest_task(1)})
    status = after(observed(who, live=live(task_id(1)), ends=(completed(1, task_id(1)),)))
    assert (status.task_status, status.last_task_outcome) == ("Complete", "completed")
    assert condition(status, "TaskStarted").reason == "NoTask"


def test_a_task_that_waits_makes_the_agent_busy_before_it_starts() -> None:
    who = agent(status={"manifestTask": manifest_task(1), "endedTasks": [task_id(0)], "taskStatus": "Complete"})
    status = after(observed(who))
    assert status.task_status == "InProgress"
    assert condition(status, "TaskStarted").reason == "WaitingForRuntime"


def test_ready_says_why_not_and_since_when() -> None:
    first = after(
        observed(pod=pod(phase="Pending", state={"waiting": {"reason": "ImagePullBackOff", "message": "no"}}))
    )
    ready = condition(first, "Ready")
    assert (ready.status, ready.reason, ready.message) == ("False", "ImagePullFailed", "container agent: no")
    assert ready.last_transition_time == at(NOW)
    assert condition(first, "PodReady").reason == "ImagePullFailed"
    assert (first.phase, first.message) == ("Pending", "container agent: no")
    who = agent(status=first.to_wire())
    later = after(observed(who, now=NOW + timedelta(seconds=60)))
    assert condition(later, "Ready").to_wire() == {
        "type": "Ready",
        "status": "True",
        "reason": "PodRunning",
        "message": "a task can be taken",
        "observedGeneration": 1,
        "lastTransitionTime": at(NOW + timedelta(seconds=60)),
    }
    assert later.message is None


def test_every_status_names_the_generation_that_it_was_made_of() -> None:
    status = after(observed(agent(generation=7)))
    assert status.observed_generation == 7
    assert {c.observed_generation for c in status.conditions} == {7}


def test_fields_without_effect_are_named_by_a_condition() -> None:
    spec = {"memories": ["m"], "lifecycle": "Sleep", "priority": 0, "skills": []}
    status = after(observed(agent(spec=spec)))
    found = condition(status, "FieldsSupported")
    assert (found.status, found.reason) == ("False", "FieldsNotSupported")
    assert found.message == "no effect in this release: spec.memories, spec.lifecycle"
    assert condition(after(observed(agent(status=status.to_wire()))), "FieldsSupported").status == "True"
    assert all(c.type != "FieldsSupported" for c in after(observed()).conditions)


def test_without_the_log_nothing_is_said_about_tasks() -> None:
    who = agent(status={"manifestTask": manifest_task(1), "taskStatus": "InProgress", "lastTaskMessage": "busy"})
    status = after(observed(who, log_answers=False))
    assert (status.task_status, status.last_task_message) == ("InProgress", "busy")
    assert [c.type for c in status.conditions] == ["Ready", "PodReady"]


def test_chatty_fields_are_written_every_few_seconds_only() -> None:
    old = AgentStatus(task_status="InProgress", last_task_message="a", last_activity_at="1")
    new = old.model_copy(update={"last_task_message": "b", "last_activity_at": "2"})
    written = NOW - timedelta(seconds=1)
    assert throttled(old, new, written, NOW) == (old, written + PROGRESS_INTERVAL)
    assert throttled(old, new, written, NOW + PROGRESS_INTERVAL) == (new, None)
    assert throttled(old, new, None, NOW) == (new, None)
    ended = new.model_copy(update={"task_status": "Complete"})
    assert throttled(old, ended, written, NOW) == (ended, None), "a start and an end are written at once"


def test_a_notification_is_progress_only_while_the_task_of_the_status_runs() -> None:
    shown = {"lastTaskID": task_id(1), "taskStatus": "InProgress", "endedTasks": [task_id(0)]}
    assert is_progress_only(shown, UID, live(task_id(1)))
    assert not is_progress_only(shown, UID, live(task_id(1), ended=True)), "it has ended"
    assert not is_progress_only(shown, UID, live(task_id(2))), "another has started"
    assert not is_progress_only(shown, UID, live(task_id(1), task_status="Compacting"))
    assert not is_progress_only(shown, OLD_UID, live(task_id(1)))
    assert not is_progress_only(shown, UID, live(None))
    assert not is_progress_only(shown, UID, None)
    assert not is_progress_only(shown | {"endedTasks": [task_id(1)]}, UID, live(task_id(1))), "the status knows better"


def test_the_patch_says_what_differs_and_removes_what_is_gone() -> None:
    found = {"phase": "Running", "podName": "ada-pod", "taskStatus": "InProgress", "ofALaterRelease": 1}
    patch = merge_patch(found, AgentStatus(phase="Running", task_status="Complete"))
    assert patch == {"taskStatus": "Complete", "podName": None, "conditions": [], "endedTasks": []}
    assert merge_patch(found | patch, AgentStatus(phase="Running", task_status="Complete")) == {"podName": None}


def test_a_second_decision_on_the_written_status_changes_nothing() -> None:
    who = agent(status={"manifestTask": manifest_task(1)})
    value = observed(who, live=live(task_id(1)))
    once = after(value)
    again = after(observed(agent(status=once.to_wire()), live=live(task_id(1)), now=NOW + timedelta(seconds=1)))
    assert merge_patch(once.to_wire(), again) == {}


def test_an_object_of_others_is_not_named_as_a_child() -> None:
    status = after(observed(pvc=pvc(None), pod=None))
    assert status.pvc_name is None
    assert condition(status, "Ready").reason == "ChildNotOurs"


def connector(name: str, **spec: object) -> Connector:
    return Connector.model_validate({"metadata": {"name": name}, "spec": {"service": "x", "url": "https://x", **spec}})


def test_an_agent_says_which_connectors_it_does_without() -> None:
    who = agent(spec={"connectors": ["git", "off", "never"]})
    there = {"git": connector("git"), "off": connector("off", disabled=True), "never": None}
    told = condition(after(observed(who, connectors=there)), "ConnectorsFound")
    assert (told.status, told.reason) == ("False", "ConnectorMissing")
    assert told.message == "connector 'off' is disabled; there is no connector 'never': tasks run without"
    off = condition(after(observed(agent(spec={"connectors": ["off"]}), connectors=there)), "ConnectorsFound")
    assert (off.status, off.reason) == ("False", "ConnectorDisabled")
    found = condition(after(observed(agent(spec={"connectors": ["git"]}), connectors=there)), "ConnectorsFound")
    assert (found.status, found.reason) == ("True", "AllConnectorsFound")
    assert condition(after(observed(who, connectors=there)), "Ready").status == "True", "it works all the same"


def test_an_agent_that_never_named_a_connector_says_nothing_of_them() -> None:
    assert all(each.type != "ConnectorsFound" for each in after(observed()).conditions)


def test_an_agent_whose_manifest_names_an_alias_of_a_model_says_so() -> None:
    told = condition(after(observed(agent(spec={"model": "haiku"}))), "ModelKnown")
    assert (told.status, told.reason) == ("False", "ModelAlias")
    assert all(each.type != "ModelKnown" for each in after(observed()).conditions)
