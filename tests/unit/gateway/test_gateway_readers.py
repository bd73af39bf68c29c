"""What pods and people may send or write: anything. Each reader of the gateway accepts it or refuses it with a
sentence."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from komputer.domain import names
from komputer.domain.agent import Agent
from komputer.domain.base import WireModel
from komputer.domain.errors import Forbidden, Invalid, KomputerError
from komputer.domain.event_ids import micros_of
from komputer.gateway import bodies
from komputer.gateway.agents.identity import PodRef, judge
from komputer.gateway.agents.intake import events_of
from komputer.gateway.managers import ownership, tools
from komputer.gateway.managers.cascade import assigned_task
from komputer.protocol import wire
from tests.unit.runtime.test_runtime_readers import JSON, TEXT

PYDANTICS_WORDS = ("Input should", "Field required", "pydantic", "Value error", "valid string", "Extra inputs")
AGENT = Agent.model_validate(
    {"metadata": {"name": "ada", "namespace": "team", "uid": "u"}, "spec": {"instructions": "x", "model": "m"}}
)


def is_ours(sentence: str) -> bool:
    return bool(sentence) and "\n" not in sentence and not any(word in sentence for word in PYDANTICS_WORDS)


# ---- managers' tools ----

ARGUMENTS = sorted({field for tool in tools.TOOLS.values() for field in tool.model_fields})


@settings(deadline=None, max_examples=80)
@given(st.sampled_from(sorted(tools.TOOLS)), st.dictionaries(st.sampled_from(ARGUMENTS) | TEXT, JSON, max_size=4))
@example("create_agent", {"name": "ada", "instructions": "\ud83d"})
@example("create_agent", {"name": "ada", "instructions": "x", "model": "sonnet"})
@example("wait_for_agents", {"agents": [{"agent": 1}]})
@example("get_agent", {"agent": "ada", "colour": "red"})
@example("list_agents", {"": None})
def test_any_arguments_of_a_tool_are_accepted_or_refused_with_a_sentence(tool: str, given: dict[str, Any]) -> None:
    try:
        tools.TOOLS[tool].model_validate(given)
    except ValidationError as wrong:
        sentence = tools.explained(wrong)
        assert sentence.endswith("(invalid)")
        assert is_ours(sentence), sentence


# ---- what runtimes post ----


@settings(deadline=None, max_examples=80)
@given(st.sampled_from([wire.Hello, wire.Heartbeat, wire.Post]), JSON)
@example(wire.Post, {"term": 1, "events": [{"seq": 0, "type": "text", "payload": {}}]})
@example(wire.Post, {"term": 1, "events": [{"type": "text", "payload": {}}]})
@example(wire.Hello, [])
@example(wire.Hello, {"term": -1})
def test_any_body_is_read_or_refused_with_a_sentence(kind: type[WireModel], body: Any) -> None:
    try:
        bodies.validated(kind, json.dumps(body).encode())
    except Invalid as error:
        refused = error.message
    else:
        return
    assert is_ours(refused), refused


@settings(deadline=None, max_examples=80)
@given(JSON | st.from_regex(r"[0-9]{1,20}-[0-9]{1,5}", fullmatch=True), JSON)
@example("9999999999999999-999", {"task_id": "t"})
@example("١-٢", {})
def test_any_acknowledgement_and_payload_is_passed_to_the_log_or_refused(acked: Any, payload: Any) -> None:
    event = {"seq": 1, "type": "task_completed", "payload": payload, "ackedMessageId": acked}
    try:
        post = bodies.validated(wire.Post, json.dumps({"term": 1, "events": [event]}).encode())
        (numbered,) = events_of(post, AGENT)
    except Invalid as error:
        refused = error.message
    else:
        assert numbered.acked_message_id is None or micros_of(numbered.acked_message_id) >= 0
        return
    assert is_ours(refused), refused


# ---- metadata that people and controllers write ----

OWNER = {"apiVersion": names.API_VERSION, "kind": "KomputerAgent", "name": "ada", "uid": "u", "controller": True}
METADATA = st.fixed_dictionaries(
    {"name": st.just("ada-pod"), "namespace": st.just("team"), "uid": st.sampled_from(["p", "q"])},
    optional={
        "labels": JSON | st.just({names.AGENT_LABEL: "ada"}),
        "ownerReferences": JSON
        | st.lists(JSON | st.just(OWNER) | st.dictionaries(st.sampled_from(sorted(OWNER)), JSON)),
    },
)


@settings(deadline=None, max_examples=80)
@given(METADATA, JSON, JSON)
@example({"name": "ada-pod", "uid": "p", "labels": {names.AGENT_LABEL: "ada"}, "ownerReferences": [OWNER]}, [], None)
@example({"name": "ada-pod", "uid": "p", "ownerReferences": [{"kind": "KomputerAgent", "apiVersion": None}]}, {}, {})
def test_any_metadata_of_a_pod_is_judged(metadata: dict[str, Any], status: Any, spec: Any) -> None:
    pod = {"metadata": metadata, "status": status, "spec": spec}
    agent = {"metadata": {"name": "ada", "namespace": "team", "uid": "u"}}
    code = ""
    try:
        assert judge(PodRef("team", "ada-pod", "p"), pod, agent, datetime.now(UTC)) is agent
    except KomputerError as refused:
        code = refused.code
    assert code in ("not_current_pod", "agent_gone") or (code == "" and metadata["uid"] == "p")
    ownership.managers_of(pod, lambda _: pod)
    assert isinstance(assigned_task(pod), dict)
    with pytest.raises(Forbidden, match="not one of yours"):
        ownership.require_own(
            AGENT.model_copy(update={"metadata": AGENT.metadata.model_copy(update={"uid": "x"})}), pod, lambda _: None
        )
