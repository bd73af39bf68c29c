"""Which model requests pass."""

import json
from typing import Any

import pytest

from komputer.domain.errors import Forbidden, Invalid
from komputer.gateway.errors import TooLarge
from komputer.gateway.model.requests import VALUES_LIMIT, admit, admit_model, model_of, parsed, serves

MODEL = "claude-sonnet-4-6"


def request(**more: Any) -> dict[str, Any]:
    return {"model": MODEL, "max_tokens": 10, "messages": [{"role": "user", "content": "Hello"}], **more}


def refused(body: dict[str, Any]) -> str:
    def look() -> None:
        admit(body)
        admit_model(body.get("model"), {MODEL})

    with pytest.raises(Forbidden) as refusal:
        look()
    return refusal.value.code


def content(*blocks: dict[str, Any]) -> dict[str, Any]:
    return request(messages=[{"role": "user", "content": list(blocks)}])


def source(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": "image", "source": {"type": kind, **more}}


def test_what_claude_sends_passes() -> None:
    schema = {"type": "object", "properties": {"source": {"type": "object"}, "container": {"type": "string"}}}
    call = {"type": "tool_use", "id": "t", "name": "Fetch", "input": {"source": {"type": "url"}, "file_id": "f"}}
    body = request(
        system=[{"type": "text", "text": "You are"}],
        tools=[
            {"name": "Bash", "description": "…", "input_schema": schema},
            {"name": "Own", "type": "custom", "input_schema": schema},
            {"name": "bash", "type": "bash_20250124"},
        ],
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "Hi"}, source("base64", data="")]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "", "signature": "s"}, call]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [source("base64")]}]},
            {"role": "system", "content": "Mind the time."},
        ],
        metadata={"user_id": "x"},
        thinking={"type": "enabled", "budget_tokens": 1024},
        context_management={"edits": []},
        container=None,
        stream=True,
    )
    assert model_of(json.dumps(body).encode()) == MODEL


@pytest.mark.parametrize("model", ["claude-opus-5-5", "", None, 5, ["claude-sonnet-4-6"], "CLAUDE-SONNET-4-6"])
def test_another_model_than_the_assigned_is_refused(model: object) -> None:
    assert refused({**request(), "model": model}) == "model_not_assigned"


@pytest.mark.parametrize(
    ("assigned", "asked", "is_served"),
    [
        ("claude-sonnet-4-6", "claude-sonnet-4-6", True),
        ("claude-sonnet-4-6[1m]", "claude-sonnet-4-6", True),
        ("sonnet", "claude-sonnet-5-5", True),
        ("sonnet[1m]", "claude-sonnet-5-5", True),
        ("sonnet", "claude-opus-5-5", False),
        ("claude", "claude-opus-5-5", False),
        ("claude-sonnet-4-6", "claude-sonnet-4-60", False),
    ],
)
def test_a_model_is_known_by_its_alias_and_without_its_long_context(assigned: str, asked: str, is_served: bool) -> None:
    assert serves(assigned, asked) is is_served


@pytest.mark.parametrize("field", ["mcp_servers", "container", "files", "fallbacks"])
def test_fields_that_reach_files_servers_or_other_models_are_refused(field: str) -> None:
    assert refused(request(**{field: [{"url": "https://example.com"}]})) == "field_not_allowed"


@pytest.mark.parametrize(
    "kind",
    [
        *("web_search_20250305", "web_fetch_20250910", "code_execution_20250825", "mcp_toolset", "advisor_20260301"),
        *("something_new", 5, {}, ""),
    ],
)
def test_tools_that_run_on_the_models_side_are_refused(kind: object) -> None:
    assert refused(request(tools=[{"name": "Bash"}, {"name": "x", "type": kind}])) == "field_not_allowed"


@pytest.mark.parametrize(
    "block",
    [
        source("url", url="http://169.254.169.254/"),
        source("file", file_id="file_1"),
        source("something_new"),
        {"type": "document", "source": {"type": "content", "content": [source("url")]}},
        {"type": "tool_result", "tool_use_id": "t", "content": [source("file")]},
        {"type": "container_upload", "file_id": "file_1"},
        {"type": "text", "text": "", "file_id": "file_1"},
    ],
)
def test_content_that_is_not_in_the_request_itself_is_refused(block: dict[str, Any]) -> None:
    assert refused(content({"type": "text", "text": "Hi"}, block)) == "field_not_allowed"
    assert refused(request(system=[block])) == "field_not_allowed"


@pytest.mark.parametrize("content", [None, 5, [None, 5, [[]]], {"type": "text"}, "text"])
def test_nonsense_is_left_to_the_model_to_refuse(content: object) -> None:
    admit(request(messages=[{"role": "user", "content": content}, None], tools="none", system=3))


@pytest.mark.parametrize(
    ("value", "per_value"), [(b"[0],", 2), (b'{"":0},', 2), (b"0,", 1), (b'"text, [{\\" text",', 1)]
)
def test_a_small_body_that_would_be_large_in_memory_is_not_parsed(value: bytes, per_value: int) -> None:
    def body(count: int) -> bytes:
        return b'{"model":"m","x":[' + value * count + b"0]}"

    with pytest.raises(TooLarge):
        parsed(body(VALUES_LIMIT // per_value))
    assert parsed(body(1000))["model"] == "m"


def test_a_models_name_that_is_longer_than_any_is_refused() -> None:
    with pytest.raises(Invalid) as refusal:
        model_of(json.dumps(request(model="claude-sonnet-" + "x" * 256)).encode())
    assert refusal.value.code == "invalid_model"


def test_the_refusal_is_a_sentence_for_claude_to_show() -> None:
    with pytest.raises(Forbidden) as refusal:
        admit_model("claude-opus-5-5", {MODEL})
    assert refusal.value.message == (
        "This agent may not use the model 'claude-opus-5-5'; it is assigned claude-sonnet-4-6."
    )


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"model":"a","model":"b"}',
        b'{"model": "a", "messages": [{"content": [{"source": {"type": "base64", "type": "url"}}]}]}',
        b'{"model":"a","mo\\u0064el":"b"}',
        b'{"a":NaN}',
        b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'\xff{"a":1}',
    ],
)
def test_what_two_readers_may_read_differently_is_refused(raw: bytes) -> None:
    with pytest.raises(Invalid) as refusal:
        parsed(raw)
    assert refusal.value.code == "invalid_json"


@pytest.mark.parametrize("raw", [b'{"a":1}', b'{ "a" : 1.0, "b": "\\u00e9" }', '{"a":"é\\u0001"}'.encode()])
def test_any_way_to_write_the_same_json_is_read(raw: bytes) -> None:
    assert parsed(raw) == json.loads(raw)
