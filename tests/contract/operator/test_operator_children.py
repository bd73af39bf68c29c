"""An agent has what it needs, and nobody else's."""

from komputer.kube import AGENTS, CONFIG_MAPS, PODS, PVCS, SERVICE_ACCOUNTS, TEMPLATES
from tests.contract.operator.world import CHILDREN, Operator, World, reason_of, running


async def test_an_agent_gets_its_disk_settings_and_pod(operator: Operator, world: World) -> None:
    agent = await world.apply()
    pod = await world.until(PODS, "ada-pod", lambda _: True)
    pvc = await world.until(PVCS, "ada-pvc", lambda _: True)
    settings = await world.until(CONFIG_MAPS, "ada-config", lambda _: True)
    for child in (pod, pvc, settings):
        [owner] = child["metadata"]["ownerReferences"]
        assert owner["uid"] == agent["metadata"]["uid"]
        assert owner["controller"] is True
        assert child["metadata"]["labels"]["komputer.ai/agent-name"] == "ada"
    assert settings["data"] == {
        "KOMPUTER_AGENT": "ada",
        "KOMPUTER_NAMESPACE": world.namespace,
        "KOMPUTER_GATEWAY_URL": "http://gateway:8081",
    }
    assert pvc["spec"]["resources"]["requests"]["storage"] == "5Gi"
    [container] = pod["spec"]["containers"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod["spec"]["serviceAccountName"] == "komputer-agent"
    account = await world.until(SERVICE_ACCOUNTS, "komputer-agent", lambda _: True)
    assert "ownerReferences" not in account["metadata"]


async def test_status_follows_the_pod(operator: Operator, world: World) -> None:
    await world.apply()
    agent = await world.until_pod_waits()
    assert (agent.status.phase, agent.status.pod_name, agent.status.pvc_name) == ("Pending", "ada-pod", "ada-pvc")
    await world.pod_says(running())
    agent = await world.until_reason("PodRunning")
    assert agent.status.phase == "Running"
    assert agent.status.observed_generation == agent.metadata.generation
    assert reason_of(agent, "TaskStarted") == "WaitingForRuntime"


async def test_what_is_deleted_under_a_living_agent_is_made_again(operator: Operator, world: World) -> None:
    await world.apply()
    pod = await world.until(PODS, "ada-pod", lambda _: True)
    settings = await world.until(CONFIG_MAPS, "ada-config", lambda _: True)
    await world.cluster.delete(PODS, "ada-pod", world.namespace, grace_s=0)
    await world.delete(CONFIG_MAPS, "ada-config")
    await world.until(PODS, "ada-pod", lambda m: bool(m["metadata"]["uid"] != pod["metadata"]["uid"]))
    await world.until(CONFIG_MAPS, "ada-config", lambda m: bool(m["metadata"]["uid"] != settings["metadata"]["uid"]))


async def test_settings_that_somebody_changed_are_put_right(operator: Operator, world: World) -> None:
    await world.apply()
    await world.until(CONFIG_MAPS, "ada-config", lambda _: True)
    patch = {"data": {"KOMPUTER_GATEWAY_URL": "http://elsewhere"}}
    await world.cluster.merge_patch(CONFIG_MAPS, "ada-config", world.namespace, patch)
    await world.until(CONFIG_MAPS, "ada-config", lambda m: bool(m["data"]["KOMPUTER_GATEWAY_URL"].endswith(":8081")))


async def test_a_child_that_has_lost_its_label_comes_back_into_sight(operator: Operator, world: World) -> None:
    """Children are watched by label. A pod without it is also out of reach of the NetworkPolicy: another takes over."""
    await world.apply()
    found = {name: await world.until(kind, name, lambda _: True) for kind, name in CHILDREN}
    for kind, name in CHILDREN:
        off = {"metadata": {"labels": {"komputer.ai/agent-name": None}}}
        await world.cluster.merge_patch(kind, name, world.namespace, off)
    for kind, name in CHILDREN:
        again = await world.until(kind, name, lambda m: "komputer.ai/agent-name" in (m["metadata"].get("labels") or {}))
        is_new = again["metadata"]["uid"] != found[name]["metadata"]["uid"]
        assert is_new == (kind is PODS)
    await world.until_pod_waits()


async def test_deleting_an_agent_takes_its_children_and_its_log(operator: Operator, world: World) -> None:
    await world.apply()
    await world.until(PODS, "ada-pod", lambda _: True)
    key = await world.key()
    await world.log.hello(key, old_term=0, asked=[], floor=None)
    await world.delete()
    await world.until_gone(AGENTS, "ada")
    for kind, name in CHILDREN:
        await world.until_gone(kind, name)
    async for _ in world.log.notifications():
        if await world.log.live(key.namespace, key.name) is None:
            break


async def test_an_agent_created_again_waits_for_the_old_children_and_gets_its_own(
    operator: Operator, world: World
) -> None:
    await world.apply()
    old = await world.until(PODS, "ada-pod", lambda _: True)
    # A finalizer holds the old pod back, as a node that takes its time would.
    await world.cluster.merge_patch(
        PODS, "ada-pod", world.namespace, {"metadata": {"finalizers": ["komputer.ai/test"]}}
    )
    await world.delete()
    await world.until_gone(AGENTS, "ada")
    await world.apply()
    agent = await world.until_reason("WaitingForOldPod")
    assert agent.status.pod_name is None
    await world.cluster.merge_patch(PODS, "ada-pod", world.namespace, {"metadata": {"finalizers": None}})
    new = await world.until(PODS, "ada-pod", lambda m: bool(m["metadata"]["uid"] != old["metadata"]["uid"]))
    assert new["metadata"]["ownerReferences"][0]["uid"] == agent.metadata.uid
    await world.until_pod_waits()


async def test_a_strangers_disk_is_never_adopted(operator: Operator, world: World) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    metadata = {"name": "ada-pvc", "namespace": world.namespace}
    await world.cluster.create(PVCS, {"metadata": metadata, "spec": spec})
    await world.apply()
    agent = await world.until_reason("ChildNotOurs")
    assert "ada-pvc" in (agent.status.message or "")
    assert (agent.status.pvc_name, agent.status.pod_name) == (None, None)
    assert await world.find(PODS, "ada-pod") is None
    pvc = await world.find(PVCS, "ada-pvc")
    assert pvc
    assert "ownerReferences" not in pvc["metadata"]


async def test_a_failed_pod_is_made_again_after_a_while(operator: Operator, world: World) -> None:
    await world.apply()
    first = await world.until(PODS, "ada-pod", lambda _: True)
    await world.pod_says({"phase": "Failed", "reason": "Evicted", "message": "the node was low on memory"})
    agent = await world.until_reason("PodFailed")
    assert "Evicted" in (agent.status.message or "")
    second = await world.until(PODS, "ada-pod", lambda m: bool(m["metadata"]["uid"] != first["metadata"]["uid"]))
    assert second["metadata"]["annotations"]["komputer.ai/remade"] == "1"


async def test_a_name_that_the_api_would_refuse_gets_a_condition_and_no_pod(operator: Operator, world: World) -> None:
    await world.apply("ada.lovelace")
    agent = await world.until_status(lambda a: len(a.status.ended_tasks) == 1, "ada.lovelace")
    assert reason_of(agent) == "InvalidName"
    assert (agent.status.phase, agent.status.last_task_outcome) == ("Failed", "error")
    assert await world.find(PODS, "ada.lovelace-pod") is None
    [(kind, payload)] = await world.events("ada.lovelace")
    assert (kind, payload["code"]) == ("error", "invalid_name")


async def test_a_template_that_changes_applies_to_the_next_pod_only(operator: Operator, world: World) -> None:
    await world.template("mine")
    await world.apply(templateRef="mine")
    first = await world.until(PODS, "ada-pod", lambda _: True)
    patch = {"spec": {"podSpec": {"containers": [{"name": "agent", "image": "komputer-agent:2"}]}}}
    await world.cluster.merge_patch(TEMPLATES, "mine", world.namespace, patch)
    await world.change({"model": "claude-other"})
    await world.until_status(lambda a: a.status.observed_generation == 2)
    same = await world.find(PODS, "ada-pod")
    assert same
    assert same["metadata"]["uid"] == first["metadata"]["uid"]
    await world.cluster.delete(PODS, "ada-pod", world.namespace, grace_s=0)
    second = await world.until(PODS, "ada-pod", lambda m: bool(m["metadata"]["uid"] != first["metadata"]["uid"]))
    assert second["spec"]["containers"][0]["image"] == "komputer-agent:2"
    digests = [pod["metadata"]["annotations"]["komputer.ai/made-from"] for pod in (first, second)]
    assert digests[0] != digests[1]
