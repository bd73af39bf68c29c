"""A request with an Idempotency-Key is carried out once, whatever dies in between and whichever replica is asked."""

import asyncio
import base64
from typing import Any

import httpx
import pytest

from komputer.api.idempotency import OncePerKey
from komputer.events.log import Log
from komputer.kube import AGENTS, CONNECTORS, SECRETS, Cluster
from komputer.redis.idempotency import Record, StoredResponse
from tests.contract.api.test_api import runtime, take
from tests.contract.gateway.world import World

KEY = {"idempotency-key": "4711"}
TASK = {"name": "ada", "instructions": "Say hello.", "secrets": {"A": "value-of-a"}}


async def tasks_of(world: World) -> str:
    return str((await world.cluster.get(AGENTS, "ada", world.namespace))["spec"]["task"]["id"])


async def test_the_same_request_gets_the_same_answer_everywhere_and_runs_once(
    rest: httpx.AsyncClient, replica: httpx.AsyncClient, world: World
) -> None:
    first = await rest.post("/agents", json=TASK, headers=KEY)
    assert first.status_code == 201, first.text
    task = await tasks_of(world)
    await (await runtime(world)).end()
    for client in (rest, replica):
        again = await client.post("/agents", json=dict(reversed(TASK.items())), headers=KEY)
        assert (again.status_code, again.content) == (201, first.content)
        assert again.headers["etag"] == first.headers["etag"]
    assert await tasks_of(world) == task
    events = (await rest.get("/agents/ada/events")).json()["events"]
    assert [event["type"] for event in events] == ["task_started", "task_completed"]
    other = await replica.post("/agents", json={**TASK, "instructions": "Other."}, headers=KEY)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert other.json().keys() == {"error", "code"}
    next_one = await rest.post("/agents", json=TASK, headers={"idempotency-key": "another"})
    assert next_one.status_code == 200


async def test_ten_tries_at_once_on_two_replicas_are_one(
    rest: httpx.AsyncClient, replica: httpx.AsyncClient, world: World
) -> None:
    tries = [client.post("/agents", json=TASK, headers=KEY) for client in (rest, replica) for _ in range(5)]
    answers = await asyncio.gather(*tries)
    assert {(answer.status_code, answer.content) for answer in answers} == {(201, answers[0].content)}


async def test_a_refused_request_may_be_corrected_under_its_key(rest: httpx.AsyncClient, world: World) -> None:
    wrong = await rest.post("/agents", json={**TASK, "role": "chief"}, headers=KEY)
    assert wrong.status_code == 400
    assert (await rest.post("/agents", json=TASK, headers=KEY)).status_code == 201
    for bad in ("", "x" * 256):
        refused = await rest.post("/agents", json=TASK, headers={"idempotency-key": bad})
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid")


async def test_a_key_is_of_its_route_and_namespace(rest: httpx.AsyncClient, world: World) -> None:
    assert (await rest.post("/agents", json=TASK, headers=KEY)).status_code == 201
    secret = {"name": "github", "data": {"a": "b"}}
    made = await rest.post("/secrets", json=secret, headers=KEY)
    assert made.status_code == 201
    assert (await rest.post("/secrets", json=secret, headers=KEY)).content == made.content


class Killed(Exception):
    """The process died here: nothing after it was done."""


def dying(step: tuple[Any, Any, bool], patched: pytest.MonkeyPatch) -> None:
    """From now on every try ends at this step as kill -9 ends it."""
    where, kind, after = step
    if isinstance(where, str):
        real = getattr(Cluster, where)

        async def at_the_cluster(self: Cluster, which: Any, *args: Any, **more: Any) -> Any:
            if which != kind:
                return await real(self, which, *args, **more)
            if after:
                await real(self, which, *args, **more)
            raise Killed

        patched.setattr(Cluster, where, at_the_cluster)
    else:
        carried_out = OncePerKey._carried_out

        async def around(self: OncePerKey, scope: Any, body: bytes, record: Record) -> StoredResponse:
            if after:
                await carried_out(self, scope, body, record)
            raise Killed

        patched.setattr(OncePerKey, "_carried_out", around)


STEPS = {
    "before anything was done": (OncePerKey, "_carried_out", False),
    "when everything was done and nothing kept": (OncePerKey, "_carried_out", True),
    "before the agent was made": ("create", AGENTS, False),
    "when the secret was made": ("create", SECRETS, True),
    "when the agent was made": ("create", AGENTS, True),
    "before the secret was owned": ("json_patch", SECRETS, False),
}


