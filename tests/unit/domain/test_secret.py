"""How Secrets become variables, and which may not."""

import base64

import pytest

from komputer.domain import labels, secret


def manifest(**data: str) -> dict[str, object]:
    return {"metadata": {"name": "x"}, "data": {key: base64.b64encode(v.encode()).decode() for key, v in data.items()}}


def test_names_are_upper_case_with_underscores_and_the_agents_own_wins() -> None:
    own = manifest(**{"api.key": "own", "team-a_token": "own too"})
    found = secret.environment(own, {"team-a": manifest(token="named"), "git.hub": manifest(**{"a-b": "1"})})
    assert found == {"SECRET_API_KEY": "own", "SECRET_TEAM_A_TOKEN": "own too", "SECRET_GIT_HUB_A_B": "1"}


def test_what_no_variable_can_hold_is_left_out() -> None:
    odd = {"metadata": {}, "data": {"bytes": "/////w==", "zero": base64.b64encode(b"a\0b").decode(), "no": "!"}}
    assert secret.environment(odd, {}) == {}
    assert secret.environment(manifest(long="x" * (secret.VALUE_LIMIT_BYTES + 1)), {}) == {}


@pytest.mark.parametrize("data", [{"": "x"}, {"a b": "x"}, {"a.b": "1", "a-b": "2"}, {"a": "\0"}, {"a": "x" * 100_000}])
def test_a_map_that_cannot_become_variables_is_refused(data: dict[str, str]) -> None:
    wrong = secret.fault(data)
    assert wrong
    assert len(wrong) < 300, "no value is shown"


@pytest.mark.parametrize(
    "given",
    [{"a": "b"}, {"example.com/a.b_c": ""}, {"komputer.ai/personal-agent": "true"}, {"a" * 63: "b" * 63}],
)
def test_labels_in_kubernetes_syntax_are_taken(given: dict[str, str]) -> None:
    assert labels.fault(given) is None


WRONG_KEYS = ["", "a" * 64, "-a", "/a", "A.com/x", "a/b/c", "a\n", "komputer.ai/agent-name"]


@pytest.mark.parametrize("given", [*({key: "b"} for key in WRONG_KEYS), {"a": "b c"}, {"a": "b" * 64}, {"a": "-"}])
def test_other_labels_are_not(given: dict[str, str]) -> None:
    assert labels.fault(given)
