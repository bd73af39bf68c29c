"""The sentences that are printed while a task waits for its agent."""

from typing import Any

import pytest

from komputer.cli.blockers import STARTING_S, waits_for


def agent(reason: str, message: str = "") -> dict[str, Any]:
    return {"conditions": [{"type": "Ready", "status": "False", "reason": reason, "message": message}]}


@pytest.mark.parametrize(
    ("body", "waited_s", "sentence"),
    [
        ({}, 0, None),
        ({"conditions": [{"type": "Ready", "status": "True"}]}, 0, ""),
        (agent("PodStarting", "the pod is starting"), 0, None),
        (agent("PodStarting", "the pod is starting"), STARTING_S, "waiting: the pod is starting (PodStarting)"),
        (agent("TemplateMissing", "there is no 'nope'"), 0, "waiting: there is no 'nope' (TemplateMissing)"),
        (agent("PodRefused", "quota\x1b[2J\u202e"), 0, "waiting: quota\N{REPLACEMENT CHARACTER} (PodRefused)"),
        (agent("Unschedulable"), 0, "waiting: Unschedulable"),
    ],
)
def test_a_reason_is_printed_at_once_unless_the_pod_is_starting(
    body: dict[str, Any], waited_s: float, sentence: str | None
) -> None:
    assert waits_for(body, waited_s) == sentence
