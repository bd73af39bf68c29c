import json
from pathlib import Path
from typing import Any

import pytest

from komputer.domain.base import Manifest
from komputer.domain.template import TemplateSpec
from komputer.operator.agent.children import desired_children
from komputer.operator.agent.desired import PodImpossible, grown, pod, service_account
from tests.unit.operator.given import CONFIG, TEMPLATE, agent, made, pvc

SNAPSHOT = Path(__file__).with_name("ada.json")


def of(pod_spec: Manifest, **spec: Any) -> Manifest:
    return pod(agent(spec=spec), TemplateSpec.model_validate({"podSpec": pod_spec}), CONFIG)


def container(found: Manifest, n: int = 0) -> Manifest:
    one: Manifest = found["spec"]["containers"][n]
    return one


def test_all_children_of_an_agent_are_as_in_the_snapshot() -> None:
    """After a wanted change write the new one: `python -m tests.unit.operator.test_operator_desired`."""
    assert whole() == json.loads(SNAPSHOT.read_text())


def whole() -> Manifest:
    ours = {"komputer.ai/agent-name": "eve", "komputer.ai/squad": "s", "komputer.ai/personal-agent": "true"}
    found = made(agent(spec={"labels": {"crew": "blue", **ours}}))
    return {**found, "serviceAccount": service_account("team")}


def test_the_agents_container_is_the_one_of_that_name_or_the_first() -> None:
    side, main = {"name": "side", "image": "x"}, {"name": "agent", "image": "komputer-agent"}
    named = of({"containers": [side, main]})
    assert "envFrom" not in container(named)
    assert "envFrom" in container(named, 1)
    first = of({"containers": [side, {"name": "other", "image": "y"}]})
    assert "envFrom" in container(first)
    assert "envFrom" not in container(first, 1)


def test_every_container_is_hardened_and_a_template_loosens_by_name_only() -> None:
    loose = {"readOnlyRootFilesystem": False}
    found = of(
        {
            "initContainers": [{"name": "i", "image": "x"}],
            "containers": [{"name": "agent", "image": "a", "securityContext": loose}, {"name": "b", "image": "b"}],
        }
    )
    assert found["spec"]["initContainers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert container(found)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container(found, 1)["securityContext"]["readOnlyRootFilesystem"] is True


def test_identity_and_restarts_are_not_the_templates_to_choose() -> None:
    spec = of(
        {
            "containers": [{"name": "agent", "image": "a"}],
            "serviceAccountName": "cluster-admin",
            "serviceAccount": "cluster-admin",
            "automountServiceAccountToken": True,
            "restartPolicy": "Never",
        }
    )["spec"]
    assert spec["serviceAccountName"] == "komputer-agent"
    assert "serviceAccount" not in spec
    assert spec["automountServiceAccountToken"] is False
    assert spec["restartPolicy"] == "Always"


def test_a_templates_model_credential_does_not_reach_the_pod() -> None:
    env = [{"name": "ANTHROPIC_API_KEY", "value": "k"}, {"name": "TZ", "value": "UTC"}]
    found = of({"containers": [{"name": "agent", "image": "a", "env": env}]})
    assert [entry["name"] for entry in container(found)["env"]] == ["TZ", "KOMPUTER_TOKEN_FILE", "KOMPUTER_WORKSPACE"]


def test_what_a_template_puts_in_our_places_gives_way() -> None:
    mounts = [
        {"name": "workspace", "mountPath": "/elsewhere"},
        {"name": "data", "mountPath": "/workspace/"},
        {"name": "scratch", "mountPath": "/tmp"},
        {"name": "data", "mountPath": "/data"},
    ]
    volumes = [{"name": "workspace", "emptyDir": {}}, {"name": "data", "emptyDir": {}}]
    found = of(
        {
            "containers": [
                {
                    "name": "agent",
                    "image": "a",
                    "volumeMounts": mounts,
                    "env": [{"name": "KOMPUTER_AGENT", "value": "eve"}],
                }
            ],
            "volumes": volumes,
        }
    )
    assert [(m["name"], m["mountPath"]) for m in container(found)["volumeMounts"]] == [
        ("scratch", "/tmp"),
        ("data", "/data"),
        ("workspace", "/workspace"),
        ("komputer-token", "/var/run/secrets/komputer"),
    ]
    assert [v["name"] for v in found["spec"]["volumes"]] == ["data", "workspace", "komputer-token", "komputer-tmp"]
    assert found["spec"]["volumes"][1]["persistentVolumeClaim"] == {"claimName": "ada-pvc"}
    assert all(entry["name"] != "KOMPUTER_AGENT" for entry in container(found)["env"])


@pytest.mark.parametrize(
    "nonsense", [{}, {"containers": []}, {"containers": "x"}, {"containers": [1]}, {"containers": {"a": 1}}]
)
def test_a_template_without_a_container_makes_no_pod(nonsense: Manifest) -> None:
    with pytest.raises(PodImpossible, match="containers"):
        of(nonsense)


def test_the_template_itself_is_never_changed() -> None:
    before = TEMPLATE.model_dump_json()
    desired_children(agent(), TEMPLATE, CONFIG)
    assert TEMPLATE.model_dump_json() == before


def test_the_digest_follows_the_template() -> None:
    def digest(image: str) -> str:
        found = of({"containers": [{"name": "agent", "image": image}]})
        return str(found["metadata"]["annotations"]["komputer.ai/made-from"])

    assert digest("a") == digest("a")
    assert digest("a") != digest("b")


@pytest.mark.parametrize(
    ("has", "wants", "patch"),
    [
        ("5Gi", "5Gi", None),
        ("5Gi", "10Gi", "10Gi"),
        ("10Gi", "5Gi", None),
        ("5G", "5Gi", "5Gi"),
        ("1024Mi", "1Gi", None),
    ],
)
def test_a_disk_grows_and_never_shrinks(has: str, wants: str, patch: str | None) -> None:
    found = grown(pvc(size=has), pvc(size=wants))
    assert found == (patch and {"spec": {"resources": {"requests": {"storage": patch}}}})


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(whole(), indent=2) + "\n")
