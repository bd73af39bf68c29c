"""Speaking to a running task, and compacting a conversation, over REST."""

from contextlib import suppress
from typing import Any

import httpx
import pytest

from komputer.api.idempotency import OncePerKey
from komputer.redis.idempotency import Record, StoredResponse
from tests.contract.api.test_api import created, runtime, settled, take
from tests.contract.gateway.world import World

KEY = {"idempotency-key": "4711"}
DONE = {"result": "Hello.", "cost_usd": 0.01, "duration_ms": 1, "turns": 1}
HELLO = {"content": "Hello?"}


class Killed(Exception):
    """The process died here: everything was done, and nobody knows."""


async def die_after(monkeypatch: pytest.MonkeyPatch, rest: httpx.AsyncClient, path: str, body: Any) -> None:
    """Send a request whose API is killed when it has carried it out."""
    carried_out = OncePerKey._carried_out

    async def dead(self: OncePerKey, scope: Any, raw: bytes, record: Record) -> StoredResponse:
        await carried_out(self, scope, raw, record)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(OncePerKey, "_carried_out", dead)
        with suppress(httpx.HTTPError):
            assert (await rest.post(path, json=body, headers=KEY)).status_code >= 500


async def test_a_message_goes_to_the_open_task_and_holds_its_end(rest: httpx.AsyncClient, world: World) -> None:
    await created(rest)
    early = await rest.post("/agents/ada/messages", json=HELLO)
    assert (early.status_code, early.json()["code"]) == (409, "idle")
    assert "not begun" in early.json()["error"]
    ada = await runtime(world)
    sent = await rest.post("/agents/ada/messages", json={"content": "And more."})
    assert (sent.status_code, sent.json()["status"], sent.json()["taskID"]) == (202, "accepted", ada.task)
    told = (await rest.get("/agents/ada/events")).json()["events"][-1]
    assert (told["id"], told["type"]) == (sent.json()["id"], "user_message")
    assert told["payload"] == {"task_id": ada.task, "content": "And more.", "steer": True}
    end = ada.event("task_completed", **DONE)
    assert (await ada.tell({**end, "ackedMessageId": "0-0"})).json() == {"answers": ["unacknowledged"]}
    assert (await ada.tell({**end, "ackedMessageId": told["id"]})).json() == {"answers": ["ok"]}
    late = await rest.post("/agents/ada/messages", json=HELLO)
    assert (late.status_code, late.json()["code"]) == (409, "idle")
    assert (await rest.post("/agents/bob/messages", json=HELLO)).status_code == 404


async def test_a_compaction_is_a_task_of_its_own_kind(rest: httpx.AsyncClient, world: World) -> None:
    await created(rest)
    assert (await rest.post("/agents/ada/compact")).json()["code"] == "busy"
    ada = await runtime(world)
    await ada.end(session_id="s1")
    await settled(rest, taskStatus="Complete")
    answer = await rest.post("/agents/ada/compact", json={"instructions": "Keep\nnames."})
    assert (answer.status_code, answer.json()) == (200, {"status": "compacting", "name": "ada"})
    async with ada.assignments() as lines:
        while (assigned := (await lines.next_assignment()).task) is None or assigned.id == ada.task:
            pass
    assert (assigned.kind, assigned.instructions) == ("compact", "/compact Keep names.")
    assert (await settled(rest, taskStatus="Compacting"))["instructions"] == "Say hello."
    ada.task = assigned.id
    started = ada.event("task_started", instructions="/compact", resuming_session=True, model="m")
    started["payload"]["kind"] = "compact"
    assert (await ada.tell(started)).json() == {"answers": ["ok"]}
    refused = await rest.post("/agents/ada/messages", json=HELLO)
    assert (refused.status_code, refused.json()["code"]) == (409, "compacting")
    compaction = ada.event("compaction", trigger="manual", tokens_before=9, tokens_after=3)
    assert (await ada.tell(compaction)).json() == {"answers": ["ok"]}
    assert (await rest.get("/agents/ada")).json()["taskStatus"] == "Compacting"
    assert (await ada.tell(ada.event("task_completed", **DONE))).json() == {"answers": ["ok"]}
    assert await settled(rest, taskStatus="Complete")


async def test_an_agent_without_a_conversation_is_not_compacted(rest: httpx.AsyncClient, world: World) -> None:
    await created(rest)
    ada = await runtime(world)
    await ada.end()
    await settled(rest, taskStatus="Complete")
    refused = await rest.post("/agents/ada/compact", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "no_conversation")
    wrong: list[Any] = [{"instructions": 1}, {"instructions": "x" * 20_000}, []]
    for body in wrong:
        assert (await rest.post("/agents/ada/compact", json=body)).status_code == 400, body
    assert (await rest.post("/agents/bob/compact")).status_code == 404


@pytest.mark.parametrize("has_ended", [False, True])
async def test_a_message_whose_api_died_is_not_said_again(
    rest: httpx.AsyncClient, replica: httpx.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch, has_ended: bool
) -> None:
    await created(rest)
    ada = await runtime(world)
    await die_after(monkeypatch, rest, "/agents/ada/messages", HELLO)
    if has_ended:
        await ada.end()
    answers = [await client.post("/agents/ada/messages", json=HELLO, headers=KEY) for client in (replica, rest)]
    events = (await rest.get("/agents/ada/events?types=user_message")).json()["events"]
    assert [event["payload"]["content"] for event in events] == ["Hello?"]
    for answer in answers:
        assert (answer.status_code, answer.json()["id"], answer.json()["taskID"]) == (202, events[0]["id"], ada.task)


@pytest.mark.parametrize("has_ended", [False, True])
async def test_a_compaction_whose_api_died_is_not_done_again(
    rest: httpx.AsyncClient, replica: httpx.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch, has_ended: bool
) -> None:
    await created(rest)
    ada = await runtime(world)
    await ada.end(session_id="s1")
    await settled(rest, taskStatus="Complete")
    await die_after(monkeypatch, rest, "/agents/ada/compact", {})
    await take(ada)
    task = ada.task
    if has_ended:
        await ada.end(session_id="s1")
    answer = await replica.post("/agents/ada/compact", json={}, headers=KEY)
    assert (answer.status_code, answer.json()["status"]) == (200, "compacting")
    events = (await rest.get("/agents/ada/events?types=task_started")).json()["events"]
    assert [event["payload"]["task_id"] for event in events][-1] == task
    assert len(events) == 2
