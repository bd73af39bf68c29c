"""Secrets for agents' tools over REST: in, to the agent's runtime, and never out."""

import base64

import httpx
import pytest

from komputer.domain import names
from komputer.kube import AGENTS, CONFIGS, SECRETS
from tests.contract.api.test_api import created, runtime, take
from tests.contract.gateway.world import Runner, World

VALUE = "s3cr3t-value-4711"


async def environment(runner: Runner) -> dict[str, str]:
    async with runner.assignments() as lines:
        return (await lines.next_assignment()).environment


async def test_secrets_of_the_create_call_reach_the_runtime_and_belong_to_the_agent(
    rest: httpx.AsyncClient, world: World
) -> None:
    body = {"name": "ada", "instructions": "Say hello.", "secrets": {"github.token": VALUE}}
    answer = await rest.post("/agents", json=body)
    assert answer.status_code == 201, answer.text
    agent = await world.cluster.get(AGENTS, "ada", world.namespace)
    made = await world.cluster.get(SECRETS, "ada-secrets", world.namespace)
    assert made["metadata"]["ownerReferences"][0]["uid"] == agent["metadata"]["uid"]
    runner = await runtime(world)
    assert await environment(runner) == {"SECRET_GITHUB_TOKEN": VALUE}
    shown = [await rest.get("/agents/ada"), await rest.get("/agents"), await rest.get("/secrets", params={"all": "1"})]
    encoded = base64.b64encode(VALUE.encode()).decode()
    assert all(VALUE not in each.text and encoded not in each.text for each in shown)
    assert VALUE not in str(agent)
    await runner.end()
    again = await rest.post("/agents", json={**body, "instructions": "More.", "secrets": {"OTHER": "new-value-1"}})
    assert again.status_code == 200, again.text
    await take(runner)
    assert await environment(runner) == {"SECRET_OTHER": "new-value-1"}, "a new map replaces the one before"


async def test_a_strangers_secret_is_neither_adopted_nor_overwritten(rest: httpx.AsyncClient, world: World) -> None:
    metadata = {"name": "ada-secrets", "namespace": world.namespace}
    await world.cluster.create(SECRETS, {"metadata": metadata, "data": {"A": "QQ=="}})
    answer = await rest.post("/agents", json={"name": "ada", "instructions": "x", "secrets": {"A": "mine-mine"}})
    assert (answer.status_code, answer.json()["code"]) == (409, "secret_exists")
    assert (await rest.get("/agents/ada")).status_code == 404
    left = await world.cluster.get(SECRETS, "ada-secrets", world.namespace)
    assert left["data"] == {"A": "QQ=="}
    assert not left["metadata"].get("ownerReferences")
    for call in (rest.patch("/secrets/ada-secrets", json={"data": {}}), rest.delete("/secrets/ada-secrets")):
        refused = await call
        assert (refused.status_code, refused.json()["code"]) == (403, "not_ours")


async def test_a_refused_task_leaves_the_secrets_as_they_were(rest: httpx.AsyncClient, world: World) -> None:
    body = {"name": "ada", "instructions": "x", "secrets": {"A": "first-value"}}
    assert (await rest.post("/agents", json=body)).status_code == 201
    busy = await rest.post("/agents", json={**body, "secrets": {"A": "second-value"}})
    assert busy.status_code == 409
    kept = await world.cluster.get(SECRETS, "ada-secrets", world.namespace)
    assert base64.b64decode(kept["data"]["A"]) == b"first-value"


