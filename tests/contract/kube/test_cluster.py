"""The client against a Kubernetes API: what it gives back, and what each refusal becomes."""

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from komputer.domain.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable
from komputer.kube import (
    AGENTS,
    CLUSTER_TEMPLATES,
    CONFIG_MAPS,
    EVENTS,
    PODS,
    SERVICE_ACCOUNTS,
    Cluster,
    Kind,
    ResourceExpired,
    WatchEvent,
)
from tests.contract.kube.manifests import agent, pod, version


async def test_what_is_created_can_be_read_and_listed(cluster: Cluster, team: str) -> None:
    made = await cluster.create(AGENTS, agent(team))
    assert made["apiVersion"] == "komputer.komputer.ai/v1alpha1"
    assert made["kind"] == "KomputerAgent"
    assert await cluster.get(AGENTS, "ada", team) == made
    listing = await cluster.list(AGENTS, team)
    assert listing.items == [made]
    assert int(listing.resource_version) >= version(made)


async def test_items_of_a_list_say_what_they_are(cluster: Cluster, team: str) -> None:
    await cluster.create(CONFIG_MAPS, {"metadata": {"name": "ada-config", "namespace": team}})
    found = (await cluster.list(CONFIG_MAPS, team)).items
    assert {(each["apiVersion"], each["kind"]) for each in found} == {("v1", "ConfigMap")}


async def test_a_list_of_more_than_a_page_is_whole(cluster: Cluster, team: str) -> None:
    names = {f"c{number}" for number in range(510)}
    gate = asyncio.Semaphore(20)

    async def make(name: str) -> None:
        async with gate:
            await cluster.create(CONFIG_MAPS, {"metadata": {"name": name, "namespace": team, "labels": {"of": "page"}}})

    await asyncio.gather(*map(make, names))
    found = (await cluster.list(CONFIG_MAPS, team, labels="of=page")).items
    assert {each["metadata"]["name"] for each in found} == names


async def test_what_is_there_already_is_a_conflict_that_says_so(cluster: Cluster, team: str) -> None:
    await cluster.create(AGENTS, agent(team))
    with pytest.raises(Conflict, match=f"KomputerAgent {team}/ada") as refused:
        await cluster.create(AGENTS, agent(team))
    assert refused.value.code == "exists"


async def test_what_is_not_there_is_not_found_whatever_is_asked_of_it(cluster: Cluster, team: str) -> None:
    for asking in (
        cluster.get(AGENTS, "bob", team),
        cluster.get(CLUSTER_TEMPLATES, "kube-test-nobody"),
        cluster.delete(AGENTS, "bob", team),
        cluster.json_patch(AGENTS, "bob", team, [{"op": "test", "path": "/spec/instructions", "value": "x"}]),
        cluster.merge_patch(AGENTS, "bob", team, {"status": {}}, "status"),
        cluster.create_token("nobody", team, "gateway", 600),
    ):
        with pytest.raises(NotFound, match=r"bob|nobody") as refused:
            await asking
        assert refused.value.code == "not_found"


async def test_a_kind_that_the_server_does_not_know_is_not_an_object_that_is_missing(
    cluster: Cluster, team: str
) -> None:
    strange = Kind("strange.example", "v1", "things", "Thing")
    for asking in (cluster.list(strange), cluster.get(strange, "x", team)):
        with pytest.raises(Unavailable) as refused:
            await asking
        assert refused.value.code == "kind_missing"


async def test_an_invalid_object_is_refused_by_the_field(cluster: Cluster, team: str) -> None:
    with pytest.raises(Invalid) as refused:
        await cluster.create(AGENTS, agent(team, role="king"))
    assert refused.value.field == "spec.role"
    assert "manager" in refused.value.message


async def test_a_replacement_of_what_has_changed_since_is_a_conflict(cluster: Cluster, team: str) -> None:
    made = await cluster.create(AGENTS, agent(team))
    newer = await cluster.replace(AGENTS, made | {"spec": made["spec"] | {"priority": 2}})
    assert newer["spec"]["priority"] == 2
    with pytest.raises(Conflict) as refused:
        await cluster.replace(AGENTS, made | {"spec": made["spec"] | {"priority": 3}})
    assert refused.value.code == "conflict"


