"""Fields that are accepted and have no effect are named by a condition of the object that sets them."""

from typing import Any

import pytest

from komputer.domain.base import Manifest, Resource
from komputer.kube import CLUSTER_TEMPLATES, CONFIGS, TEMPLATES, Kind
from komputer.operator.agent.decide import decide
from komputer.operator.controllers.ignored_fields import TYPES, status_of
from tests.unit.operator.given import NOW, agent, observed, task_id

POD_SPEC: Manifest = {"containers": [{"name": "agent", "image": "komputer-agent"}]}
SECRET: Manifest = {"name": "model", "key": "token"}


def conditions(kind: Kind, spec: Manifest, status: Manifest | None = None) -> dict[str, Manifest]:
    manifest = {"metadata": {"name": "default", "generation": 3}, "spec": spec, "status": status or {}}
    found = status_of(kind, manifest, NOW)
    assert found["observedGeneration"] == 3
    return {each["type"]: each for each in found["conditions"]}


def message(condition: Manifest) -> str:
    assert (condition["status"], condition["reason"]) == ("False", "FieldsNotSupported")
    assert condition["observedGeneration"] == 3
    return str(condition["message"]).removeprefix("no effect in this release: ")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("internalSystemPrompt", "be kind"),
        ("memories", ["m"]),
        ("skills", ["s"]),
        ("lifecycle", "Sleep"),
        ("podSpec", {"nodeName": "n"}),
        ("priority", 2),
        ("storage", {"size": "1Gi"}),
    ],
)
def test_an_agent_names_a_field_without_effect(field: str, value: Any) -> None:
    found = decide(observed(agent(spec={field: value})), task_id(99)).status.conditions
    [condition] = [each for each in found if each.type == "FieldsSupported"]
    assert (condition.status, condition.message) == ("False", f"no effect in this release: spec.{field}")


@pytest.mark.parametrize("kind", [TEMPLATES, CLUSTER_TEMPLATES])
@pytest.mark.parametrize(("field", "value"), [("maxConcurrentAgents", 5), ("anthropicKeySecretRef", SECRET)])
def test_a_template_names_a_field_without_effect(kind: Kind, field: str, value: Any) -> None:
    found = conditions(kind, {"podSpec": POD_SPEC, field: value})
    assert message(found["FieldsSupported"]) == f"spec.{field}"
    assert found["Ready"]["status"] == "True"


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"redis": {"address": "redis:6379"}}, "spec.redis.address"),
        ({"redis": {"address": "", "db": 3}}, "spec.redis.db"),
        ({"redis": {"address": "", "streamPrefix": "mine"}}, "spec.redis.streamPrefix"),
        ({"redis": {"address": ""}, "apiURL": "http://api"}, "spec.apiURL"),
    ],
)
def test_a_configuration_names_a_field_without_effect(spec: Manifest, named: str) -> None:
    assert message(conditions(CONFIGS, spec)["FieldsSupported"]) == named


def test_an_object_without_such_fields_has_no_such_condition() -> None:
    spec = {"podSpec": POD_SPEC, "maxConcurrentAgents": 0}
    assert "FieldsSupported" not in conditions(TEMPLATES, spec)
    before = status_of(TEMPLATES, {"metadata": {"name": "d"}, "spec": spec | {"maxConcurrentAgents": 1}}, NOW)
    assert conditions(TEMPLATES, spec, before)["FieldsSupported"]["status"] == "True"


def test_an_invalid_object_says_what_is_wrong() -> None:
    found = conditions(CONFIGS, {"redis": {"address": "redis:6379"}, "stallSeconds": "soon"})
    assert (found["Ready"]["status"], found["Ready"]["reason"]) == ("False", "SpecInvalid")
    assert found["Ready"]["message"].startswith("spec.stallSeconds: ")


@pytest.mark.parametrize("resource", TYPES.values(), ids=lambda resource: resource.kind_name)
def test_a_status_of_ours_is_read_back(resource: type[Resource]) -> None:
    spec = {"podSpec": POD_SPEC, "redis": {"address": "redis:6379"}}
    kind = next(kind for kind, each in TYPES.items() if each is resource)
    manifest: Manifest = {"metadata": {"name": "default", "generation": 1}, "spec": spec}
    again = manifest | {"status": status_of(kind, manifest, NOW)}
    assert status_of(kind, again, NOW) == again["status"]
    assert resource.model_validate(again)
