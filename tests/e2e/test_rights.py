"""What each part asks the Kubernetes API for, by the API server's own audit log: nothing that it may not, and all that
it may. Judged after all other tests, so it counts only where all have run."""

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.cluster import NAMESPACE, Cluster

PARTS = ("api", "gateway", "operator")
Right = tuple[str, str]
"""A verb, and `resource.group` or `resource/subresource.group`."""
RESERVED: dict[str, set[Right]] = {
    # Asked for where a pod's token is faster than the watch of pods.
    "gateway": {("get", "pods")},
    # Asked for by admission control on an operator's behalf, where OwnerReferencesPermissionEnforcement is on.
    "operator": {("update", "komputeragents/finalizers.komputer.komputer.ai")},
}


def rights(rules: list[Any]) -> Iterator[Right]:
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    yield verb, f"{resource}.{group}" if group else resource


def granted(cluster: Cluster) -> dict[str, set[Right]]:
    """By part, from all roles that its ServiceAccount is bound to."""
    found: dict[str, set[Right]] = defaultdict(set)
    everything = json.loads(
        cluster.kubectl("get", "clusterroles,roles,clusterrolebindings,rolebindings", "-A", "-o", "json")
    )
    roles = {(o["kind"], o["metadata"]["name"], o["metadata"].get("namespace")): o for o in everything["items"]}
    for binding in everything["items"]:
        for subject in binding.get("subjects") or ():
            part = subject["name"].removeprefix("komputer-")
            if subject.get("namespace") == NAMESPACE and part in PARTS and subject["kind"] == "ServiceAccount":
                reference = binding["roleRef"]
                place = binding["metadata"].get("namespace") if reference["kind"] == "Role" else None
                found[part].update(rights(roles[reference["kind"], reference["name"], place]["rules"]))
    return found


def asked(cluster: Cluster) -> tuple[dict[str, set[Right]], set[str]]:
    """By part, and what was refused whenever it was asked for: an API server that has just started knows no roles yet,
    and refuses for a moment what it allows before and after."""
    found: dict[str, set[Right]] = defaultdict(set)
    refused: set[str] = set()
    allowed: set[str] = set()
    with (cluster.node / "controlplane" / "audit.log").open() as lines:
        for entry in map(json.loads, lines):
            _, _, place, account = f"{entry['user']['username']}:::".split(":")[:4]
            part, about = account.removeprefix("komputer-"), entry.get("objectRef")
            if place != NAMESPACE or part not in PARTS or not about or "resource" not in about:
                continue
            resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
            group = about.get("apiGroup")
            found[part].add((entry["verb"], f"{resource}.{group}" if group else resource))
            is_refused = entry["annotations"].get("authorization.k8s.io/decision") == "forbid"
            (refused if is_refused else allowed).add(f"{part}: {entry['verb']} {resource} in {about.get('namespace')}")
    return found, refused - allowed


@pytest.fixture
def all_have_run(request: pytest.FixtureRequest) -> None:
    files = {item.path.name for item in request.session.items}
    if not {"test_managers.py", "test_connectors.py", "test_agent_settings.py", "test_cluster.py"} <= files:
        pytest.skip("only after all end-to-end tests: make e2e-kubernetes")


def test_no_part_asks_for_what_it_may_not(cluster: Cluster) -> None:
    _, refused = asked(cluster)
    assert sorted(refused) == []


@pytest.mark.parametrize("part", PARTS)
def test_every_right_of_a_part_is_used(cluster: Cluster, part: str, all_have_run: None) -> None:
    unused = granted(cluster)[part] - asked(cluster)[0][part] - RESERVED.get(part, set())
    assert sorted(unused) == []
