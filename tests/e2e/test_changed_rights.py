"""Rights that are changed: in some namespaces only, or taken away."""

from typing import Any

from tests.e2e.cluster import NAMESPACE, Cluster
from tests.e2e.platform import script


def test_with_a_list_of_namespaces_rights_are_roles_there_and_agents_run(cluster: Cluster) -> None:
    cluster.assign("listed", script({"say": "First."}))
    cluster.end("listed")
    try:
        cluster.upgrade("--set", "namespaces={default}")
        for part in ("api", "gateway", "operator"):
            assert may_list_agents(cluster, part, "default")
            assert not may_list_agents(cluster, part, "policed")
        cluster.ready()
        cluster.assign("listed", script({"tool": "Bash", "input": {"command": "echo here"}}, {"say": "Second."}))
        assert cluster.end("listed", 2)["payload"]["result"] == "Second."
        cluster.assign("listed-too", script({"say": "Third."}))
        assert cluster.end("listed-too")["payload"]["result"] == "Third."
        cluster.settled("listed-too", lastTaskOutcome="completed")
        elsewhere = cluster.http.post(
            "/agents", json={"name": "elsewhere", "namespace": "policed", "instructions": script({"say": "No."})}
        )
        assert (elsewhere.status_code, elsewhere.json()["code"]) == (400, "namespace_not_served"), elsewhere.text
    finally:
        cluster.upgrade()
        cluster.ready()


def may_list_agents(cluster: Cluster, part: str, namespace: str) -> bool:
    asked = {"namespace": namespace, "verb": "list", "group": "komputer.komputer.ai", "resource": "komputeragents"}
    review = {"spec": {"user": f"system:serviceaccount:{NAMESPACE}:komputer-{part}", "resourceAttributes": asked}}
    answer: Any = cluster.kubernetes("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review, 201)
    return bool(answer["status"]["allowed"])


def test_the_doctor_tells_what_is_missing(cluster: Cluster) -> None:
    cluster.kubectl("delete", "clusterrolebinding", f"{NAMESPACE}-komputer-gateway")
    try:
        done = cluster.cli("doctor", "--kubeconfig", str(cluster.kubeconfig), "--no-probe")
        assert done.returncode == 1
        assert "lacking: gateway may not" in " ".join(done.stdout.split())
    finally:
        cluster.upgrade()
        cluster.ready()
