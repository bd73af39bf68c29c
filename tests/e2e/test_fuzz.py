"""Whatever is sent to the API: an answer of the documented shape, and never a 5xx."""

from urllib.parse import quote

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.e2e.laptop import Laptop

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
QUIET = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def fine(answer: httpx.Response) -> None:
    assert answer.status_code < 500, (answer.request.url, answer.request.content, answer.text)
    if answer.status_code >= 400:
        assert answer.json().keys() == {"error", "code"}, answer.text
        assert answer.status_code != 422


@QUIET
@given(BODIES, st.sampled_from(["/agents", "/agents/nobody/cancel"]))
def test_any_body_may_be_posted(laptop: Laptop, body: dict[str, object], path: str) -> None:
    fine(laptop.http.post(path, json={**body, "templateRef": body.get("templateRef", "none"), "namespace": "fuzz"}))


@QUIET
@given(BODIES)
def test_any_patch_may_be_sent(laptop: Laptop, body: dict[str, object]) -> None:
    fine(laptop.http.patch("/agents/nobody", json=body))


@QUIET
@given(st.binary(max_size=200), st.sampled_from(["POST", "PATCH"]))
def test_any_bytes_may_be_sent(laptop: Laptop, data: bytes, method: str) -> None:
    fine(laptop.http.request(method, "/agents" if method == "POST" else "/agents/nobody", content=data))


@QUIET
@given(WORDS, st.dictionaries(st.sampled_from(["limit", "after", "before", "around", "types", "namespace"]), WORDS))
def test_any_path_and_query_may_be_asked(laptop: Laptop, name: str, query: dict[str, str]) -> None:
    fine(laptop.http.get(f"/agents/{quote(name, safe='')}/events", params=query))
    fine(laptop.http.get("/agents", params=query))
