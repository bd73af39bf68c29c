"""The way to the model: who may, what passes, and how it streams."""

import asyncio
import gzip
import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from komputer.events import schema
from komputer.events.log import LogKey
from tests.contract.gateway.serving import WITHIN_S, Model, answers, breaks_off, free_port, serving, streams
from tests.contract.gateway.world import CREDENTIAL, MODEL, Runner, World, asking
from tests.fixtures.valkey import LogServer
from tests.waiting import eventually


@pytest.fixture
async def ada(world: World) -> Runner:
    """An agent whose task is open."""
    ada = await world.agent()
    await ada.start()
    return ada


async def test_a_request_reaches_the_model_as_it_is_with_the_platforms_credential(ada: Runner, model: Model) -> None:
    raw = b'{ "model" : "claude-sonnet-4-6",  "messages": [] }'
    answered = await ada.post(
        "/model/v1/messages?beta=true", raw, **{"x-api-key": "task-key", "cookie": "a=b", "anthropic-beta": "x-1"}
    )
    assert (answered.status_code, answered.json()) == (200, {"type": "message"})
    (seen,) = model.seen
    assert (seen.path, seen.query, seen.body) == ("/v1/messages", "beta=true", raw)
    assert seen.headers["x-api-key"] == CREDENTIAL
    assert seen.headers["anthropic-beta"] == "x-1"
    assert seen.headers["content-length"] == str(len(raw))
    assert not {"authorization", "cookie"} & set(seen.headers)
    assert ada.token not in json.dumps(seen.headers)


async def test_tokens_are_counted_too(ada: Runner, model: Model) -> None:
    assert (await ada.ask(path="/model/v1/messages/count_tokens")).status_code == 200
    assert model.seen[0].path == "/v1/messages/count_tokens"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/model/v1/files", 404),
        ("/model/v1/messages/batches", 404),
        ("/model/v1/models", 404),
        ("/model/v1/messages/../files", 404),
        ("/model//v1/messages", 404),
        ("/model/v1/messages/", 404),
        ("/model/v1/messages?after=1", 400),
        ("/model/v1/messages?beta=true&after=1", 400),
    ],
)
async def test_nothing_else_of_the_api_is_there(ada: Runner, model: Model, path: str, status: int) -> None:
    answered = await ada.ask(path=path)
    assert answered.status_code == status
    assert answered.json()["type"] == "error"
    assert not model.seen


async def test_there_is_no_model_without_an_open_task(world: World, model: Model) -> None:
    ada = await world.agent()
    await ada.hello()
    not_yet = await ada.ask()
    assert (not_yet.status_code, not_yet.json()["code"]) == (503, "no_open_task")
    await ada.start()
    assert (await ada.ask()).status_code == 200
    await ada.end()
    over = await ada.ask()
    assert (over.status_code, over.json()["code"]) == (403, "no_open_task")
    assert over.json()["error"]["type"] == "permission_error"
    assert len(model.seen) == 1


@pytest.mark.parametrize("is_silent", [False, True])
async def test_while_the_log_is_away_a_task_that_was_seen_open_goes_on(
    world: World, model: Model, valkey: LogServer, is_silent: bool
) -> None:
    ada, bob = await world.agent(), await world.agent("bob")
    await ada.start()
    await bob.start()
    assert (await ada.ask()).status_code == 200
    assert valkey.process
    valkey.process.send_signal(signal.SIGSTOP) if is_silent else valkey.kill()
    try:
        async with asyncio.timeout(5):
            assert (await ada.ask()).status_code == 200
        if not is_silent:
            unseen = await bob.ask()
            assert (unseen.status_code, unseen.json()["code"]) == (503, "log_unavailable")
    finally:
        valkey.process.send_signal(signal.SIGCONT) if is_silent else valkey.start()
    assert (await bob.ask()).status_code == 200
    await ada.end()
    assert (await ada.ask()).status_code == 403
    assert len(model.seen) == 3


async def test_an_open_task_of_another_uid_opens_nothing(world: World) -> None:
    ada = await world.agent()
    key = LogKey(ada.key.namespace, ada.key.name, "earlier-uid")
    end = schema.TaskFailed(task_id=ada.task, error="x", code="x")
    await world.log.end(key, end, generation=1, floor=None)
    await world.patch_status(endedTasks=[ada.task])

    async def is_refused() -> bool:
        answered = await ada.ask()
        assert answered.json()["code"] == "no_open_task"
        return answered.status_code == 403

    await eventually(is_refused)


