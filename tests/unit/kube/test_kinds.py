"""Where objects are, and that a name leads nowhere else."""

import pytest

from komputer.domain.errors import Invalid
from komputer.kube import AGENTS, CLUSTER_TEMPLATES, PODS, Manifest
from komputer.kube.cache import without_managed_fields
from komputer.kube.selector import selects


def test_paths_are_those_of_the_kubernetes_api() -> None:
    assert PODS.path() == "/api/v1/pods"
    assert PODS.path("team", "ada-pod", "log") == "/api/v1/namespaces/team/pods/ada-pod/log"
    agents = "/apis/komputer.komputer.ai/v1alpha1/namespaces/team/komputeragents"
    assert AGENTS.path("team") == agents
    assert AGENTS.path("team", "ada", "status") == f"{agents}/ada/status"
    templates = "/apis/komputer.komputer.ai/v1alpha1/komputeragentclustertemplates"
    assert CLUSTER_TEMPLATES.path("team", "system:default") == f"{templates}/system%3Adefault"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../secrets/key", "a%2fb", "a b", "a\n", "a?watch=true/.."])
def test_what_cannot_be_a_name_leads_nowhere(name: str) -> None:
    with pytest.raises(Invalid) as refused:
        PODS.path("team", name)
    assert refused.value.field == "metadata.name"


def test_a_question_mark_stays_within_the_name() -> None:
    assert PODS.path("team", "a?watch=true").endswith("/pods/a%3Fwatch%3Dtrue")


def test_an_object_without_its_namespace_is_not_looked_for() -> None:
    with pytest.raises(Invalid, match="lives in a namespace"):
        PODS.path(None, "ada-pod")


def labelled(**labels: str) -> Manifest:
    return {"metadata": {"name": "ada", "labels": labels}}


@pytest.mark.parametrize(
    ("selector", "labels", "matches"),
    [
        (None, {}, True),
        ("a=1", {"a": "1"}, True),
        ("a==1", {"a": "1"}, True),
        ("a==1", {"a": "2"}, False),
        ("a=", {"a": ""}, True),
        ("a!=1", {"a": "2"}, True),
        ("a!=1", {"a": "1"}, False),
        ("a!=1", {}, True),
        ("a", {"a": ""}, True),
        ("a", {}, False),
        ("!a", {}, True),
        ("!a", {"a": "1"}, False),
        ("a=1, b", {"a": "1", "b": "2"}, True),
        ("a=1,b", {"a": "1"}, False),
    ],
)
def test_a_selector_is_read_as_the_server_reads_it(selector: str | None, labels: dict[str, str], matches: bool) -> None:
    assert selects(selector)(labelled(**labels)) is matches


def test_a_set_based_selector_is_refused_rather_than_misread() -> None:
    with pytest.raises(Invalid):
        selects("a in (b, c)")


def test_an_object_without_labels_matches_nothing_that_asks_for_one() -> None:
    assert not selects("a")({"metadata": {"name": "ada"}})


def test_managed_fields_are_left_out_of_a_copy() -> None:
    manifest = {"metadata": {"name": "ada", "managedFields": [{}]}, "spec": {}}
    assert without_managed_fields(manifest) == {"metadata": {"name": "ada"}, "spec": {}}
    assert manifest["metadata"] == {"name": "ada", "managedFields": [{}]}
