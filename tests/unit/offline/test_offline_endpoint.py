"""The offline model as seen by a client of the Messages API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Message, Scope

from komputer.offline import app
from komputer.offline.playing import Counters
from tests.unit.offline.conversations import TOOLS, scripted, user

DEADLINE_SECONDS = 20

BASH = {"tool": "Bash", "input": {"command": "echo 'ünïcode' && ls -la /usr/share/doc"}}


@pytest.fixture
def client() -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app()), base_url="http://offline")


def body(*steps: object, stream: bool = False, tools: Iterable[object] = TOOLS) -> dict[str, Any]:
    return {
        "model": "claude-sonnet-4-6",
        "max_tokens": 1000,
        "stream": stream,
        "tools": [*tools],
        "messages": [user(scripted(*steps))],
    }


def events(raw: str) -> list[dict[str, Any]]:
    """Return the data of a stream's events; each event's name is its type."""
    found = []
    for event in raw.removesuffix("\n\n").split("\n\n"):
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def assembled(stream: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the message that a client builds from a stream."""
    message: dict[str, Any] = stream[0]["message"]
    content: list[dict[str, Any]] = message["content"]
    partial = ""
    for event in stream:
        match event["type"]:
            case "content_block_start":
                assert event["index"] == len(content)
                content.append(event["content_block"])
                partial = ""
            case "content_block_delta":
                match event["delta"]:
                    case {"type": "input_json_delta", "partial_json": piece}:
                        partial += piece
                        content[-1]["input"] = partial
                    case {"type": "text_delta", "text": piece}:
                        content[-1]["text"] += piece
                    case {"type": "thinking_delta", "thinking": piece}:
                        content[-1]["thinking"] += piece
                    case {"type": "signature_delta", "signature": piece}:
                        content[-1]["signature"] += piece
            case "message_delta":
                message = {**message, **event["delta"], "usage": event["usage"]}
    for block in content:
        if block["type"] == "tool_use":
            block["input"] = json.loads(block["input"])
    return message


async def test_a_stream_has_the_events_of_the_messages_api_in_order(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/v1/messages?beta=true", json=body({"think": "x" * 50}, {"say": "y" * 50}, BASH, stream=True)
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    kinds = [event["type"] for event in events(answer.text)]
    without_deltas = [kind for kind in kinds if kind != "content_block_delta"]
    block = ["content_block_start", "content_block_stop"]
    assert without_deltas == ["message_start", "ping", *block * 3, "message_delta", "message_stop"]
    text_deltas = [event for event in events(answer.text) if event.get("delta", {}).get("type") == "text_delta"]
    assert len(text_deltas) > 2


async def test_a_stream_has_the_same_content_as_a_plain_response(client: httpx.AsyncClient) -> None:
    steps = [{"think": "hm"}, {"say": "a 🦊 " * 30}, {"wait": 0}, {"say": "two"}, BASH]
    whole = (await client.post("/v1/messages", json=body(*steps))).json()
    streamed = await client.post("/v1/messages", json=body(*steps, stream=True))
    assert assembled(events(streamed.text)) == whole
    assert whole["stop_reason"] == "tool_use"
    assert whole["content"][-1]["input"] == BASH["input"]
    assert whole["model"] == "claude-sonnet-4-6"
    assert events(streamed.text)[0]["message"]["usage"]["output_tokens"] == 1


async def test_a_reply_that_ends_the_turn_has_the_stop_reason_end_turn(client: httpx.AsyncClient) -> None:
    usage = {"input_tokens": 12, "output_tokens": 34, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 6}
    answer = (await client.post("/v1/messages", json=body({"usage": usage}, {"say": "end"}))).json()
    assert answer["stop_reason"] == "end_turn"
    assert answer["usage"] == usage


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_occurs_as_often_as_scripted_and_has_anthropics_shape(
    client: httpx.AsyncClient, stream: bool
) -> None:
    payload = body({"fail": 529, "times": 2, "message": "Busy."}, {"say": "at last"}, stream=stream)
    for _ in range(2):
        answer = await client.post("/v1/messages", json=payload)
        assert answer.status_code == 529
        assert answer.json() == {"type": "error", "error": {"type": "overloaded_error", "message": "Busy."}}
        assert answer.headers["request-id"]
    answer = await client.post("/v1/messages", json=payload)
    assert answer.status_code == 200
    assert "at last" in answer.text


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (429, "rate_limit_error"),
        (418, "invalid_request_error"),
        (503, "api_error"),
    ],
)
async def test_a_failure_has_the_type_of_its_status(client: httpx.AsyncClient, status: int, kind: str) -> None:
    answer = await client.post("/v1/messages", json=body({"fail": status}, {"say": "x"}))
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind)


