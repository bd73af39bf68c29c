"""What the NetworkPolicies do: those that the chart renders and that the operator makes, enforced by nftables between
network namespaces that stand for pods."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from komputer.domain import names
from komputer.domain.config import ConfigSpec
from komputer.operator.agent.desired.namespace import network_policy
from tests.chart.rendering import SNAPSHOTS
from tests.policies.mesh import Mesh, Reached
from tests.policies.rules import Json, Pod

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("nft") or not shutil.which("ip"), reason="wants root, nft and ip"
)
PORTS = [("tcp", 53), ("udp", 53), ("tcp", 443), ("tcp", 6379), ("tcp", 8080), ("tcp", 8081)]
PARTS = ("api", "gateway", "operator", "valkey", "offline-model")


def rendered(name: str) -> list[Json]:
    return [each for each in yaml.safe_load_all((SNAPSHOTS / f"{name}.yaml").read_text("utf-8")) if each]


def policies(name: str, *namespaces: str) -> list[Json]:
    """The chart's, and those that the operator makes of its configuration in each namespace with agents."""
    found = [each for each in rendered(name) if each["kind"] == "NetworkPolicy"]
    (config,) = (each for each in rendered(name) if each["kind"] == "KomputerConfig")
    spec = ConfigSpec.model_validate(config["spec"])
    return found + [policy for namespace in namespaces if (policy := network_policy(namespace, spec))]


def _pods() -> Iterator[Pod]:
    """With the labels and ports of the chart's own pods."""
    workloads = {each["metadata"]["name"]: each for each in rendered("offline") if each["kind"] != "Service"}
    for n, part in enumerate(PARTS):
        template: Any = workloads[f"komputer-{part}"]["spec"]["template"]
        ports = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0].get("ports", ())}
        yield Pod(part, "komputer", f"10.77.0.{n + 1}", template["metadata"]["labels"], ports)
    yield Pod("dns", "kube-system", "10.77.1.1", {"k8s-app": "kube-dns"})
    yield Pod("ada", "team-a", "10.77.2.1", {names.AGENT_LABEL: "ada"})
    yield Pod("bob", "team-a", "10.77.2.2", {names.AGENT_LABEL: "bob"})
    yield Pod("shop", "team-a", "10.77.2.3", {"app": "shop"})
    yield Pod("outside", None, "192.0.2.7")


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with Mesh(list(_pods()), PORTS) as mesh:
        yield mesh


def everything_but(name: str, mesh: Mesh) -> Reached:
    return {(pod.name, *port) for pod in mesh.pods if pod.name != name for port in PORTS}


def test_without_policies_everybody_reaches_everybody(mesh: Mesh) -> None:
    mesh.apply(())
    for name in ("ada", "shop", "outside"):
        assert mesh.reached_from(name) == everything_but(name, mesh)


AGENTS = {("dns", "tcp", 53), ("dns", "udp", 53), ("gateway", "tcp", 8081)}


def test_an_agent_reaches_names_and_the_gateway_and_nobody_reaches_an_agent(mesh: Mesh) -> None:
    mesh.apply(policies("offline", "team-a"))
    assert mesh.reached_from("ada") == AGENTS
    assert mesh.reaching("ada") == set()
    assert {at for at, *_ in mesh.reached_from("shop")} >= {"outside", "gateway", "dns"}, (
        "who is no agent is left alone"
    )


def test_a_namespace_without_the_policy_is_not_fenced(mesh: Mesh) -> None:
    """So that what is seen above is the policy's doing."""
    mesh.apply(policies("offline", "team-b"))
    assert ("outside", "tcp", 443) in mesh.reached_from("ada")


def test_redis_is_reached_by_api_gateway_and_operator_only_and_reaches_nobody(mesh: Mesh) -> None:
    mesh.apply(policies("offline", "team-a"))
    assert mesh.reaching("valkey") == {(part, "tcp", 6379) for part in ("api", "gateway", "operator")}
    assert mesh.reached_from("valkey") == set()


def test_agents_reach_what_an_installation_allows_beside(mesh: Mesh) -> None:
    mesh.apply(policies("production", "team-a"))
    assert mesh.reached_from("ada") == AGENTS | {("outside", "tcp", 443)}


def test_policies_that_are_switched_off_are_not_there(mesh: Mesh) -> None:
    assert policies("namespaced", "team-a") == []
