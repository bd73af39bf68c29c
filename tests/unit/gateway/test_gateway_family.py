"""Whose an agent is, and what may be given to it."""

from typing import Any

import pytest

from komputer.domain import names
from komputer.domain.agent import Agent
from komputer.domain.errors import Forbidden, Invalid
from komputer.gateway.managers import ownership


def manifest(name: str, manager: str | None = None, **spec: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": "team", "uid": f"uid-{name}"}
    if manager:
        owner = {"apiVersion": names.API_VERSION, "kind": "KomputerAgent", "name": manager, "uid": f"uid-{manager}"}
        metadata["ownerReferences"] = [owner]
    return {"metadata": metadata, "spec": {"instructions": "x", "model": "m", **spec}}


TREE = {each["metadata"]["name"]: each for each in (manifest("a"), manifest("b", "a"), manifest("c", "b"))}
A = Agent.model_validate(TREE["a"])


def test_an_agent_is_that_of_all_above_it() -> None:
    assert ownership.managers_of(TREE["c"], TREE.get) == ["uid-b", "uid-a"]
    ownership.require_own(A, TREE["c"], TREE.get)
    with pytest.raises(Forbidden, match="not one of yours"):
        ownership.require_own(Agent.model_validate(TREE["c"]), TREE["a"], TREE.get)


def test_a_manager_of_the_same_name_made_later_has_no_children() -> None:
    newer = {**TREE, "a": {**TREE["a"], "metadata": {**TREE["a"]["metadata"], "uid": "uid-new"}}}
    with pytest.raises(Forbidden):
        ownership.require_own(Agent.model_validate(newer["a"]), TREE["b"], newer.get)


def test_a_tree_that_goes_round_in_a_circle_comes_to_an_end() -> None:
    circle = {"a": manifest("a", "b"), "b": manifest("b", "a")}
    assert len(ownership.managers_of(circle["a"], circle.get)) == ownership.MAX_DEPTH


def test_the_limits_of_depth_and_number() -> None:
    ownership.require_room(A, TREE["a"], TREE.get, 9, None)
    ownership.require_room(A, TREE["b"], TREE.get, 0, None)
    with pytest.raises(Forbidden, match="nested at most 2"):
        ownership.require_room(A, TREE["c"], TREE.get, 0, None)
    with pytest.raises(Forbidden, match="as many as you may have"):
        ownership.require_room(A, TREE["a"], TREE.get, 10, None)


def test_a_child_has_no_more_than_its_manager() -> None:
    manager = Agent.model_validate(
        manifest("a", connectors=["git"], allowedTools=["Read"], disallowedTools=["Bash"], secrets=["s"])
    )
    given = ownership.settings_of_child(manager, "worker", None, None, ["git"])
    assert given == {
        "role": "worker",
        "model": "m",
        "templateRef": "default",
        "connectors": ["git"],
        "allowedTools": ["Read"],
        "disallowedTools": ["Bash"],
        "officeManager": "a",
    }
    with pytest.raises(Invalid, match="you have no connector 'mail'"):
        ownership.settings_of_child(manager, "worker", None, None, ["mail"])


def test_a_task_id_follows_from_the_call() -> None:
    task = "01M85YRSC75NS6QDFF19GM95DJ"
    first = ownership.task_id_of(A, task, "toolu_1")
    assert first == ownership.task_id_of(A, task, "toolu_1") != ownership.task_id_of(A, task, "toolu_2")
    assert len(first) == 26
    assert ownership.task_id_of(A, task, None) != ownership.task_id_of(A, task, None)


def test_the_office_of_a_long_name_is_a_label() -> None:
    assert names.office_name("boss") == "boss-office"
    assert len(names.office_name("x" * 63)) == 63
    assert names.office_name("x" * 63) != names.office_name("x" * 62)