async def test_failures_are_counted_per_session(client: httpx.AsyncClient) -> None:
    payload = body({"fail": 500}, {"say": "ok"})
    for session in ("one", "two", ""):
        statuses = [
            (await client.post("/v1/messages", json=payload, headers={"x-claude-code-session-id": session})).status_code
            for _ in range(2)
        ]
        assert statuses == [500, 200]


async def test_without_a_session_failures_are_counted_per_first_prompt(client: httpx.AsyncClient) -> None:
    payload = body({"fail": 500}, {"say": "ok"})
    other = {**payload, "messages": [user("Hello."), *payload["messages"]]}
    assert [(await client.post("/v1/messages", json=one)).status_code for one in (payload, other, payload, other)] == [
        500,
        500,
        200,
        200,
    ]


async def test_a_failure_after_a_text_ends_the_stream(client: httpx.AsyncClient) -> None:
    payload = body({"say": "one"}, {"fail": 529}, {"say": "two"}, stream=True)
    broken = events((await client.post("/v1/messages", json=payload)).text)
    assert [event["type"] for event in broken][-2:] == ["content_block_stop", "error"]
    assert broken[-1]["error"]["type"] == "overloaded_error"
    assert events((await client.post("/v1/messages", json=payload)).text)[-1]["type"] == "message_stop"


async def test_a_failure_after_a_text_is_a_status_in_a_plain_response(client: httpx.AsyncClient) -> None:
    payload = body({"say": "one"}, {"fail": 529}, {"say": "two"})
    assert (await client.post("/v1/messages", json=payload)).status_code == 529
    assert (await client.post("/v1/messages", json=payload)).status_code == 200


class Visit:
    """One request made directly to the ASGI application, by a client that can watch and disconnect."""

    def __init__(self, payload: dict[str, Any]) -> None:
        self._payload = json.dumps(payload).encode()
        self._has_sent = False
        self.left = asyncio.Event()
        self.got = b""
        self.came = asyncio.Condition()
        self.task = asyncio.create_task(app()(SCOPE, self._receive, self._send))

    async def until(self, words: bytes) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS), self.came:
            await self.came.wait_for(lambda: words in self.got)

    async def is_over(self) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self.task

    async def _receive(self) -> Message:
        if not self._has_sent:
            self._has_sent = True
            return {"type": "http.request", "body": self._payload}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        async with self.came:
            self.got += str(message["status"]).encode() if "status" in message else message["body"]
            self.came.notify_all()


SCOPE: Scope = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "http_version": "1.1",
    "method": "POST",
    "path": "/v1/messages",
    "query_string": b"",
    "headers": [],
}


async def test_text_before_a_wait_is_sent_first_and_a_disconnect_ends_the_wait() -> None:
    visit = Visit(body({"say": "before"}, {"wait": 86400}, {"say": "after"}, stream=True))
    await visit.until(b"content_block_stop")
    assert b"after" not in visit.got
    visit.left.set()
    await visit.is_over()
    assert b"message_stop" not in visit.got


async def test_a_wait_at_the_beginning_opens_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("komputer.offline.playing.PING_SECONDS", 86400)
    visit = Visit(body({"wait": 86400}, {"say": "after"}, stream=True))
    await visit.until(b"event: message_start")
    visit.left.set()
    await visit.is_over()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_hang_at_the_beginning_sends_nothing(stream: bool) -> None:
    visit = Visit(body({"hang": 0.2}, {"hang": 86400}, {"say": "after"}, stream=stream))
    done, _ = await asyncio.wait({visit.task}, timeout=0.4)
    assert not done
    assert visit.got == b""
    visit.left.set()
    await visit.is_over()
    assert visit.got == b""


async def test_a_hang_after_a_text_is_silence_in_the_stream() -> None:
    visit = Visit(body({"say": "before"}, {"hang": 86400}, {"say": "after"}, stream=True))
    await visit.until(b"content_block_stop")
    visit.left.set()
    await visit.is_over()
    assert b"after" not in visit.got


async def test_a_wait_sends_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("komputer.offline.playing.PING_SECONDS", 0.01)
    visit = Visit(body({"wait": 1}, {"say": "after"}, stream=True))
    await visit.is_over()
    assert visit.got.count(b"event: ping") > 2
    assert visit.got.endswith(b'event: message_stop\ndata: {"type": "message_stop"}\n\n')


async def test_a_wait_with_times_applies_to_that_many_requests(client: httpx.AsyncClient) -> None:
    payload = body({"hang": 0.01, "times": 1}, {"wait": 0.01, "times": 1}, {"say": "after"})
    for _ in range(2):
        assert (await client.post("/v1/messages", json=payload)).status_code == 200


