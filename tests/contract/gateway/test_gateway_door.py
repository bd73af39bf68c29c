"""Who may call, and what is taken from them."""

import asyncio
from functools import partial

import pytest
from cachetools import LRUCache
from ulid import ULID

from komputer.domain.agent import digest_of
from komputer.gateway.agents.identity import MAX_UNKNOWN_TOKEN_REVIEWS
from komputer.kube import AGENTS, TokenIdentity
from komputer.protocol import wire
from tests.contract.gateway.world import MODEL, World
from tests.waiting import eventually


async def test_a_runtime_says_hello_and_its_events_reach_the_log(world: World) -> None:
    ada = await world.agent()
    welcome = await ada.hello()
    assert welcome.uid == ada.key.uid
    assert welcome.term > 0
    await ada.start()
    answered = await ada.tell(ada.event("text", content="Hello."))
    assert answered.json() == {"answers": ["ok"]}
    assert [event["type"] for event in await ada.events()] == ["task_started", "text"]


async def test_what_the_log_refuses_is_answered_and_not_an_error(world: World) -> None:
    ada = await world.agent()
    await ada.start()
    await ada.end()
    late = await ada.tell(ada.event("text", content="One more thing."))
    assert (late.status_code, late.json()) == (200, {"answers": ["ended"]})
    ada.term -= 1
    fenced = await ada.tell(ada.event("text", content="I am old."))
    assert (fenced.status_code, fenced.json()) == (200, {"answers": ["fenced"]})


async def test_a_heartbeat_says_what_the_log_holds(world: World) -> None:
    ada = await world.agent()
    await ada.start()
    await ada.end()
    pulse = await ada.post("/v1/heartbeat", {"term": ada.term, "tasks": [ada.task]})
    assert pulse.json() == {"type": "pulse", "term": ada.term, "lastSeq": 2, "taken": 2, "ended": [ada.task]}


async def test_a_repeated_hello_tells_what_was_taken(world: World) -> None:
    ada = await world.agent()
    await ada.start()
    welcome = await ada.hello(ada.task)
    assert (welcome.last_seq, welcome.started, welcome.ended, welcome.open) == (1, [ada.task], [], [ada.task])


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/events", b"{", 400, "invalid"),
        ("/v1/events", {"term": 1, "events": []}, 400, "invalid"),
        ("/v1/events", {"term": 1, "events": [{"n": 0, "type": "text", "payload": {}}]}, 400, "invalid"),
        ("/v1/events", {"term": 1, "events": [{"n": 1, "type": "text", "payload": {}}]}, 400, "invalid_event"),
        ("/v1/events", {"term": 1, "events": [{"n": 1, "type": "x", "payload": {}}] * 501}, 400, "invalid"),
        ("/v1/events", b" " * (4 * 2**20 + 1), 413, "body_too_large"),
        ("/v1/hello", {"formatVersion": wire.FORMAT_VERSION + 1}, 400, "format_version"),
        ("/v1/heartbeat", {"term": -1}, 400, "invalid"),
        ("/v1/nothing", {}, 404, "no_route"),
        ("/v1/hello/", {}, 404, "no_route"),
        ("/v1/assignment", {}, 405, "wrong_method"),
    ],
)
async def test_what_cannot_be_taken_is_refused_in_one_shape(
    world: World, path: str, body: object, status: int, code: str
) -> None:
    ada = await world.agent()
    answered = await ada.post(path, body)
    assert (answered.status_code, answered.json()["code"]) == (status, code)
    assert set(answered.json()) == {"error", "code"}


async def test_a_token_for_somebody_else_is_no_token(world: World) -> None:
    ada = await world.agent()
    for bad in ("nonsense", await ada.issue(audience="somebody-else")):
        ada.token = bad
        answered = await ada.post("/v1/hello", {})
        assert (answered.status_code, answered.json()["code"]) == (401, "unauthorized")
    assert (await world.http.post(f"{world.url}/v1/hello", content=b"{}")).status_code == 401