async def test_a_json_patch_whose_test_fails_changes_nothing_and_says_so(cluster: Cluster, team: str) -> None:
    made = await cluster.create(AGENTS, agent(team))
    patched = await cluster.json_patch(
        AGENTS,
        "ada",
        team,
        [
            {"op": "test", "path": "/metadata/uid", "value": made["metadata"]["uid"]},
            {"op": "test", "path": "/spec/instructions", "value": "first"},
            {"op": "add", "path": "/spec/priority", "value": 5},
        ],
    )
    assert patched["spec"]["priority"] == 5
    for failing in (
        {"op": "test", "path": "/spec/instructions", "value": "second"},
        {"op": "test", "path": "/spec/systemPrompt", "value": "not there"},
    ):
        with pytest.raises(Conflict) as refused:
            await cluster.json_patch(
                AGENTS, "ada", team, [failing, {"op": "replace", "path": "/spec/priority", "value": 9}]
            )
        assert refused.value.code == "test_failed"
    assert (await cluster.get(AGENTS, "ada", team))["spec"]["priority"] == 5


async def test_a_json_patch_that_would_test_a_text_is_refused_before_it_is_sent(cluster: Cluster, team: str) -> None:
    """Kubernetes has `\\u003c` for `<`, and compares the JSON texts: the test would fail for ever."""
    await cluster.create(AGENTS, agent(team))
    for text in ("a < b", "é", "\u2028", 'a "quote"', {"a": "<"}):
        with pytest.raises(ValueError, match="test an id or a number"):
            await cluster.json_patch(AGENTS, "ada", team, [{"op": "test", "path": "/spec/instructions", "value": text}])


async def test_a_json_patch_that_makes_an_object_invalid_is_not_taken_for_a_failed_test(
    cluster: Cluster, team: str
) -> None:
    await cluster.create(AGENTS, agent(team))
    test = {"op": "test", "path": "/spec/instructions", "value": "first"}
    with pytest.raises(Invalid) as refused:
        await cluster.json_patch(AGENTS, "ada", team, [test, {"op": "replace", "path": "/spec/role", "value": "king"}])
    assert refused.value.field == "spec.role"


async def test_of_many_claims_by_test_exactly_one_succeeds(cluster: Cluster, team: str) -> None:
    await cluster.create(AGENTS, agent(team))

    async def claim(instructions: str) -> bool:
        test = {"op": "test", "path": "/spec/instructions", "value": "first"}
        try:
            await cluster.json_patch(
                AGENTS, "ada", team, [test, {"op": "replace", "path": "/spec/instructions", "value": instructions}]
            )
        except Conflict:
            return False
        return True

    assert sum(await asyncio.gather(*(claim(f"claim {number}") for number in range(20)))) == 1


async def test_a_merge_patch_of_the_status_leaves_the_spec_and_minds_the_version(cluster: Cluster, team: str) -> None:
    made = await cluster.create(AGENTS, agent(team))
    patch = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "status": {"phase": "Running"}}
    patched = await cluster.merge_patch(AGENTS, "ada", team, patch | {"spec": {"instructions": "no"}}, "status")
    assert patched["status"]["phase"] == "Running"
    assert patched["spec"]["instructions"] == "first"
    with pytest.raises(Conflict) as refused:
        await cluster.merge_patch(AGENTS, "ada", team, patch | {"status": {"phase": "Failed"}}, "status")
    assert refused.value.code == "conflict"


async def test_a_deletion_means_one_object_and_not_the_next_of_its_name(cluster: Cluster, team: str) -> None:
    made = await cluster.create(AGENTS, agent(team))
    with pytest.raises(Conflict):
        await cluster.delete(AGENTS, "ada", team, uid="another")
    left = await cluster.delete(AGENTS, "ada", team, uid=made["metadata"]["uid"], propagation="Background")
    assert left is None
    with pytest.raises(NotFound):
        await cluster.get(AGENTS, "ada", team)


async def test_what_a_finalizer_holds_is_left_terminating(cluster: Cluster, team: str) -> None:
    held = pod(team, finalizers=["komputer.ai/test"])
    await cluster.create(PODS, held)
    left = await cluster.delete(PODS, "ada-pod", team, grace_s=0)
    assert left is not None
    assert left["metadata"]["deletionTimestamp"]
    await cluster.merge_patch(PODS, "ada-pod", team, {"metadata": {"finalizers": None}})
    with pytest.raises(NotFound):
        await cluster.get(PODS, "ada-pod", team)


async def test_a_watch_tells_what_happens_after_the_list(cluster: Cluster, team: str) -> None:
    listing = await cluster.list(AGENTS, team)
    made = await cluster.create(AGENTS, agent(team))
    await cluster.delete(AGENTS, "ada", team)
    told: list[WatchEvent] = []
    watch = cluster.watch(AGENTS, team, resource_version=listing.resource_version, timeout_s=20)
    async with aclosing(watch) as events:
        async for event in events:
            told.append(event)
            if event.type == "DELETED":
                break
    assert [event.type for event in told if event.type != "BOOKMARK"] == ["ADDED", "DELETED"]
    assert told[0].type == "BOOKMARK"
    assert told[1].manifest == made
    assert version(told[-1].manifest) > version(made), "a deletion has a version of its own"


