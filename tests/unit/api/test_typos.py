"""What is probably mistyped is told, with the nearest known word."""

import time

import pytest
from komputer_ai import api as published

from komputer.api.routes.streams import WEBSOCKET_PARAMETERS
from komputer.api.schemas.agents import CreateAgent, PatchAgent
from komputer.api.schemas.connectors import PatchConnector
from komputer.api.typos import WARNINGS_LIMIT, QueryParameters, check_parameters, declared, event_types, warnings_about
from komputer.domain.errors import Invalid
from tests.unit.api import bare


async def test_every_operation_refuses_a_query_parameter_that_it_does_not_know() -> None:
    async with bare.client() as client:
        for route in bare.routes():
            asked = {"no-such-parameter": "1"}
            answer = await client.request(bare.method_of(route), bare.path_of(route), params=asked, content=b"{}")
            body_is_wrong = route.body_field is not None and "required" in answer.text
            assert answer.status_code == 400, route.path
            assert answer.json()["code"] == "unknown_parameter" or body_is_wrong, (route.path, answer.text)


def test_an_unknown_parameter_is_named_with_the_nearest_ones() -> None:
    with pytest.raises(
        Invalid, match=r"no query parameter 'limt'; did you mean limit\? known: after, group, limit"
    ) as wrong:
        check_parameters(["after", "limt"], QueryParameters(frozenset({"limit", "after", "group"})))
    assert wrong.value.field == "limt"
    with pytest.raises(Invalid, match=r"Namespace.*did you mean namespace"):
        check_parameters(["Namespace"], WEBSOCKET_PARAMETERS)
    check_parameters(["namespace", "after", "group"], WEBSOCKET_PARAMETERS)


def test_a_parameter_that_is_given_twice_is_refused_unless_it_is_a_list() -> None:
    parameters = QueryParameters(frozenset({"limit", "label"}), lists=frozenset({"label"}))
    check_parameters(["label", "label", "limit"], parameters)
    with pytest.raises(Invalid, match="limit is given 2 times; give it once") as wrong:
        check_parameters(["limit", "label", "limit"], parameters)
    assert (wrong.value.code, wrong.value.field) == ("repeated_parameter", "limit")


async def test_every_operation_refuses_a_repeated_parameter() -> None:
    async with bare.client() as client:
        for route in bare.routes():
            known = declared(route.dependant)
            assert known.lists == ({"label"} if route.operation_id == "list_agents" else set())
            for name in known.known - known.lists:
                query = f"{name}=1&{name}=1"
                answer = await client.request(bare.method_of(route), f"{bare.path_of(route)}?{query}", content=b"{}")
                body_is_wrong = route.body_field is not None and "required" in answer.text
                assert answer.status_code == 400, (route.path, name)
                assert answer.json()["code"] == "repeated_parameter" or body_is_wrong, (route.path, answer.text)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_probes_refuse_query_parameters(path: str) -> None:
    async with bare.client() as client:
        answer = await client.get(path, params={"x": "1"})
        assert (answer.status_code, answer.json()["code"]) == (400, "unknown_parameter")


PUBLISHED = {
    "delete_agent": {"namespace", "recreatePod", "force"},
    "get_agent_cost_breakdown": {"namespace", "refresh", "limit", "events"},
    "get_agent_events": {"namespace", "limit", "before", "after", "around", "source"},
    "list_agents": {"namespace", "status", "hideArchived", "label", "q", "sort", "limit", "offset"},
    "list_secrets": {"namespace", "all"},
    "list_templates": {"namespace"},
}
"""What published clients send; others take a namespace at most."""


def test_what_published_clients_send_is_known() -> None:
    assert published
    for route in bare.routes():
        known = declared(route.dependant).known
        assert PUBLISHED.get(str(route.operation_id), set()) <= known
        assert "namespace" in known or route.operation_id in ("list_namespaces", "list_connector_templates")


def test_an_unknown_event_type_is_named_with_the_nearest_one() -> None:
    assert event_types(None) is None
    assert event_types("text, error,") == frozenset({"text", "error"})
    with pytest.raises(Invalid, match="no event type 'task_complete'; did you mean task_completed") as wrong:
        event_types("text,task_complete")
    assert (wrong.value.code, wrong.value.field) == ("unknown_event_type", "types")


def test_unknown_fields_and_tools_are_warnings() -> None:
    body = CreateAgent.model_validate(
        {
            "name": "ada",
            "instructions": "x",
            "intsructions": "y",
            "lifecycle": "",
            "allowedTools": ["NoSuchTool", "Bash(git:*)", "mcp__github", "read"],
            "disallowedTools": ["WebFetsh"],
        }
    )
    assert warnings_about(body) == [
        "unknown field 'intsructions' is ignored; did you mean instructions?",
        "allowedTools: there is no tool 'NoSuchTool'",
        "allowedTools: there is no tool 'read'; did you mean Read?",
        "disallowedTools: there is no tool 'WebFetsh'; did you mean WebFetch?",
    ]
    assert warnings_about(PatchAgent.model_validate({"secrets": None, "lifecycle": ""})) == []
    assert warnings_about(PatchConnector.model_validate({"authType": None, "oauthClientId": ""})) == []
    assert warnings_about(None) == []


def test_a_body_of_typos_costs_no_time_and_has_few_warnings() -> None:
    started = time.process_time()
    body = CreateAgent.model_validate({"name": "ada", "instructions": "x"} | {f"field{n}": n for n in range(50_000)})
    told = warnings_about(body)
    assert (len(told), told[-1]) == (WARNINGS_LIMIT + 1, f"and {50_000 - WARNINGS_LIMIT} more")
    assert time.process_time() - started < 10