async def test_an_invalid_script_is_a_400_that_names_the_fault(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/messages", json=body({"say": "a"}, {"sya": "b"}, stream=True))
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert "Step 2" in error["message"]
    assert "usage" in error["message"]


async def test_tokens_are_counted(client: httpx.AsyncClient) -> None:
    short = await client.post("/v1/messages/count_tokens", json={**body(), "system": ""})
    longer = await client.post("/v1/messages/count_tokens", json={**body(), "system": "x" * 400})
    assert longer.json()["input_tokens"] == short.json()["input_tokens"] + 100


async def test_the_title_of_a_session_is_json(client: httpx.AsyncClient) -> None:
    schema = {"type": "object", "properties": {"title": {"type": "string"}}}
    payload = {**body({"say": "one"}), "output_config": {"format": {"type": "json_schema", "schema": schema}}}
    answer = await client.post("/v1/messages", json=payload)
    assert json.loads(answer.json()["content"][0]["text"]) == {"title": "Offline"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/messages", 405), ("HEAD", "/api/hello", 404), ("POST", "/v1/complete", 404), ("GET", "/", 404)],
)
async def test_an_unknown_path_is_an_error_in_the_same_shape(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == status
    if method != "HEAD":
        assert answer.json()["type"] == "error"


async def test_a_request_above_anthropics_size_limit_is_a_413(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/messages", content=b"x" * (32 * 2**20 + 1))
    assert (answer.status_code, answer.json()["error"]["type"]) == (413, "request_too_large")


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "JSON object"),
        (b"{}", "model"),
        (b'{"model": "claude-test-1"}', "messages"),
        (b'{"model": "claude-test-1", "messages": [{"role": "user", "content": "x"}], "tools": {"a": 1}}', "tools"),
    ],
)
async def test_an_invalid_request_is_a_400_that_names_the_fault(
    client: httpx.AsyncClient, payload: bytes, named: str
) -> None:
    answer = await client.post("/v1/messages", content=payload)
    assert answer.status_code == 400
    assert named in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("prompt", "status"),
    [
        ("\ud800", 200),
        (scripted({"say": "\ud800"}), 400),
        (scripted({"tool": "Bash", "input": {"\ud800": "\udc00"}}), 200),
        (scripted("\ud800"), 400),
    ],
)
async def test_a_lone_surrogate_is_no_server_error(client: httpx.AsyncClient, prompt: str, status: int) -> None:
    payload = json.dumps({**body(), "messages": [user(prompt)]}).encode()
    assert (await client.post("/v1/messages", content=payload)).status_code == status


@pytest.mark.parametrize(("depth", "statuses"), [(100, [200, 200]), (101, [400, 200]), (100_000, [400, 400])])
async def test_deep_nesting_is_no_server_error(client: httpx.AsyncClient, depth: int, statuses: list[int]) -> None:
    call = b'{"type": "tool_use", "input": %s1%s}' % (b'{"a":' * depth, b"}" * depth)
    payload = b'{"model": "claude-test-1", "messages": [{"role": "assistant", "content": [%s]}]}' % call
    paths = ("/v1/messages", "/v1/messages/count_tokens")
    assert [(await client.post(path, content=payload)).status_code for path in paths] == statuses


words = st.text(st.characters(exclude_categories=())) | st.sampled_from(["user", "text", "tool_use", "say", "tool"])
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "text", "say", "tool", "input"]) | words, inner, max_size=4
        )
    ),
    max_leaves=12,
)
step = st.fixed_dictionaries({"tool": st.just("Bash"), "input": st.dictionaries(words, anything)}) | anything
block = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "tool_use", "tool_result"])},
    optional={"text": st.builds(scripted, step) | anything, "content": anything, "input": anything},
)
message = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system"]), "content": st.lists(block, max_size=3) | anything}
)
request = st.fixed_dictionaries(
    {"model": st.just("m") | anything, "messages": st.lists(message, max_size=4) | anything},
    optional={"tools": st.just(TOOLS) | anything, "stream": anything, "output_config": anything, "system": anything},
)


@given(request | anything)
@settings(deadline=None)
def test_no_request_causes_a_server_error(payload: Any) -> None:
    async def ask() -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app()), base_url="http://offline") as client:
            return (await client.post("/v1/messages", content=json.dumps(payload).encode())).status_code

    assert asyncio.run(ask()) in (200, 400, 404)


def test_counters_drop_only_the_oldest() -> None:
    counters = Counters(limit=2)
    assert [counters.take(step, 1) for step in ("a", "a", "b", "c", "b", "a")] == [True, False, True, True, False, True]


@pytest.mark.parametrize("model", ["haiku", "sonnet", "opus[1m]", "m", "gpt-4", "claude-", "no model"])
def test_an_unknown_model_is_a_404_as_at_anthropic(model: str) -> None:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app()), base_url="http://offline") as client:
            payload = {"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
            return await client.post("/v1/messages", json=payload)

    answered = asyncio.run(ask())
    assert (answered.status_code, answered.json()["error"]) == (
        404,
        {"type": "not_found_error", "message": f"model: {model}"},
    )