async def test_named_secrets_are_listed_rotated_and_act_at_the_next_task(rest: httpx.AsyncClient, world: World) -> None:
    made = await rest.post("/secrets", json={"name": "github", "data": {"api-token": VALUE, "b": ""}})
    assert made.status_code == 201, made.text
    assert made.json()["keys"] == ["api-token", "b"]
    twice = await rest.post("/secrets", json={"name": "github", "data": {"x": "y"}})
    assert (twice.status_code, twice.json()["code"]) == (409, "exists")
    await created(rest)
    runner = await runtime(world)
    assert await environment(runner) == {}
    patched = await rest.patch("/agents/ada", json={"secretRefs": ["github"]})
    assert (patched.status_code, patched.json()["secrets"]) == (200, ["github"])
    listed = (await rest.get("/secrets", params={"namespace": world.namespace})).json()["secrets"]
    assert [(s["name"], s["managed"], s["attachedAgents"], s["agentNames"]) for s in listed] == [
        ("github", True, 1, ["ada"])
    ]
    await runner.end()
    rotated = await rest.patch("/secrets/github", json={"data": {"api-token": "rotated-1"}})
    assert rotated.json() == {"name": "github", "namespace": world.namespace}
    assert (await rest.post("/agents", json={"name": "ada", "instructions": "More."})).status_code == 200
    await take(runner)
    assert await environment(runner) == {"SECRET_GITHUB_API_TOKEN": "rotated-1"}
    assert (await rest.delete("/secrets/github")).json() == {"status": "deleted", "name": "github"}
    for call in (rest.patch("/secrets/github", json={"data": {}}), rest.delete("/secrets/github")):
        assert (await call).status_code == 404


REDIS = {"redis": {"address": "r", "passwordSecret": {"name": "redis", "key": "password"}}}


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("model", {"app.kubernetes.io/part-of": "komputer"}),
        ("mine", {names.PLATFORM_LABEL: "yes"}),
        ("redis", {}),
    ],
)
async def test_the_platforms_own_secrets_are_not_for_agents(
    rest: httpx.AsyncClient, world: World, name: str, labels: dict[str, str]
) -> None:
    metadata = {"name": name, "namespace": world.namespace, "labels": labels}
    await world.cluster.create(SECRETS, {"metadata": metadata, "data": {"key": "QQ=="}})
    config = f"of-{world.namespace}"
    await world.cluster.create(CONFIGS, {"metadata": {"name": config}, "spec": REDIS})
    try:
        refused = await rest.post("/agents", json={"name": "ada", "instructions": "x", "secretRefs": [name]})
        assert (refused.status_code, refused.json()["code"]) == (400, "unusable_secret")
        await created(rest)
        await world.patch_spec(secrets=[name])
        assert await environment(await runtime(world)) == {}, "nor by way of a manifest"
        listed = (await rest.get("/secrets", params={"namespace": world.namespace, "all": "1"})).json()["secrets"]
        assert name not in [each["name"] for each in listed]
    finally:
        await world.cluster.delete(CONFIGS, config)


async def test_the_credential_of_a_connector_is_not_for_agents(rest: httpx.AsyncClient, world: World) -> None:
    connector = {"name": "github", "service": "github", "url": "https://mcp.example.com/mcp", "token": VALUE}
    made = await rest.post("/connectors", json=connector)
    assert made.status_code == 201, made.text
    name = made.json()["authSecretName"]
    refused = await rest.post("/agents", json={"name": "ada", "instructions": "x", "secretRefs": [name]})
    assert (refused.status_code, refused.json()["code"]) == (400, "unusable_secret")
    await created(rest)
    await world.patch_spec(secrets=[name])
    assert await environment(await runtime(world)) == {}, "nor by way of a manifest"


async def test_namespaces_and_templates_are_listed(rest: httpx.AsyncClient, world: World) -> None:
    assert world.namespace in (await rest.get("/namespaces")).json()["namespaces"]
    templates = (await rest.get("/templates")).json()["templates"]
    assert {"name": "default", "scope": "cluster"} in templates


async def test_on_one_stream_each_task_gets_the_values_of_its_moment(rest: httpx.AsyncClient, world: World) -> None:
    body = {"name": "ada", "instructions": "x", "secrets": {"A": "value-of-task-1"}}
    assert (await rest.post("/agents", json=body)).status_code == 201
    runner = await runtime(world)
    async with runner.assignments() as lines:
        assert (await lines.next_assignment()).environment == {"SECRET_A": "value-of-task-1"}
        for n in (2, 3):
            await runner.end()
            rotated = await rest.patch("/secrets/ada-secrets", json={"data": {"A": f"value-of-task-{n}"}})
            assert rotated.status_code == 200
            taken = await rest.post("/agents", json={"name": "ada", "instructions": "x"})
            assert taken.status_code == 200
            while not (line := await lines.next_assignment()).task or line.task.id == runner.task:
                pass
            assert line.environment == {"SECRET_A": f"value-of-task-{n}"}
            runner.task = line.task.id
            await runner.start()
    await runner.end()