@pytest.mark.parametrize(
    "more", [{"model": "claude-opus-5-5"}, {"mcp_servers": []}, {"tools": [{"type": "web_fetch_20250910"}]}]
)
async def test_what_an_agent_may_not_ask_is_refused_in_a_sentence(
    ada: Runner, model: Model, more: dict[str, Any]
) -> None:
    answered = await ada.ask(asking(**more))
    assert answered.status_code == 403
    assert answered.json()["error"]["type"] == "permission_error"
    assert answered.json()["error"]["message"].endswith(".")
    assert not model.seen


async def test_a_model_that_is_changed_meanwhile_is_the_next_tasks(ada: Runner, world: World) -> None:
    async with ada.assignments() as lines:
        await lines.next_assignment()
        await world.patch_spec(model="claude-opus-5-5")
        await lines.until(lambda told: told.settings.model == "claude-opus-5-5")
    assert (await ada.ask(asking(model=MODEL))).status_code == 200
    assert (await ada.ask(asking(model="claude-opus-5-5"))).status_code == 200
    assert (await ada.ask(asking(model="claude-haiku-5-5"))).status_code == 403


async def test_a_start_cannot_choose_its_own_model(world: World) -> None:
    ada = await world.agent()
    await ada.start(model="claude-dearest-9")
    assert (await ada.ask(asking(model="claude-dearest-9"))).status_code == 403
    assert (await ada.events())[0]["payload"]["model"] == MODEL


@pytest.mark.parametrize(
    ("raw", "headers", "status", "kind"),
    [
        (b"{", {}, 400, "invalid_request_error"),
        (b'{"model":"a","model":"b"}', {}, 400, "invalid_request_error"),
        (gzip.compress(b"{}", mtime=0), {"content-encoding": "gzip"}, 400, "invalid_request_error"),
        (b" " * (32 * 2**20 + 1), {}, 413, "request_too_large"),
    ],
)
async def test_what_cannot_be_read_is_refused(
    ada: Runner, model: Model, raw: bytes, headers: dict[str, str], status: int, kind: str
) -> None:
    answered = await ada.ask(raw, **headers)
    assert (answered.status_code, answered.json()["error"]["type"]) == (status, kind)
    assert not model.seen


async def test_a_bad_token_is_told_in_the_models_words(ada: Runner) -> None:
    ada.token = "nonsense"
    answered = await ada.ask()
    assert (answered.status_code, answered.json()["error"]["type"]) == (401, "authentication_error")


async def test_the_first_bytes_pass_before_the_model_has_finished(ada: Runner, world: World, model: Model) -> None:
    model.reply = streams(b"data: 1\n\n", b"data: 2\n\n", b"data: 3\n\n")
    async with asking_in(world, ada) as response, asyncio.timeout(WITHIN_S):
        chunks = response.aiter_raw()
        assert await anext(chunks) == b"data: 1\n\n"
        assert not model.may_go_on.is_set()
        model.may_go_on.set()
        rest = b"".join([chunk async for chunk in chunks])
    assert rest == b"data: 2\n\ndata: 3\n\n"
    assert response.headers["content-type"] == "text/event-stream"


async def test_a_reader_who_leaves_ends_the_models_work(ada: Runner, world: World, model: Model) -> None:
    model.reply = streams(b"data: 1\n\n", b"data: 2\n\n")
    async with asking_in(world, ada) as response, asyncio.timeout(WITHIN_S):
        assert await anext(response.aiter_raw()) == b"data: 1\n\n"
    async with asyncio.timeout(WITHIN_S):
        await model.was_left.wait()


async def test_a_reader_who_leaves_before_the_answer_ends_the_models_work(
    ada: Runner, world: World, model: Model
) -> None:
    async def silent(model: Model, receive: Any, send: Any) -> None:
        model.has_begun.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        model.was_left.set()

    model.reply = silent
    asked = asyncio.create_task(ada.ask())
    async with asyncio.timeout(WITHIN_S):
        await model.has_begun.wait()
        asked.cancel()
        await model.was_left.wait()


