"""Whatever is sent to the API: an answer of the documented shape, and never a 5xx."""

import json
from urllib.parse import quote

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.e2e.platform import Platform

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
FIELDS = (
    "instructions",
    "model",
    "systemPrompt",
    "role",
    "connectors",
    "templateRef",
    "labels",
    "lifecycle",
    "podSpec",
)
BODIES = st.fixed_dictionaries({}, optional={field: JSON | st.text(max_size=30) for field in (*FIELDS, "name")})
WORDS = st.text(st.characters(codec="utf-8"), max_size=30)
QUIET = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def fine(answer: httpx.Response) -> None:
    assert answer.status_code < 500, (answer.request.url, answer.request.content, answer.text)
    if answer.status_code >= 400:
        assert answer.json().keys() == {"error", "code"}, answer.text
        assert answer.status_code != 422


@QUIET
@given(BODIES, st.sampled_from(["/agents", "/agents/nobody/cancel"]))
def test_any_body_may_be_posted(platform: Platform, body: dict[str, object], path: str) -> None:
    fine(platform.http.post(path, json={**body, "templateRef": body.get("templateRef", "none"), "namespace": "fuzz"}))


@QUIET
@given(BODIES)
def test_any_patch_may_be_sent(platform: Platform, body: dict[str, object]) -> None:
    fine(platform.http.patch("/agents/nobody", json=body))


@QUIET
@given(st.binary(max_size=200), st.sampled_from(["POST", "PATCH"]))
def test_any_bytes_may_be_sent(platform: Platform, data: bytes, method: str) -> None:
    fine(platform.http.request(method, "/agents" if method == "POST" else "/agents/nobody", content=data))


@QUIET
@given(WORDS, st.dictionaries(st.sampled_from(["limit", "after", "before", "around", "types", "namespace"]), WORDS))
def test_any_path_and_query_may_be_asked(platform: Platform, name: str, query: dict[str, str]) -> None:
    fine(platform.http.get(f"/agents/{quote(name, safe='')}/events", params=query))
    fine(platform.http.get("/agents", params=query))


CONNECTOR_FIELDS = (
    "service",
    "displayName",
    "type",
    "authType",
    "headerName",
    "authSecretName",
    "authSecretKey",
    "token",
)
CONNECTORS = st.fixed_dictionaries(
    {},
    optional={field: JSON | st.text(max_size=30) for field in (*CONNECTOR_FIELDS, "name", "url", "disabled")},
)
ALMOST = st.fixed_dictionaries(
    {"name": st.just("fuzzed"), "service": st.just("x"), "url": st.text(max_size=30).map(lambda t: f"https://{t}")},
    optional={field: st.text(max_size=30) for field in CONNECTOR_FIELDS if field != "service"},
)


@QUIET
@given(CONNECTORS | ALMOST)
def test_any_connector_may_be_posted(platform: Platform, body: dict[str, object]) -> None:
    fine(platform.http.post("/connectors", json={**body, "namespace": "fuzz"}))
    fine(platform.http.patch("/connectors/fuzzed", params={"namespace": "fuzz"}, json=body))
    fine(platform.http.patch("/connectors/nobody", json=body))
    fine(platform.http.delete("/connectors/fuzzed", params={"namespace": "fuzz"}))


@QUIET
@given(WORDS, WORDS)
def test_any_connector_may_be_asked_for(platform: Platform, name: str, namespace: str) -> None:
    for path in ("", "/tools"):
        fine(platform.http.get(f"/connectors/{quote(name, safe='')}{path}", params={"namespace": namespace}))
    fine(platform.http.get("/connectors", params={"namespace": namespace}))
    fine(platform.http.delete(f"/connectors/{quote(name, safe='')}", params={"namespace": namespace}))


def test_half_a_character_is_400_in_every_field_of_a_connector(platform: Platform) -> None:
    for field in (*CONNECTOR_FIELDS, "name", "url", "namespace"):
        body = {"name": "half", "service": "x", "url": "https://mcp.example.com/", field: "REPLACED"}
        raw = json.dumps(body).replace("REPLACED", "\\ud800")
        answer = platform.http.post("/connectors", content=raw, headers={"content-type": "application/json"})
        assert answer.status_code == 400, (field, answer.text)
        fine(answer)
    raw = '{"name": "half", "instructions": "x", "connectors": ["\\ud800"]}'
    answer = platform.http.post("/agents", content=raw, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
