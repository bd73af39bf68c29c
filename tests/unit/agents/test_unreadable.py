"""Objects that were written past our checks, or by another version: whatever is in them, they are shown as far as they
can be, and break neither lists nor other objects."""

import contextlib
import copy
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from komputer.api.agent_lists import encode_page
from komputer.api.queries import agent_query
from komputer.domain.agent import Agent, AgentSpec, AgentStatus
from komputer.domain.config import Config
from komputer.domain.connector import ConnectorSpec, attached
from komputer.domain.errors import Conflict
from komputer.domain.secret import is_platforms
from komputer.services.agents import claim, listing
from komputer.services.agents.view import AgentView, agent_view, total_cost, typed, usd
from komputer.services.connectors.reader import typed as typed_connector
from komputer.services.connectors.view import connector_view
from komputer.services.secrets import secret_view

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10) | st.just(10**30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
ULID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
WHOLE: dict[str, Any] = {
    "apiVersion": "komputer.komputer.ai/v1alpha1",
    "kind": "KomputerAgent",
    "metadata": {
        "name": "ada",
        "namespace": "team",
        "uid": "u1",
        "resourceVersion": "7",
        "generation": 2,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    },
    "spec": {
        "instructions": "Count.",
        "model": "claude-sonnet-4-6",
        "labels": {"team": "blue"},
        "connectors": ["github"],
        "task": {"id": ULID, "instructions": "Count.", "covers": {"digest": "0" * 32}},
    },
    "status": {
        "phase": "Running",
        "totalCostUSD": "0.5",
        "endedTasks": [ULID],
        "conditions": [{"type": "Ready", "status": "True", "reason": "Up"}],
    },
}


def aliases(kind: type[Any]) -> list[str]:
    return [info.alias or name for name, info in kind.model_fields.items()]


def row(view: AgentView) -> listing.AgentRow:
    return listing.row(view, {}, orjson.dumps(view.to_wire()))


@st.composite
def broken(draw: st.DrawFn) -> dict[str, Any]:
    """An agent of which some values are anything."""
    made = copy.deepcopy(WHOLE)
    for part, kind in (("spec", AgentSpec), ("status", AgentStatus)):
        if draw(st.booleans()):
            made[part] |= draw(st.dictionaries(st.sampled_from(aliases(kind)), JSON, max_size=4))
    path = draw(st.sampled_from([(), ("spec",), ("status",), ("spec", "task"), ("spec", "task", "covers")]))
    if path:
        inner: Any = made
        for key in path[:-1]:
            inner = inner[key] if isinstance(inner, dict) and isinstance(inner.get(key), dict) else {}
        inner[path[-1]] = draw(JSON)
    if draw(st.booleans()):
        made.pop(draw(st.sampled_from(["spec", "status"])))
    return made


@settings(max_examples=150, deadline=None)
@given(broken())
def test_an_agent_is_shown_whatever_is_in_it(manifest: dict[str, Any]) -> None:
    before = copy.deepcopy(manifest)
    view = agent_view(manifest, None)
    body = view.to_wire()
    assert (body["name"], body["namespace"]) == ("ada", "team")
    assert {"model", "status", "createdAt"} <= body.keys()
    query = agent_query([("sort", "cost")])
    rows = [row(view), row(agent_view(WHOLE, None))]
    encode_page(listing.matching(rows, query), query, listing.facets(rows, rows))
    assert total_cost(manifest) >= 0
    attached([manifest, WHOLE])
    secret_view({"metadata": {"name": "s", "namespace": "team", "uid": "u", "creationTimestamp": ""}}, [manifest])
    claim.change(manifest, {"labels": {"a": "b"}, "model": "x"})
    claim.unchanged(manifest)
    claim.etag(manifest)
    if "errors" in body:
        with pytest.raises(Conflict, match="correct it with kubectl"):
            typed(manifest)
    else:
        typed(manifest)
    assert manifest == before, "the cache's own copy"


@settings(max_examples=80, deadline=None)
@given(JSON, JSON, st.dictionaries(st.sampled_from(aliases(ConnectorSpec)), JSON, max_size=3))
def test_a_connector_is_shown_or_left_out_whatever_is_in_it(spec: Any, status: Any, some: dict[str, Any]) -> None:
    good = {"service": "custom", "url": "https://mcp.example.com/mcp", "authType": "none"}
    for each in (spec, good | some, good):
        with contextlib.suppress(Conflict):
            found = typed_connector({"metadata": WHOLE["metadata"], "spec": each, "status": status})
            connector_view(found, [], None).to_wire()


def test_a_connector_with_a_strange_status_is_whole() -> None:
    spec = {"service": "custom", "url": "https://mcp.example.com/mcp", "authType": "none"}
    status = {"attachedAgents": "many", "conditions": [{"type": 1}], "agentNames": "x"}
    assert typed_connector({"metadata": WHOLE["metadata"], "spec": spec, "status": status}).spec.service == "custom"
    with pytest.raises(Conflict, match="correct it with kubectl"):
        typed_connector({"metadata": WHOLE["metadata"], "spec": spec | {"disabled": "perhaps"}})


def test_what_does_not_fit_is_left_out_and_told_and_the_rest_is_shown() -> None:
    manifest = copy.deepcopy(WHOLE)
    manifest["spec"] |= {"effort": "extreme", "connectors": ["github", 7], "task": {"id": "?"}}
    manifest["status"] |= {"phase": "Dancing", "totalTokens": 10**30}
    body = agent_view(manifest, None).to_wire()
    assert (body["connectors"], body["labels"], body["totalCostUSD"]) == (["github"], {"team": "blue"}, "0.5000")
    told = " ".join(body["errors"])
    for path in ("spec.effort", "spec.connectors.1", "spec.task", "status.phase", "status.totalTokens"):
        assert path in told
    assert agent_view(WHOLE, None).errors is None


def test_the_platforms_secrets_stay_its_own_whatever_else_a_config_says() -> None:
    secret = {"metadata": {"name": "model-key", "namespace": "komputer"}}
    named = [{"name": "model-key", "namespace": "komputer"}, {"name": 7}, "x"]
    for spec in (
        {"redis": {"address": "r:1"}, "platformSecrets": named},
        {"redis": 7, "platformSecrets": named, "maxAttempts": "many"},
        {"platformSecrets": named},
    ):
        assert is_platforms(secret, Config.understood([{"metadata": {"name": "default"}, "spec": spec}])), spec


@settings(max_examples=80, deadline=None)
@given(JSON)
def test_any_config_may_be_there(spec: Any) -> None:
    Config.understood([{"metadata": {"name": "default"}, "spec": spec}, {"metadata": {"name": "other"}}])


def test_costs_have_four_fraction_digits_or_more_and_lose_none() -> None:
    assert [usd(text) for text in ("0", "0.5", "12", "0.0006661", "1.23456789")] == [
        "0.0000",
        "0.5000",
        "12.0000",
        "0.0006661",
        "1.23456789",
    ]
    assert usd(None) is None
    assert usd("9" * 40) == "9" * 40 + ".0000"
    assert total_cost(WHOLE) == Decimal("0.5")
    assert Agent.salvaged(WHOLE)[1] == []