async def test_made_up_tokens_are_looked_at_a_few_at_once_and_push_no_good_one_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await world.agent()
    assert (await ada.post("/v1/hello", {"asked": []})).status_code == 200
    answers = world.gateway.parts.access.identity._reviews._answers
    monkeypatch.setattr(answers, "default_factory", lambda: LRUCache(20))  # of the unknown tokens; none was seen yet
    under_way = most = good = 0
    review = world.cluster.review_token

    async def counted(token: str, audience: str | None = None) -> TokenIdentity | None:
        nonlocal under_way, most, good
        under_way, good = under_way + 1, good + (token == ada.token)
        most = max(most, under_way)
        try:
            return await review(token, audience)
        finally:
            under_way -= 1

    monkeypatch.setattr(world.cluster, "review_token", counted)
    headers = [{"authorization": f"Bearer made-up-{n}"} for n in range(60)]
    refused = await asyncio.gather(*(world.http.post(f"{world.url}/v1/hello", headers=each) for each in headers))
    assert {each.status_code for each in refused} == {401}
    assert (await ada.post("/v1/heartbeat", {"term": 0})).status_code != 401
    assert (most, good) == (MAX_UNKNOWN_TOKEN_REVIEWS, 0)


async def test_a_pod_that_was_deleted_or_superseded_is_refused_though_its_token_was_good(world: World) -> None:
    ada = await world.agent()
    await ada.hello()
    await world.delete_pod("ada-pod")

    async def is_refused() -> bool:
        """As soon as the gateway's watch has told it."""
        gone = await ada.post("/v1/hello", {})
        return gone.status_code == 403 and gone.json()["code"] == "not_current_pod"

    await eventually(is_refused)
    newer = type(ada)(world, ada.manifest, await world.pod(ada.manifest), ada.task)
    await newer.hello()
    assert (await ada.post("/v1/heartbeat", {"term": ada.term})).status_code == 403
    assert (await ada.ask()).status_code == 403


async def test_a_pod_speaks_for_its_own_agent_only(world: World) -> None:
    ada, bob = await world.agent("ada"), await world.agent("bob")
    await ada.start()
    await bob.hello()
    bob.task = ada.task
    assert (await bob.tell(bob.event("text", content="I am Ada."))).json() == {"answers": ["fenced"]}
    assert [event["type"] for event in await ada.events()] == ["task_started"]


async def test_a_forged_start_opens_nothing(world: World) -> None:
    """An agent can say all that its runtime can; which task it has, the resource says."""
    ada = await world.agent()
    await ada.start()
    await ada.end()
    await world.patch_status(endedTasks=[ada.task])
    began = {"instructions": "mine", "resuming_session": False, "model": MODEL}
    for task in (str(ULID()), ada.task):
        ada.task = task
        for generation in ({}, {"generation": 99}):
            await ada.hello()
            answered = await ada.tell(ada.event("task_started", **began) | generation)
            assert answered.json()["answers"][0] in ("stale", "ended")
            await ada.hello()
            assert (await ada.tell(ada.event("text", content="I work."))).json() == {"answers": ["fenced"]}
            refused = await ada.ask()
            assert refused.status_code == 403
            assert "has no open task" in refused.json()["error"]["message"]
    assert world.model.seen == []
    assert [event["type"] for event in await ada.events()] == ["task_started", "task_completed"]


async def test_a_task_that_is_named_and_not_wanted_cannot_be_opened(world: World) -> None:
    """The manifest's task, which waits behind the API's: a start that looks repeated would need no generation."""
    ada = await world.agent()
    await world.patch_spec(task={"id": str(ULID()), "instructions": "Count.", "covers": {"digest": digest_of("x")}})
    async with ada.assignments() as told:
        await told.until(lambda assigned: assigned.task and assigned.task.id != ada.task)
    await ada.hello()
    began = {"instructions": "mine", "resuming_session": False, "model": MODEL}
    for event in (
        ada.event("task_started", **began),
        ada.event("task_started", **began) | {"generation": 99},
        ada.event("text", content="I work."),
    ):
        ada.n, event["seq"] = 1, 1
        assert (await ada.tell(event)).json()["answers"] in (["stale"], ["fenced"])
        assert (await ada.ask()).status_code in (403, 503)
    assert world.model.seen == []
    assert await ada.events() == []


