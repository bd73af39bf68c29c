"""What is wrong with a request is told in sentences of ours, whatever was sent to whichever operation."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from pydantic_core._pydantic_core import list_all_errors

from komputer.api.schemas import agents, connectors, secrets
from komputer.api.schemas.agents import Body, CreateAgent, MessageRequest
from komputer.api.schemas.connectors import CreateConnector
from komputer.api.typos import declared
from komputer.http.validation import PATTERNS, explain
from tests.unit.api import bare

KINDS = [
    body
    for module in (agents, connectors, secrets)
    for body in vars(module).values()
    if isinstance(body, type) and issubclass(body, Body) and body.model_fields
]
FOREIGN = (
    "input should",
    "valid string",
    "valid dictionary",
    "pattern",
    "pydantic",
    "unable to",
    "characters\\",
    "^",
    "$",
)
"""Words of pydantic's sentences, and signs of regular expressions."""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("x" * 700),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)


def patterns_of(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        for part in schema.values():
            yield from patterns_of(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from patterns_of(part)


def ours(sentence: str, name: str = "") -> None:
    """Without what the client has sent itself, which a sentence may repeat."""
    said = sentence.lower()
    assert not [word for word in FOREIGN if word in said and word not in name.lower()], sentence
    sentence.encode()


def test_each_pattern_has_a_sentence() -> None:
    assert {pattern for kind in KINDS for pattern in patterns_of(kind.model_json_schema())} <= PATTERNS.keys()
    for sentence in PATTERNS.values():
        ours(sentence)


def test_each_kind_of_error_that_pydantic_knows_has_a_sentence_of_ours() -> None:
    for known in list_all_errors():
        context = {"pattern": "^x$", "error": "is wrong", "expected": "'a' or 'b'"} | (known["example_context"] or {})
        error = {"type": known["type"], "loc": ("body", "field"), "msg": "foreign", "ctx": context, "input": [1]}
        sentence, field = explain([error])
        assert field == "field" or known["type"] == "json_invalid"
        ours(sentence)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(KINDS), st.data())
def test_no_message_has_pydantics_words_or_a_regular_expression(kind: type[Body], data: st.DataObject) -> None:
    names = [info.alias or name for name, info in kind.model_fields.items()]
    body = data.draw(st.dictionaries(st.sampled_from(names), JSON, max_size=4) | JSON)
    try:
        kind.model_validate(body)
    except ValidationError as wrong:
        for error in wrong.errors():
            sentence, field = explain([{**error, "loc": ("body", *error["loc"])}])
            assert error["msg"] not in sentence or error["type"] == "value_error"
            if field is not None:
                assert sentence.startswith(field)
            ours(sentence, field + str(error["input"]) if field else "")


AGENT = {"name": "ada", "instructions": "x"}
CONNECTOR = {"name": "a", "service": "x", "url": "https://a.example"}


@pytest.mark.parametrize(
    ("kind", "body", "sentence"),
    [
        (CreateAgent, {"name": "ada"}, "instructions is required"),
        (CreateAgent, AGENT | {"instructions": 7}, "instructions must be a text, and is a number"),
        (CreateAgent, AGENT | {"instructions": " "}, "instructions must not be empty"),
        (
            CreateAgent,
            AGENT | {"effort": "hihg"},
            "effort must be one of low, medium, high, xhigh, max, and is 'hihg'; did you mean high or xhigh?",
        ),
        (CreateAgent, AGENT | {"role": "b\xf6ss"}, r"role must be one of manager, worker, and is 'b\xf6ss'"),
        (CreateAgent, AGENT | {"role": "x" * 200}, f"role must be one of manager, worker, and is '{'x' * 100}'"),
        (CreateAgent, AGENT | {"instructions": ""}, "instructions must not be empty"),
        (MessageRequest, {"content": ""}, "content must not be empty"),
        (MessageRequest, {"content": "x" * 20_000}, "content is longer than 16384 characters"),
        (CreateAgent, AGENT | {"connectors": ["a"] * 65}, "connectors has more than 64 entries"),
        (CreateAgent, AGENT | {"connectors": "a"}, "connectors must be a list, and is a text"),
        (CreateAgent, AGENT | {"connectors": [1]}, "connectors[0] must be a text, and is a number"),
        (CreateAgent, AGENT | {"labels": {"a": 1}}, "labels.a must be a text, and is a number"),
        (CreateAgent, AGENT | {"labels": []}, "labels must be an object, and is a list"),
        (CreateConnector, CONNECTOR | {"disabled": "yes"}, "disabled must be true or false, and is a text"),
        (CreateAgent, [], "the body must be a JSON object, and is a list"),
    ],
)
def test_a_sentence_names_the_field_what_is_wrong_and_what_is_allowed(
    kind: type[BaseModel], body: Any, sentence: str
) -> None:
    with pytest.raises(ValidationError) as wrong:
        kind.model_validate(body)
    assert explain([{**wrong.value.errors()[0], "loc": ("body", *wrong.value.errors()[0]["loc"])}])[0] == sentence


BROKEN = {
    "not JSON": b"{",
    "not UTF-8": b'{"name": "\xff"}',
    "too deep": b"[" * 200_000,
    "closed and too deep": b"[" * 100_000 + b"]" * 100_000,
    "a number without end": b'{"name": ' + b"9" * 10_000 + b"}",
    "UTF-16": '{"name": 1}'.encode("utf-16"),
    "nothing": b"",
    "not an object": b"[]",
    "a number that is none": b'{"name": NaN}',
    "half a character": b'{"name": "\\ud800", "\\ud800": 1, "labels": {"\\ud800": 1}}',
    "deep within": b'{"name": "ada", "x": ' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}",
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
async def test_every_operation_answers_a_broken_body_with_json(broken: bytes) -> None:
    async with bare.client() as client:
        for route in bare.routes():
            if route.body_field is None:
                continue
            for headers in ({"content-type": "application/json"}, {}):
                answer = await client.request(
                    bare.method_of(route), bare.path_of(route), content=broken, headers=headers
                )
                if answer.status_code == 503:
                    continue  # a body that is not needed, or that is in order
                assert answer.status_code in (400, 413), (route.path, answer.text)
                assert answer.json().keys() == {"error", "code"}
                ours(answer.json()["error"])


async def test_bytes_that_are_no_text_in_a_query_are_answered_with_json() -> None:
    async with bare.client() as client:
        for route in bare.routes():
            for query in ("namespace=%ff%fe", "%ff=1", "limit=%ed%a0%80", "q=%00", "types=%ff"):
                answer = await client.request(bare.method_of(route), f"{bare.path_of(route)}?{query}", content=b"{}")
                assert answer.status_code in (400, 503), (route.path, query, answer.text)
                assert json.loads(answer.content).keys() == {"error", "code"}


@settings(max_examples=25, deadline=None)
@given(JSON)
async def test_whatever_json_is_sent_to_whichever_operation_the_answer_is_a_sentence_of_ours(body: Any) -> None:
    content = json.dumps(body).encode()
    async with bare.client() as client:
        for route in bare.routes():
            if route.body_field is not None:
                headers = {"content-type": "application/json"}
                method, path = bare.method_of(route), bare.path_of(route)
                answer = await client.request(method, path, content=content, headers=headers)
                assert answer.status_code in (400, 503), (route.path, answer.text)
                ours(answer.json()["error"], str(body))


async def test_whatever_a_query_parameter_holds_the_answer_is_a_sentence_of_ours() -> None:
    async with bare.client() as client:
        for route in bare.routes():
            for parameter in declared(route.dependant).known:
                for value in ("", "x", "-1", "1.5", "9" * 5000, "٣", "true ", "a,b", "\0"):
                    asked = {parameter: value}
                    answer = await client.request(bare.method_of(route), bare.path_of(route), params=asked)
                    assert answer.status_code in (400, 503), (route.path, asked, answer.text)
                    ours(answer.json()["error"])
