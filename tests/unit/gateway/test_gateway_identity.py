"""Whose a token is, and whether that pod is the agent's current one."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from komputer.domain.errors import Forbidden, KomputerError, Unauthorized
from komputer.gateway.agents.identity import DELETION_GRACE, PodRef, bearer, judge, pod_of
from komputer.gateway.errors import AgentGone
from komputer.kube import TokenIdentity

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
REF = PodRef("team", "ada-pod", "pod-1")


def agent(**metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "ada", "namespace": "team", "uid": "agent-1", **metadata}}


def owner(**more: Any) -> dict[str, Any]:
    kind = {"apiVersion": "komputer.komputer.ai/v1alpha1", "kind": "KomputerAgent"}
    return {**kind, "name": "ada", "uid": "agent-1", "controller": True, **more}


def pod(*owners: dict[str, Any], phase: str = "Running", **metadata: Any) -> dict[str, Any]:
    own = {"name": "ada-pod", "namespace": "team", "uid": "pod-1", "labels": {"komputer.ai/agent-name": "ada"}}
    references = {"ownerReferences": list(owners or [owner()])}
    return {"metadata": {**own, **references, **metadata}, "status": {"phase": phase}}


def refusal(pod: dict[str, Any] | None, agent: dict[str, Any] | None, ref: PodRef = REF) -> KomputerError:
    with pytest.raises(KomputerError) as refused:
        judge(ref, pod, agent, NOW)
    return refused.value


def test_the_pod_that_the_agent_controls_speaks_for_it() -> None:
    assert judge(REF, pod(), agent(), NOW)["metadata"]["name"] == "ada"
    assert judge(REF, pod(phase="Pending"), agent(), NOW)


def test_a_pod_that_was_superseded_or_is_gone_is_refused() -> None:
    assert isinstance(refusal(pod(uid="pod-2"), agent()), Forbidden)
    assert isinstance(refusal(None, agent()), Forbidden)


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_finished_is_refused(phase: str) -> None:
    assert isinstance(refusal(pod(phase=phase), agent()), Forbidden)


def test_a_terminating_pod_may_speak_for_its_grace_period_and_a_moment() -> None:
    def going(at: datetime) -> dict[str, Any]:
        return pod(deletionTimestamp=at.strftime("%Y-%m-%dT%H:%M:%SZ"))

    assert judge(REF, going(NOW + timedelta(seconds=20)), agent(), NOW)
    assert judge(REF, going(NOW - DELETION_GRACE), agent(), NOW)
    assert isinstance(refusal(going(NOW - DELETION_GRACE - timedelta(seconds=1)), agent()), Forbidden)


@pytest.mark.parametrize(
    "stranger",
    [
        pod(owner(controller=False)),
        pod(owner(controller=None)),
        pod(owner(name="bob")),
        pod(owner(kind="Job")),
        pod(owner(apiVersion="batch/v1")),
        pod(labels={"komputer.ai/agent-name": "bob"}),
        pod(labels=None),
        pod(ownerReferences=None),
    ],
)
def test_a_pod_that_no_agent_controls_is_refused(stranger: dict[str, Any]) -> None:
    assert isinstance(refusal(stranger, agent()), Forbidden)


def test_a_pod_of_another_name_is_no_agents() -> None:
    ref = PodRef("team", "ada", "pod-1")
    assert isinstance(refusal(pod(name="ada"), agent(), ref), Forbidden)
    assert isinstance(refusal(None, None, PodRef("team", "x", "u")), Forbidden)


def test_an_agent_that_is_gone_going_or_another_is_told_as_gone() -> None:
    assert isinstance(refusal(pod(), None), AgentGone)
    assert isinstance(refusal(None, None), AgentGone)
    assert isinstance(refusal(pod(), agent(deletionTimestamp="2026-01-02T03:04:05Z")), AgentGone)
    assert isinstance(refusal(pod(), agent(uid="agent-2")), AgentGone)


def test_only_tokens_of_our_service_account_that_are_bound_to_a_pod_count() -> None:
    bound = TokenIdentity("x", (), "team", "komputer-agent", "ada-pod", "pod-1")
    assert pod_of(bound) == REF
    assert pod_of(replace(bound, service_account="default")) is None
    assert pod_of(replace(bound, pod_uid=None)) is None
    assert pod_of(TokenIdentity("admin")) is None
    assert pod_of(None) is None


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer  ")],
        [(b"authorization", b"Basic abc")],
        [(b"authorization", b"Bearer \xc3\xa9")],
        [(b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")],
        [(b"authorization", b"Bearer " + b"a" * 20_000)],
        [(b"x-api-key", b"a")],
    ],
)
def test_a_request_without_exactly_one_token_is_unauthorized(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(Unauthorized):
        bearer(headers)


def test_the_scheme_is_read_in_any_case() -> None:
    assert bearer([(b"accept", b"*/*"), (b"authorization", b"bearer abc.def")]) == "abc.def"