@pytest.mark.parametrize("step", STEPS)
async def test_a_try_that_died_is_gone_on_with(
    rest: httpx.AsyncClient,
    replica: httpx.AsyncClient,
    world: World,
    log: Log,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    """The first try ends at each step as kill -9 ends it; the next one, on another replica, comes to the same."""
    with monkeypatch.context() as patched:
        dying(STEPS[step], patched)
        try:
            broken = await rest.post("/agents", json=TASK, headers=KEY)
            assert broken.status_code >= 500
        except httpx.HTTPError:
            pass
    second = await replica.post("/agents", json=TASK, headers=KEY)
    assert second.status_code == 201, second.text
    task = await tasks_of(world)
    third = await replica.post("/agents", json=TASK, headers=KEY)
    assert (third.status_code, third.content) == (201, second.content)
    agent = await world.cluster.get(AGENTS, "ada", world.namespace)
    owned = await world.cluster.get(SECRETS, "ada-secrets", world.namespace)
    assert agent["spec"]["secretsUID"] == owned["metadata"]["uid"]
    assert owned["metadata"]["ownerReferences"][0]["uid"] == agent["metadata"]["uid"]
    runner = await runtime(world)
    assert runner.task == task
    await runner.end()


async def test_a_task_that_was_assigned_and_has_ended_is_not_run_again(
    rest: httpx.AsyncClient, replica: httpx.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await rest.post("/agents", json={"name": "ada", "instructions": "One."})).status_code == 201
    runner = await runtime(world)
    await runner.end()
    two = {"name": "ada", "instructions": "Two."}
    carried_out = OncePerKey._carried_out

    async def dead(self: OncePerKey, scope: Any, body: bytes, record: Record) -> StoredResponse:
        await carried_out(self, scope, body, record)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(OncePerKey, "_carried_out", dead)
        with pytest.raises((httpx.HTTPError, AssertionError)):
            assert (await rest.post("/agents", json=two, headers=KEY)).status_code < 500
    await take(runner)
    await runner.end()
    three = await rest.post("/agents", json={"name": "ada", "instructions": "Three."})
    assert three.status_code == 200
    again = await replica.post("/agents", json=two, headers=KEY)
    assert again.status_code == 200, "the agent is busy with another task, and this one was done"
    assert (await world.cluster.get(AGENTS, "ada", world.namespace))["spec"]["task"]["instructions"] == "Three."


CONNECTOR = {"name": "git", "service": "custom", "url": "https://mcp.example.com/mcp", "token": "token-of-git-4711"}
CONNECTOR_STEPS = {
    "before the connector was made": ("create", CONNECTORS, False),
    "when the connector was made": ("create", CONNECTORS, True),
    "before its secret was made": ("create", SECRETS, False),
    "when its secret was made": ("create", SECRETS, True),
    "when everything was done and nothing kept": (OncePerKey, "_carried_out", True),
}


async def half_made(rest: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """The first try of `CONNECTOR`; nothing that it would have done after that step is done, no cleaning up either."""
    with monkeypatch.context() as patched:
        dying(CONNECTOR_STEPS[step], patched)

        async def never(self: Cluster, *args: Any, **more: Any) -> None:
            raise Killed

        patched.setattr(Cluster, "delete", never)
        try:
            broken = await rest.post("/connectors", json=CONNECTOR, headers=KEY)
            assert broken.status_code >= 500
        except httpx.HTTPError:
            pass


@pytest.mark.parametrize("step", CONNECTOR_STEPS)
async def test_a_connector_whose_making_died_half_way_is_gone_on_with(
    rest: httpx.AsyncClient, replica: httpx.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    await half_made(rest, monkeypatch, step)
    second = await replica.post("/connectors", json=CONNECTOR, headers=KEY)
    assert second.status_code == 201, second.text
    third = await rest.post("/connectors", json=CONNECTOR, headers=KEY)
    assert (third.status_code, third.content) == (201, second.content)
    connector = await world.cluster.get(CONNECTORS, "git", world.namespace)
    (secret,) = [s for s in (await world.cluster.list(SECRETS, world.namespace)).items if s["type"] == "Opaque"]
    assert connector["spec"]["authSecretKeyRef"] == {"name": second.json()["authSecretName"], "key": "token"}
    assert secret["metadata"]["name"] == second.json()["authSecretName"]
    assert secret["metadata"]["ownerReferences"][0]["uid"] == connector["metadata"]["uid"]
    assert base64.b64decode(secret["data"]["token"]).decode() == CONNECTOR["token"]
    other = await rest.post("/connectors", json=CONNECTOR, headers={"idempotency-key": "another"})
    assert (other.status_code, other.json()["code"]) == (409, "exists")


async def test_a_half_made_connector_that_leads_elsewhere_by_now_does_not_get_the_token(
    rest: httpx.AsyncClient, replica: httpx.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await half_made(rest, monkeypatch, "before its secret was made")
    elsewhere = {"spec": {"url": "https://elsewhere.example.com/mcp"}}
    await world.cluster.merge_patch(CONNECTORS, "git", world.namespace, elsewhere)
    second = await replica.post("/connectors", json=CONNECTOR, headers=KEY)
    assert (second.status_code, second.json()["url"]) == (201, elsewhere["spec"]["url"])
    assert not [s for s in (await world.cluster.list(SECRETS, world.namespace)).items if s["type"] == "Opaque"]