async def test_a_reader_who_takes_nothing_is_not_read_ahead_for(ada: Runner, world: World, model: Model) -> None:
    chunk, sent = b"x" * 65_536, 0

    async def endless(model: Model, receive: Any, send: Any) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while sent < 2000:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                sent += 1
        finally:
            model.was_left.set()

    model.reply = endless
    async with asking_in(world, ada) as response, asyncio.timeout(WITHIN_S):
        chunks = response.aiter_raw()
        await anext(chunks)
        held = -1
        while held != sent:  # until nothing moves any more
            held = sent
            await asyncio.sleep(0.3)
        await chunks.aclose()
    assert held < 500, "130 MB were to come, and the reader took one chunk"


async def test_an_answer_that_breaks_off_does_not_look_finished(ada: Runner, world: World, model: Model) -> None:
    model.reply = breaks_off
    with pytest.raises(httpx.RemoteProtocolError):
        await ada.ask()


@pytest.mark.parametrize("status", [400, 401, 429, 500, 529])
async def test_the_models_errors_pass_as_they_are(ada: Runner, model: Model, status: int) -> None:
    said = {"type": "error", "error": {"type": "some_error", "message": "No."}}
    model.reply = answers(status, said, retry_after="7", request_id="req_1")
    answered = await ada.ask()
    assert (answered.status_code, answered.json()) == (status, said)
    assert (answered.headers["retry-after"], answered.headers["request-id"]) == ("7", "req_1")


async def test_a_compressed_answer_passes_without_being_touched(ada: Runner, model: Model) -> None:
    packed = gzip.compress(b'{"type": "message"}')
    model.reply = answers(200, packed, content_encoding="gzip")
    answered = await ada.ask(**{"accept-encoding": "gzip, br"})
    assert answered.headers["content-encoding"] == "gzip"
    assert answered.num_bytes_downloaded == len(packed)
    assert answered.json() == {"type": "message"}
    assert model.seen[0].headers["accept-encoding"] == "gzip"


async def test_a_redirect_is_not_followed_and_not_told(ada: Runner, model: Model) -> None:
    model.reply = answers(307, b"", location="http://169.254.169.254/latest")
    answered = await ada.ask()
    assert (answered.status_code, answered.json()["code"]) == (502, "model_unreachable")
    assert "169.254" not in answered.text + str(answered.headers)
    assert answered.headers["x-should-retry"] == "false"
    assert len(model.seen) == 1


@pytest.mark.parametrize(
    ("status", "is_final"),
    [(400, False), (401, True), (402, True), (403, True), (404, True), (429, False), (529, False)],
)
async def test_claude_does_not_repeat_what_cannot_succeed(
    ada: Runner, model: Model, status: int, is_final: bool
) -> None:
    model.reply = answers(status, {"type": "error", "error": {"type": "any", "message": "no"}}, x_should_retry="true")
    answered = await ada.ask()
    assert answered.status_code == status
    assert answered.headers.get_list("x-should-retry") == (["false"] if is_final else ["true"])


async def test_a_model_that_cannot_be_reached_is_told_without_its_address(ada: Runner, world: World) -> None:
    port = free_port()
    world.gateway.parts.upstream._base = f"http://127.0.0.1:{port}"
    answered = await ada.ask()
    assert (answered.status_code, answered.json()["error"]["type"]) == (502, "api_error")
    assert str(port) not in answered.text
    assert "127.0.0.1" not in answered.text


def asking_in(world: World, runner: Runner) -> Any:
    headers = {"authorization": f"Bearer {runner.token}", "content-type": "application/json"}
    return world.http.stream("POST", f"{world.url}/model/v1/messages", json=asking(stream=True), headers=headers)


@pytest.fixture
async def offline_world(world: World) -> AsyncIterator[World]:
    """Behind its gateway stands the offline model."""
    from komputer import offline

    async with serving(offline.app(), lifespan="off") as url:
        world.gateway.parts.upstream._base = url
        yield world


async def test_the_offline_model_answers_through_it(offline_world: World) -> None:
    ada = await offline_world.agent()
    await ada.start()
    async with asking_in(offline_world, ada) as response:
        said = b"".join([chunk async for chunk in response.aiter_raw()])
    assert b"event: message_start" in said
    assert said.rstrip().endswith(b'data: {"type": "message_stop"}')