async def test_a_start_that_the_cache_does_not_know_yet_is_looked_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await world.agent(name="late")
    await ada.hello()
    old = world.gateway.parts.caches.agents.get(world.namespace, "late")
    assert old
    cut = {**old, "status": {}, "metadata": {**old["metadata"], "resourceVersion": "1"}}
    real = world.gateway.parts.caches.agents.get
    monkeypatch.setattr(
        world.gateway.parts.caches.agents, "get", lambda place, name: cut if name == "late" else real(place, name)
    )
    await ada.start()


async def test_a_task_that_is_no_longer_wanted_goes_on_and_a_new_start_of_it_does_not(world: World) -> None:
    ada = await world.agent()
    await ada.start()
    await world.patch_spec(instructions="Say goodbye.")
    newer = {"digest": digest_of("Say goodbye."), "id": str(ULID())}
    await world.patch_status(manifestTask=newer)
    assert (await ada.tell(ada.event("text", content="I go on."))).json() == {"answers": ["ok"]}
    assert (await ada.ask()).status_code == 200
    await ada.end()


async def test_a_task_that_is_being_cancelled_gets_no_more_answers(world: World) -> None:
    """Also where its agent has stopped its runtime from ending it."""
    ada = await world.agent()
    await ada.start()
    assert (await ada.ask()).status_code == 200
    await world.patch_spec(cancelTaskID=ada.task)
    async with ada.assignments() as told:
        await told.until(lambda assigned: assigned.cancel_task_id)
    refused = await ada.ask()
    assert refused.status_code == 503, "so that Claude asks again until it is interrupted"
    assert "is being cancelled" in refused.json()["error"]["message"]
    assert len(world.model.seen) == 1
    await ada.end()


async def test_an_agent_that_is_being_deleted_or_gone_is_told_as_gone(world: World) -> None:
    ada = await world.agent()
    await ada.hello()
    await world.hold("ada")
    await world.cluster.delete(AGENTS, "ada", world.namespace)

    async def is_told(path: str) -> bool:
        """As soon as the gateway's watch has told it."""
        gone = await ada.post(path, {"term": 1})
        return gone.status_code == 410 and gone.json()["code"] == "agent_gone"

    for path in ("/v1/hello", "/v1/heartbeat"):
        await eventually(partial(is_told, path))
    await world.release("ada")
    await world.until_gone("ada-pod")
    assert await is_told("/v1/hello")


async def test_a_runtime_of_an_agent_that_the_log_has_buried_is_told_as_gone(world: World) -> None:
    ada = await world.agent()
    await ada.hello()
    await world.log.purge(ada.key)
    answered = await ada.post("/v1/hello", {})
    assert (answered.status_code, answered.json()["code"]) == (410, "agent_gone")


async def test_it_is_ready_once_it_has_read_the_cluster_and_reaches_the_log(world: World) -> None:
    assert (await world.http.get(f"{world.url}/healthz")).status_code == 200
    for cache in (
        world.gateway.parts.caches.agents,
        world.gateway.parts.caches.pods,
        world.gateway.parts.caches.configs,
    ):
        await cache.synced()
    assert (await world.http.get(f"{world.url}/readyz")).status_code == 200


async def test_requests_are_counted_by_kind_and_status(world: World) -> None:
    ada = await world.agent()
    await ada.hello()
    await ada.post("/v1/anything/at/all", {})
    told = world.gateway.metrics.text().decode()
    assert 'komputer_gateway_requests_total{kind="hello",status="200"} 1.0' in told
    assert 'komputer_gateway_requests_total{kind="other",status="404"} 1.0' in told
    assert "anything" not in told
    assert (await world.http.get(f"{world.url}/metrics")).status_code == 404, "agents reach this port"
