"""What the status of a connector says."""

from datetime import timedelta
from typing import Any

import pytest

from komputer.domain.base import Manifest
from komputer.operator.controllers.connector import NAMES_LIMIT, status_of
from tests.unit.operator.given import NOW


def connector(name: str = "git", status: Manifest | None = None, **spec: Any) -> Manifest:
    return {
        "metadata": {"name": name, "namespace": "team", "generation": 3},
        "spec": {"service": "custom", "url": "https://mcp.example.com/", **spec},
        "status": status or {},
    }


def test_it_counts_and_names_the_agents() -> None:
    status = status_of(connector(), ["ada", "eve"], NOW)
    assert (status["attachedAgents"], status["agentNames"], status["observedGeneration"]) == (2, ["ada", "eve"], 3)
    many = status_of(connector(), [f"a{n}" for n in range(NAMES_LIMIT + 1)], NOW)
    assert (many["attachedAgents"], len(many["agentNames"])) == (NAMES_LIMIT + 1, NAMES_LIMIT)


@pytest.mark.parametrize(
    ("given", "ready", "reason"),
    [
        (connector(), "True", "Accepted"),
        (connector(disabled=True), "False", "Disabled"),
        (connector(authType="oauth"), "False", "OAuthNotSupported"),
        (connector("komputer"), "False", "ReservedName"),
        (connector("a.b"), "False", "InvalidName"),
        (connector(url=5), "False", "SpecInvalid"),
    ],
)
def test_it_says_whether_agents_can_use_it(given: Manifest, ready: str, reason: str) -> None:
    (condition,) = status_of(given, [], NOW)["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("Ready", ready, reason)


def test_what_has_not_changed_is_said_in_the_same_words() -> None:
    first = status_of(connector(), ["ada"], NOW)
    assert status_of(connector(status=first), ["ada"], NOW + timedelta(hours=1)) == first
