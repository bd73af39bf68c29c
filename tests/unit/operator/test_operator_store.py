import httpx2

from komputer.domain.base import Manifest
from komputer.domain.ref import ObjectRef
from komputer.kube import AGENTS, CLUSTER_TEMPLATES, CONFIGS, CONNECTORS, PODS, TEMPLATES, Cluster, Kind
from komputer.operator.cluster_state import ClusterState

ADA, EVE = ObjectRef("team", "ada"), ObjectRef("crew", "eve")


def manifest(name: str, version: int, uid: str = "", namespace: str | None = "team", **rest: object) -> Manifest:
    metadata: Manifest = {"name": name, "uid": uid or f"uid-of-{name}", "resourceVersion": str(version)}
    if namespace:
        metadata["namespace"] = namespace
    return {"metadata": metadata, **rest}


def pod(name: str, version: int, owner: str) -> Manifest:
    found = manifest(name, version)
    found["metadata"]["labels"] = {"komputer.ai/agent-name": owner}
    return found


class Woken(list[ObjectRef]):
    def take(self) -> list[ObjectRef]:
        found = list(self)
        self.clear()
        return found


def store_that_wakes(kind: Kind, woken: list[ObjectRef]) -> ClusterState:
    def wake(of: Kind, ref: ObjectRef) -> None:
        if of is kind:
            woken.append(ref)

    return ClusterState(Cluster(httpx2.AsyncClient()), None, wake)


def two_agents() -> tuple[ClusterState, Woken]:
    woken = Woken()
    store = store_that_wakes(AGENTS, woken)
    store.read(AGENTS, manifest("ada", 1, spec={"templateRef": "mine"}))
    store.read(AGENTS, manifest("eve", 2, namespace="crew", spec={}))
    woken.clear()
    return store, woken


def test_a_change_wakes_the_agents_that_it_affects() -> None:
    store, woken = two_agents()
    store.read(PODS, pod("ada-pod", 3, "ada"))
    assert woken.take() == [ADA]
    store.read(CONFIGS, manifest("default", 4, namespace=None))
    assert woken.take() == [ADA, EVE]
    store.read(TEMPLATES, manifest("mine", 5))
    assert woken.take() == [ADA]
    store.read(CLUSTER_TEMPLATES, manifest("default", 6, namespace=None))
    assert woken.take() == [EVE]
    store.read(TEMPLATES, manifest("mine", 7, uid="other", namespace="crew"))
    assert woken.take() == []


def test_a_connector_wakes_the_agents_of_its_namespace_that_name_it() -> None:
    store, woken = two_agents()
    store.read(AGENTS, manifest("ada", 3, spec={"connectors": ["git"]}))
    store.read(AGENTS, manifest("eve", 4, namespace="crew", spec={"connectors": ["git"]}))
    woken.clear()
    store.read(CONNECTORS, manifest("git", 5))
    assert woken.take() == [ADA]
    store.read(CONNECTORS, manifest("mail", 6))
    assert woken.take() == []
    store.deleted(CONNECTORS, manifest("git", 7))
    assert woken.take() == [ADA]


def test_our_own_write_wakes_no_agent_not_even_when_the_watch_delivers_it() -> None:
    store, woken = two_agents()
    ours = pod("ada-pod", 3, "ada")
    assert store.wrote(PODS, ours)
    store.read(PODS, dict(ours))
    assert woken.take() == []
    assert store.get(PODS, "team", "ada-pod") == ours


def test_an_older_state_never_replaces_a_newer_one() -> None:
    store, woken = two_agents()
    store.read(AGENTS, manifest("ada", 9, spec={"n": 9}))
    store.read(AGENTS, manifest("ada", 8, spec={"n": 8}))
    found = store.get(AGENTS, *ADA)
    assert found
    assert found["spec"] == {"n": 9}
    assert woken.take() == [ADA]


def test_a_deleted_object_does_not_come_back_with_a_late_answer() -> None:
    store, _ = two_agents()
    store.read(PODS, pod("ada-pod", 3, "ada"))
    store.deleted(PODS, pod("ada-pod", 4, "ada"))
    assert not store.wrote(PODS, pod("ada-pod", 3, "ada"))
    assert store.get(PODS, "team", "ada-pod") is None


def test_what_the_watch_does_not_tell_of_is_not_held() -> None:
    store, woken = two_agents()
    assert not store.wrote(PODS, manifest("ada-pod", 3))
    assert store.get(PODS, "team", "ada-pod") is None
    assert woken.take() == []


def test_the_deletion_of_an_old_agent_leaves_the_new_one_of_its_name() -> None:
    """A watch that had to begin anew may tell these two in either order."""
    store, _ = two_agents()
    store.read(AGENTS, manifest("ada", 20, uid="new"))
    store.deleted(AGENTS, manifest("ada", 19))
    found = store.get(AGENTS, *ADA)
    assert found
    assert found["metadata"]["uid"] == "new"
    assert store.deleted_uids(ADA) == {"uid-of-ada"}
    store.forget_deleted(ADA, "uid-of-ada")
    assert store.deleted_uids(ADA) == frozenset()


def test_a_connector_has_a_turn_when_it_changes_and_when_an_agent_begins_or_ends_to_name_it() -> None:
    woken: list[ObjectRef] = []
    store = store_that_wakes(CONNECTORS, woken)

    def take() -> list[str]:
        found = sorted(key.name for key in woken)
        woken.clear()
        return found

    store.read(CONNECTORS, manifest("git", 1, spec={"url": "a"}))
    assert take() == ["git"]
    store.read(CONNECTORS, manifest("git", 2, spec={"url": "a"}, status={"attachedAgents": 0}))
    assert take() == [], "our own word on it"
    store.read(CONNECTORS, manifest("git", 3, spec={"url": "b"}))
    assert take() == ["git"]
    store.read(AGENTS, manifest("ada", 4, spec={"connectors": ["git", "mail"]}))
    assert take() == ["git", "mail"]
    assert store.agents_of(ObjectRef("team", "git")) == ["ada"]
    store.read(AGENTS, manifest("ada", 5, spec={"connectors": ["git", "mail"]}, status={"phase": "Running"}))
    assert take() == []
    store.read(AGENTS, manifest("ada", 6, spec={"connectors": ["mail"]}))
    assert take() == ["git"]
    store.deleted(AGENTS, manifest("ada", 7))
    assert take() == ["mail"]
    assert store.agents_of(ObjectRef("team", "mail")) == []
