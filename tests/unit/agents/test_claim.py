"""The writes that assign and cancel, as values."""

from typing import Any

from komputer.domain.agent import digest_of
from komputer.domain.tasks import current_task
from komputer.events.entries import Live, task_of
from komputer.services.agents import claim
from komputer.services.agents.view import agent_view

T1, T2, M1 = ("01ARZ3NDEKTSV4RRFFQ69G5FA" + end for end in "VWX")


def agent(**status: Any) -> dict[str, Any]:
    manifest = claim.new_agent("ada", "default", claim.NewTask(T1, "Do it."), {"model": "claude-sonnet-4-6"})
    manifest["metadata"] |= {"uid": "u1", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return manifest | ({"status": status} if status else {})


def live(task: str, has_ended: bool, uid: str = "u1") -> Live:
    at = "2026-01-01T00:00:00.000000Z"
    if has_ended:
        return Live(uid, task, True, "Complete", "completed", "Said.", "1-0", at, 1, 1, "s")
    return Live(uid, task, False, "InProgress", None, "Said.", "1-0", at, 1, 1, "s")


def checks_in(operations: list[dict[str, Any]]) -> dict[str, Any]:
    return {op["path"]: op["value"] for op in operations if op["op"] == "test"}


def test_a_new_agent_covers_its_own_instructions() -> None:
    task = agent()["spec"]["task"]
    assert task == {"id": T1, "instructions": "Do it.", "covers": {"digest": digest_of("Do it.")}}


def test_test_mt_the_claim_tests_all_that_it_was_decided_on() -> None:
    manifest = agent(manifestTask={"digest": digest_of("Do it."), "id": M1})
    assert checks_in(claim.assign(manifest, claim.NewTask(T2, "Next."), {})) == {
        "/metadata/uid": "u1",
        "/metadata/generation": 1,
        "/status/manifestTask/id": M1,
    }


def test_what_is_not_there_is_tested_as_null_at_the_first_missing_step() -> None:
    bare = agent()
    del bare["spec"]["task"]
    tested = checks_in(claim.assign(bare, claim.NewTask(T2, "Next."), {}))
    assert tested["/status"] is None
    assert (
        checks_in(claim.assign(agent(phase="Running"), claim.NewTask(T2, "Next."), {}))["/status/manifestTask"] is None
    )


def test_the_claim_covers_the_manifests_task_that_it_saw() -> None:
    manifest = agent(manifestTask={"digest": digest_of("Do it."), "id": M1})
    written = claim.assign(manifest, claim.NewTask(T2, "Next."), {"model": "claude-opus-5-5"})
    assert written[-1]["value"]["covers"] == {"digest": digest_of("Do it."), "manifestTaskID": M1}
    assert {"op": "add", "path": "/spec/model", "value": "claude-opus-5-5"} in written


def test_an_agent_is_busy_from_the_claim_on_and_until_its_task_has_ended() -> None:
    recorded = {"digest": digest_of("Do it."), "id": T1}
    assert agent_view(agent(), None).task_status == "InProgress"
    assert agent_view(agent(manifestTask=recorded), live(T1, False)).task_status == "InProgress"
    assert agent_view(agent(manifestTask=recorded), live(T1, True)).task_status == "Complete"
    assert running_task_of(agent(manifestTask=recorded), live(T1, True)) is None


def test_what_an_earlier_agent_of_the_name_did_counts_for_nothing() -> None:
    view = agent_view(agent(), live(T1, True, uid="u0"))
    assert view.task_status == "InProgress"
    assert view.last_task_message is None


def running_task_of(manifest: dict[str, Any], seen: Live) -> str | None:
    from komputer.domain.agent import Agent

    agent = Agent.model_validate(manifest)
    return current_task(agent.spec, agent.status, task_of(seen, agent.metadata.uid))


def test_labels_are_merged_with_those_that_were_read_and_tested_to_be_still_so() -> None:
    manifest = agent()
    manifest["spec"]["labels"] = {"a": "1", "b": "2"}
    manifest["metadata"]["labels"] |= {"a": "1", "b": "2", "x.y/z": "3"}
    written = claim.change(manifest, {"labels": {"a": None, "x.y/z": "4"}})
    assert checks_in(written) == {"/metadata/generation": 1}
    assert {"op": "add", "path": "/spec/labels", "value": {"b": "2", "x.y/z": "4"}} in written
    assert {"op": "remove", "path": "/metadata/labels/a"} in written
    assert {"op": "add", "path": "/metadata/labels/x.y~1z", "value": "4"} in written


def test_a_cleared_field_is_taken_away_whether_it_was_there_or_not() -> None:
    assert [op["op"] for op in claim.change(agent(), {"effort": None})] == ["add", "remove"]


def test_the_etag_moves_with_the_spec_and_not_with_the_status() -> None:
    first = agent()
    first["metadata"] |= {"generation": 3, "resourceVersion": "10"}
    assert claim.etag(first) == claim.etag(first | {"status": {"phase": "Running"}}) == '"u1-3"'
