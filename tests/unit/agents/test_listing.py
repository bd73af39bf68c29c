"""Which agents a list shows, and in which order."""

from typing import Any

import orjson

from komputer.api.agent_lists import encode_page
from komputer.api.queries import agent_query
from komputer.services.agents import listing
from komputer.services.agents.view import AgentView


def rows(*bodies: dict[str, Any]) -> list[listing.AgentRow]:
    common = {
        "namespace": "default",
        "status": "Running",
        "model": "claude-sonnet-4-6",
        "createdAt": "2026-01-01T00:00:00Z",
        "priority": 0,
    }
    views = [AgentView.model_validate({**common, **body}) for body in bodies]
    return listing.newest_first(listing.row(view, {}, orjson.dumps(view.to_wire())) for view in views)


def names(found: list[listing.AgentRow]) -> list[str]:
    return [row.name for row in found]


COSTLY = rows(
    {"name": "c", "totalCostUSD": "10.0000"},
    {"name": "b", "totalCostUSD": "9.0000", "lastActivityAt": "2026-01-02T00:00:00Z"},
    {"name": "a", "totalCostUSD": "9.0000", "lastActivityAt": "2026-01-03T00:00:00Z"},
    {"name": "d"},
)


def test_costs_are_ordered_as_numbers_and_equal_ones_by_name_in_both_directions() -> None:
    assert names(listing.matching(COSTLY, agent_query([("sort", "cost")]))) == ["d", "a", "b", "c"]
    assert names(listing.matching(COSTLY, agent_query([("sort", "-cost")]))) == ["c", "a", "b", "d"]


def test_agents_that_were_never_active_come_last() -> None:
    assert names(listing.matching(COSTLY, agent_query([("sort", "lastActivityAt")]))) == ["b", "a", "c", "d"]
    assert names(listing.matching(COSTLY, agent_query([("sort", "-lastActivityAt")]))) == ["a", "b", "c", "d"]


def test_without_an_order_the_newest_come_first_and_those_of_one_second_by_name() -> None:
    some = rows(
        {"name": "old", "createdAt": "2025-01-01T00:00:00Z"},
        {"name": "b", "createdAt": "2026-02-01T00:00:00Z"},
        {"name": "a", "createdAt": "2026-02-01T00:00:00Z"},
    )
    assert names(listing.matching(some, agent_query([]))) == ["a", "b", "old"]
    assert names(listing.matching(some, agent_query([("sort", "-created")]))) == ["a", "b", "old"]
    assert names(listing.matching(some, agent_query([("sort", "created")]))) == ["old", "a", "b"]


def test_the_published_keys_and_the_fields_of_an_agent_are_orders() -> None:
    for one, other in (("created", "createdAt"), ("lastActive", "lastActivityAt")):
        for sign in ("", "-"):
            assert agent_query([("sort", sign + one)]) == agent_query([("sort", sign + other)])
    some = rows({"name": "a", "status": "Running"}, {"name": "b", "status": "Failed", "model": "claude-opus-5-5"})
    assert names(listing.matching(some, agent_query([("sort", "status")]))) == ["b", "a"]
    assert names(listing.matching(some, agent_query([("sort", "-status")]))) == ["a", "b"]
    assert names(listing.matching(some, agent_query([("sort", "model")]))) == ["b", "a"]
    assert names(listing.matching(some, agent_query([("sort", "name")]))) == ["a", "b"]


def test_pages_hold_everything_once() -> None:
    seen, offset = [], 0
    while True:
        asked = agent_query([("sort", "-cost"), ("limit", "3"), ("offset", str(offset))])
        body = orjson.loads(encode_page(listing.matching(COSTLY, asked), asked, listing.Facets([], [])))
        seen += [agent["name"] for agent in body["agents"]]
        assert body["total"] == 4
        if "nextOffset" not in body:
            break
        offset = body["nextOffset"]
    assert seen == ["c", "a", "b", "d"]


def test_text_is_found_in_name_instructions_and_last_message_whatever_its_case() -> None:
    some = rows({"name": "x", "instructions": "Straße"}, {"name": "y", "lastTaskMessage": "Calling BASH"})
    assert names(listing.matching(some, agent_query([("q", "STRASSE")]))) == ["x"]
    assert names(listing.matching(some, agent_query([("q", "bash")]))) == ["y"]
    assert names(listing.matching(some, agent_query([("q", "Y")]))) == ["y"]


def test_only_a_request_without_filters_is_plain() -> None:
    assert agent_query([("namespace", "team"), ("hideArchived", "true"), ("other", "1")]).is_unfiltered
    assert not agent_query([("limit", "1")]).is_unfiltered
