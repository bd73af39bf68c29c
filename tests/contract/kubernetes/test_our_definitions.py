"""The project's CustomResourceDefinitions, as they are installed."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import komputer.domain
from tests.contract.kubernetes.cluster import JSON, TABLE, Api, answered, causes, eventually, refused
from tests.contract.kubernetes.kubectl import Kubectl, versions
from tests.contract.kubernetes.room import CRDS, Room, established

FILES = sorted((Path(komputer.domain.__file__).parent / "crds").glob("*.yaml"))
GROUP = "/apis/komputer.komputer.ai/v1alpha1"


@pytest.fixture(scope="module")
def ours(api: Api) -> Iterator[dict[str, JSON]]:
    """Our definitions by plural name, installed; those that existed before are kept at the end."""
    installed: dict[str, JSON] = {}
    new = []
    for file in FILES:
        definition = yaml.safe_load(file.read_text())
        answer = api.post(CRDS, definition)
        if answer.status_code == 201:
            new.append(definition["metadata"]["name"])
        installed[definition["spec"]["names"]["plural"]] = definition
    for definition in installed.values():
        established(api, definition["metadata"]["name"])
    yield installed
    for name in new:
        answered(api.delete(f"{CRDS}/{name}"))
        gone(api, name)


def gone(api: Api, definition: str) -> None:
    eventually(lambda: api.get(f"{CRDS}/{definition}").status_code, lambda code: code == 404)


def explained(kubectl: Kubectl, what: str) -> str:
    """Return the output of `kubectl explain` once the description is in the server's OpenAPI."""
    return eventually(lambda: kubectl.run("explain", what), lambda done: done.returncode == 0).stdout


def agents(room: Room, *rest: str) -> str:
    return "/".join((GROUP, "namespaces", room.namespace, "komputeragents", *rest))


def agent(name: str, **spec: Any) -> JSON:
    kind = {"apiVersion": "komputer.komputer.ai/v1alpha1", "kind": "KomputerAgent"}
    return {**kind, "metadata": {"name": name}, "spec": {"instructions": "Say hello.", **spec}}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_definition_is_accepted_as_structural(api: Api, ours: dict[str, JSON], file: Path) -> None:
    """A condition would list violations of the rules for structural schemas."""
    name = yaml.safe_load(file.read_text())["metadata"]["name"]
    conditions = {c["type"]: c["status"] for c in answered(api.get(f"{CRDS}/{name}"))["status"]["conditions"]}
    assert conditions["NamesAccepted"] == "True"
    assert conditions.get("NonStructuralSchema", "False") == "False"


def test_an_agent_gets_defaults_and_keeps_its_texts(room: Room, ours: dict[str, JSON]) -> None:
    """The same defaults, whether it was created by `kubectl apply` or by the REST API."""
    answered(room.api.post(agents(room), agent("ada")), 201)
    spec = answered(room.api.get(agents(room, "ada")))["spec"]
    assert spec["instructions"] == "Say hello."
    assert (spec["templateRef"], spec["model"], spec["role"]) == ("default", "claude-sonnet-4-6", "manager")


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"instructions": ""}, "spec.instructions"),
        ({"instructions": "x" * 262145}, "spec.instructions"),
        ({"instructions": 5}, "spec.instructions"),
        ({"role": "emperor"}, "spec.role"),
        ({"model": "no such model!"}, "spec.model"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_agent_that_the_rest_api_would_refuse_is_refused(
    room: Room, ours: dict[str, JSON], spec: JSON, field: str
) -> None:
    """With the path of the invalid field."""
    assert field in causes(room.api.post(agents(room), agent("ada", **spec)))


def test_an_assignment_tests_what_it_read_and_keeps_the_status(room: Room, ours: dict[str, JSON]) -> None:
    """The write behind POST /agents: of two for the same idle agent, one succeeds."""
    created = answered(room.api.post(agents(room), agent("ada")), 201)
    answered(room.api.patch(agents(room, "ada", "status"), {"status": {"phase": "Running"}}))
    task = {"id": "01JD0000000000000000000000", "instructions": "Next.", "covers": {"digest": "0" * 32}}
    steps = [
        {"op": "test", "path": "/metadata/uid", "value": created["metadata"]["uid"]},
        {"op": "test", "path": "/spec/task", "value": None},
        {"op": "test", "path": "/spec/instructions", "value": "Say hello."},
        {"op": "add", "path": "/spec/task", "value": task},
    ]
    patched = answered(room.api.patch(agents(room, "ada"), steps, "application/json-patch+json"))
    assert patched["spec"]["task"]["id"] == task["id"]
    assert patched["status"]["phase"] == "Running"
    refused(room.api.patch(agents(room, "ada"), steps, "application/json-patch+json"), 422, "Invalid")


def test_our_columns_are_shown(room: Room, ours: dict[str, JSON]) -> None:
    """The columns of the definition, in order, after the name."""
    for plural, definition in ours.items():
        (version,) = definition["spec"]["versions"]
        names = [column["name"] for column in version.get("additionalPrinterColumns", [{"name": "Age"}])]
        table = answered(room.api.get(f"{GROUP}/{plural}", accept=TABLE))
        assert [column["name"] for column in table["columnDefinitions"]] == ["Name", *names]


@pytest.mark.skipif(not versions(), reason="no kubectl is installed here")
def test_kubectl_applies_and_explains_our_kinds(
    room: Room, ours: dict[str, JSON], kubeconfig: Path, tmp_path: Path
) -> None:
    """Applied, applied again, edited; explained down to `instructions`."""
    kubectl = Kubectl(program=versions()[-1], kubeconfig=kubeconfig, home=tmp_path, namespace=room.namespace)
    assert kubectl("apply", "-f", "-", stdin=agent("ada")).endswith("/ada created\n")
    assert kubectl("apply", "-f", "-", stdin=agent("ada")).endswith("/ada unchanged\n")
    assert kubectl("apply", "-f", "-", stdin=agent("ada", instructions="Other.")).endswith("/ada configured\n")
    for plural in ours:
        assert explained(kubectl, f"{plural}.komputer.komputer.ai")
    output = explained(kubectl, "komputeragents.spec.instructions")
    assert "a new task each time" in re.sub(r"\s+", " ", output)
