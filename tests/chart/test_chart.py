"""The chart: what it renders for three sets of values, what it refuses, and what holds of all that it makes."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from komputer.serve.rights import IN_NAMESPACES, OF_THE_CLUSTER
from tests.chart.rendering import CHART, SNAPSHOTS, VALUES, Json, helm, objects, rendered, text_of

pytestmark = pytest.mark.skipif(helm() is None, reason="helm is not built: hack/kubernetes/build.sh helm")
BY_NAME = {path.stem: path for path in VALUES}
WORKLOADS = ("Deployment", "StatefulSet")
FOREIGN = ("monitoring.coreos.com/v1", "gateway.networking.k8s.io/v1")
"""Kinds that a cluster has only with somebody else's definitions."""
SETS = pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)


def pods(text: str) -> Iterator[tuple[str, Json]]:
    for found in objects(text):
        if found["kind"] in WORKLOADS:
            yield found["metadata"]["name"], found["spec"]["template"]["spec"]


@SETS
def test_it_renders_as_it_did(values: Path) -> None:
    """Snapshots are written anew by `make generated`; their diff is what a reviewer looks at."""
    assert text_of(values) == (SNAPSHOTS / values.name).read_text("utf-8")


@SETS
def test_helm_finds_nothing_wrong(values: Path) -> None:
    command = [str(helm()), "lint", "--strict", str(CHART), "--kube-version", "1.33", "-f", str(values)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "the model has no credential"),
        (("model.offline=true", "api.replica=2"), "additional properties 'replica' not allowed"),
        (("model.offline=true", "api.auth=oidc"), "must be one of"),
        (("model.offline=true", "api.replicas=two"), "got string, want integer"),
        (("model.offline=true", "redis.url=http://redis"), "does not match pattern"),
        (("model.offline=true", "namespaces={Team}"), "does not match pattern"),
        (("model.bedrock.region=eu-west-1",), "the model has no credential"),
        (("model.bedrock.region=a1", "model.vertex.project=acme-ai"), "not both"),
        (("model.vertex.region=eu/west",), "does not match pattern"),
        (("model.offline=true", "httpRoute.enabled=true"), "httpRoute.parentRefs names no Gateway"),
    ],
)
def test_what_cannot_work_is_refused_with_a_sentence(options: tuple[str, ...], says: str) -> None:
    done = rendered(*(part for option in options for part in ("--set", option)))
    assert done.returncode != 0
    assert says in done.stderr


@SETS
def test_pods_are_restricted_and_no_credential_stands_in_an_environment(values: Path) -> None:
    for name, spec in pods(text_of(values)):
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert not any("secretKeyRef" in json.dumps(entry) for entry in container.get("env", ())), name
            assert container["resources"]["requests"], name
        if name.endswith(("valkey", "offline-model")):
            assert spec["automountServiceAccountToken"] is False


@SETS
def test_only_the_gateway_has_the_models_credential(values: Path) -> None:
    mounts = ((name, volume["name"]) for name, spec in pods(text_of(values)) for volume in spec.get("volumes", ()))
    holders = [name for name, volume in mounts if volume == "model"]
    assert holders == ([] if values.stem == "offline" else ["komputer-gateway"])


def test_the_platforms_own_secrets_are_told_to_it() -> None:
    (config,) = (found for found in objects(text_of(BY_NAME["production"])) if found["kind"] == "KomputerConfig")
    named = {each["name"] for each in config["spec"]["platformSecrets"]}
    assert named == {"anthropic", "redis", "sentinels"}
    assert all(each["namespace"] == "komputer" for each in config["spec"]["platformSecrets"])


def test_with_a_list_of_namespaces_nothing_of_others_may_be_touched() -> None:
    found = list(objects(text_of(BY_NAME["namespaced"])))
    cluster_wide: list[Any] = [rule for role in found if role["kind"] == "ClusterRole" for rule in role["rules"]]
    resources = {resource for rule in cluster_wide for resource in rule["resources"]}
    kinds = {"komputerconfigs", "komputeragentclustertemplates"}
    own = kinds | {f"{kind}/status" for kind in kinds} | {"namespaces"}
    assert resources == own | {"tokenreviews", "subjectaccessreviews"}
    roles = {(role["metadata"]["namespace"], role["metadata"]["name"]) for role in found if role["kind"] == "Role"}
    parts = ("api", "gateway", "operator")
    assert roles - {("komputer", "komputer-operator-lease")} == {
        (namespace, f"komputer-komputer-{part}") for namespace in ("team-a", "team-b") for part in parts
    }


@pytest.mark.parametrize("part", ["api", "gateway", "operator"])
def test_the_chart_grants_what_the_parts_ask_for_and_no_more(part: str) -> None:
    found = objects(text_of(BY_NAME["offline"]))
    roles = {role["metadata"]["name"]: role["rules"] for role in found if role["kind"] == "ClusterRole"}

    def flat(rules: Any) -> set[tuple[str, str, str]]:
        return {
            (group, resource, verb) for group, resources, verbs in rules for resource in resources for verb in verbs
        }

    rules = roles[f"komputer-komputer-{part}"]
    granted = [(rule["apiGroups"][0], rule["resources"], rule["verbs"]) for rule in rules]
    assert flat(granted) == flat(IN_NAMESPACES[part] + OF_THE_CLUSTER[part])


def test_the_resource_definitions_are_part_of_it_and_stay_when_it_goes() -> None:
    """Helm keeps what stands in crds/ on uninstall."""
    ours = {path.name: path.read_text() for path in (CHART.parents[1] / "src/komputer/domain/crds").glob("*.yaml")}
    assert {path.name: path.read_text() for path in (CHART / "crds").glob("*.yaml")} == ours


def kubectl(kubeconfig: Path, *arguments: str, given: str = "") -> str:
    """What it prints, warnings included."""
    command = ["kubectl", f"--kubeconfig={kubeconfig}", *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@SETS
def test_a_real_api_server_takes_all_of_it(values: Path, request: pytest.FixtureRequest) -> None:
    """Its schemas, its validation, its Pod Security admission; nothing is kept."""
    kubeconfig = request.config.getoption("kubeconfig")
    if kubeconfig is None:
        pytest.skip("wants a real API server: make test-kubernetes")
    for definition in sorted((CHART / "crds").glob("*.yaml")):
        kubectl(kubeconfig, "apply", "--server-side", "--force-conflicts", "-f", str(definition))
    for namespace in ("komputer", "team-a", "team-b"):
        labelled = {"name": namespace, "labels": {"pod-security.kubernetes.io/warn": "restricted"}}
        made = {"apiVersion": "v1", "kind": "Namespace", "metadata": labelled}
        kubectl(kubeconfig, "apply", "-f", "-", given=json.dumps(made))
    ours = [found for found in objects(text_of(values)) if found["apiVersion"] not in FOREIGN]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": ours})
    said = kubectl(kubeconfig, "create", "--dry-run=server", "--validate=strict", "-f", "-", given=listed)
    assert "Warning" not in said
    assert said.count("created (server dry run)") == len(ours)