async def test_a_watch_ends_by_itself(cluster: Cluster, team: str) -> None:
    listing = await cluster.list(AGENTS, team)
    watch = cluster.watch(AGENTS, team, resource_version=listing.resource_version, timeout_s=1)
    async with aclosing(watch) as events, asyncio.timeout(10):
        assert {event.type async for event in events} == {"BOOKMARK"}


async def test_a_watch_of_a_kind_that_is_not_there_is_refused(cluster: Cluster) -> None:
    watch = cluster.watch(Kind("strange.example", "v1", "things", "Thing"), resource_version="1")
    with pytest.raises(Unavailable):
        await anext(watch)


async def test_history_from_before_the_server_s_memory_is_gone(cluster: Cluster, team: str) -> None:
    await cluster.create(AGENTS, agent(team))
    with pytest.raises(ResourceExpired):
        await told(cluster, "1")


async def told(cluster: Cluster, resource_version: str) -> list[WatchEvent]:
    watch = cluster.watch(AGENTS, resource_version=resource_version, timeout_s=10)
    async with aclosing(watch) as events:
        return [event async for event in events]


async def test_a_pod_s_token_says_which_pod_it_is_to_its_audience_alone(cluster: Cluster, team: str) -> None:
    await cluster.create(SERVICE_ACCOUNTS, {"metadata": {"name": "komputer-agent", "namespace": team}})
    manifest = pod(team)
    manifest["spec"]["serviceAccountName"] = "komputer-agent"
    made = await cluster.create(PODS, manifest)
    issued = await cluster.create_token("komputer-agent", team, "gateway", 600, "ada-pod", made["metadata"]["uid"])
    assert timedelta(minutes=8) < issued.expires_at - datetime.now(UTC) < timedelta(minutes=12)
    found = await cluster.review_token(issued.token, "gateway")
    assert found is not None
    assert found.username == f"system:serviceaccount:{team}:komputer-agent"
    assert (found.namespace, found.service_account) == (team, "komputer-agent")
    assert (found.pod_name, found.pod_uid) == ("ada-pod", made["metadata"]["uid"])
    assert await cluster.review_token(issued.token, "another") is None
    assert await cluster.review_token(issued.token) is None
    assert await cluster.review_token(issued.token[:-8] + "AAAAAAAA", "gateway") is None
    assert await cluster.review_token("nonsense", "gateway") is None


async def test_a_token_is_not_issued_for_another_pod_of_that_name(cluster: Cluster, team: str) -> None:
    await cluster.create(SERVICE_ACCOUNTS, {"metadata": {"name": "komputer-agent", "namespace": team}})
    manifest = pod(team)
    manifest["spec"]["serviceAccountName"] = "komputer-agent"
    await cluster.create(PODS, manifest)
    with pytest.raises(Conflict):
        await cluster.create_token("komputer-agent", team, "gateway", 600, "ada-pod", "another")


async def test_access_is_what_the_server_says(cluster: Cluster, team: str) -> None:
    asked = ("list", "komputer.komputer.ai", "komputeragents", team)
    assert await cluster.review_access("root", ["system:masters", "system:authenticated"], *asked)
    assert not await cluster.review_access("nobody", ["system:authenticated"], *asked)


async def test_an_event_is_seen_under_its_object(cluster: Cluster, team: str) -> None:
    made = await cluster.create(AGENTS, agent(team))
    await cluster.post_event(made, "Warning", "TemplateMissing", "there is no such template", "komputer-operator")
    (event,) = (await cluster.list(EVENTS, team)).items
    assert event["involvedObject"]["uid"] == made["metadata"]["uid"]
    assert (event["reason"], event["type"], event["source"]["component"]) == (
        "TemplateMissing",
        "Warning",
        "komputer-operator",
    )


async def test_a_token_that_the_server_does_not_know_is_ours_to_repair(kubeconfig: Path, tmp_path: Path) -> None:
    config = yaml.safe_load(kubeconfig.read_text())
    config["users"] = [{"name": user["name"], "user": {"token": "nonsense"}} for user in config["users"]]
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    stranger = Cluster.connect(tmp_path / "kubeconfig")
    try:
        with pytest.raises(Forbidden) as refused:
            await stranger.list(AGENTS)
    finally:
        await stranger.close()
    assert refused.value.code == "credential_refused"
