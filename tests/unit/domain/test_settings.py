"""A setting of an agent's tasks is declared once: whatever carries settings has every one of them."""

from typing import Any

import pytest
from pydantic import BaseModel

from komputer.api.schemas.agents import AgentResponse, CreateAgent, PatchAgent, settings_given
from komputer.domain.agent import Agent, AgentSpec, AgentTaskSettings
from komputer.gateway.agents.assignment import assignment
from komputer.gateway.managers.ownership import settings_of_child
from komputer.protocol.wire import TaskSettings
from komputer.services.agents.view import agent_view

SETTINGS: dict[str, Any] = {
    "model": "claude-opus-5-5",
    "role": "worker",
    "systemPrompt": "Be brief.",
    "connectors": ["github"],
    "allowedTools": ["Bash"],
    "disallowedTools": ["WebFetch"],
    "effort": "low",
    "maxTurns": 7,
}
"""A value for each setting."""


def agent(**spec: Any) -> Agent:
    metadata = {"name": "ada", "namespace": "team", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return Agent.model_validate({"metadata": metadata, "spec": {"instructions": "Say hello.", **spec}})


def test_every_setting_has_a_value_here() -> None:
    assert {info.alias for info in AgentTaskSettings.model_fields.values()} == SETTINGS.keys()


@pytest.mark.parametrize("carrier", [AgentSpec, CreateAgent, PatchAgent, AgentResponse, TaskSettings])
def test_every_setting_is_part_of_what_carries_settings(carrier: type[BaseModel]) -> None:
    assert SETTINGS.keys() <= carrier.model_json_schema(by_alias=True)["properties"].keys()


def test_settings_travel_from_a_request_to_the_runtime_and_into_the_response() -> None:
    given = settings_given(CreateAgent.model_validate({"name": "ada", "instructions": "Say hello.", **SETTINGS}))
    assert given == SETTINGS
    wire = assignment(agent(**given), None).settings.to_wire()
    assert wire == SETTINGS
    assert agent_view(agent(**given).to_wire(), None).to_wire().items() >= SETTINGS.items()


def test_an_agent_that_a_manager_creates_has_the_settings_of_its_manager_that_the_call_does_not_name() -> None:
    child = settings_of_child(agent(**SETTINGS), "worker", None, None, ["github"])
    inherited = {field: value for field, value in SETTINGS.items() if field != "systemPrompt"}
    assert child == inherited | {"templateRef": "default", "officeManager": "ada"}


@pytest.mark.parametrize("field", SETTINGS)
def test_an_empty_value_clears_a_setting(field: str) -> None:
    empty_values: dict[type, tuple[Any, ...]] = {list: ([],), int: ("", 0)}
    for empty in empty_values.get(type(SETTINGS[field]), ("",)):
        assert settings_given(PatchAgent.model_validate({field: empty})) == {field: None}


def test_what_the_other_side_does_not_know_or_send_changes_nothing_else() -> None:
    """Runtime and gateway may be of different versions."""
    newer = TaskSettings.model_validate({**SETTINGS, "settingOfTomorrow": {"deep": 1}})
    assert newer.to_wire() == SETTINGS
    older = TaskSettings.model_validate({"model": "m", "role": "worker"})
    assert (older.connectors, older.allowed_tools, older.disallowed_tools, older.effort) == ([], None, [], None)
