"""Agents as text for a terminal."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from rich.cells import cell_len
from rich.console import Console

from komputer.cli import show
from tests.unit.cli.jsons import JSONS

READY = {"type": "Ready", "status": "True", "reason": "PodRunning"}
MISSING = {"type": "Ready", "status": "False", "reason": "TemplateMissing", "message": "there is no template 'nope'"}


def agent(name: str = "ada", **fields: Any) -> dict[str, Any]:
    idle = {"name": name, "namespace": "team", "status": "Running", "model": "claude-sonnet-4-6", "conditions": [READY]}
    return {**idle, **fields}


AGENTS = [
    agent(
        name,
        taskStatus="InProgress",
        totalCostUSD="0.000924",
        lastTaskMessage="A message that is longer than what is left of a line. " * 3,
    )
    for name in ("ada", "a-name-of-a-good-length", "b" * 63)
]


def terminal(monkeypatch: pytest.MonkeyPatch, width: int, *, is_terminal: bool = True) -> io.StringIO:
    written = io.StringIO()
    console = Console(
        file=written, width=width, force_terminal=is_terminal, color_system=None, soft_wrap=True, markup=False
    )
    monkeypatch.setattr(show, "console", console)
    return written


@pytest.mark.parametrize("width", [40, 60, 80, 120, 250])
def test_a_line_for_each_agent_that_is_never_wider_than_the_terminal(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    written = terminal(monkeypatch, width)
    show.print_agents([*AGENTS, agent("elsewhere", namespace="other")])
    head, *lines = written.getvalue().splitlines()
    assert len(lines) == 4
    assert all(cell_len(line) <= width for line in lines)
    assert all("working" in line for line in lines[:3])
    assert head.split()[-1] == "MESSAGE" or width == 40
    if width >= 60:
        assert all(line.index("A message") == head.index("MESSAGE") for line in lines[:3])
    if width == 250:
        assert head.split() == ["NAMESPACE", "NAME", "STATUS", "COST", "MODEL", "MESSAGE"]
        assert lines[0].split()[:5] == ["team", "ada", "working", "$0.0009", "claude-sonnet-4-6"]


def test_what_is_read_by_a_program_is_not_cut_to_a_width(monkeypatch: pytest.MonkeyPatch) -> None:
    written = terminal(monkeypatch, 40, is_terminal=False)
    show.print_agents(AGENTS)
    _, *lines = written.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == [each["name"] for each in AGENTS]
    assert all(line.endswith(AGENTS[0]["lastTaskMessage"].strip()) for line in lines)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({}, "idle"),
        ({"taskStatus": "Complete", "lastTaskOutcome": "completed"}, "idle"),
        ({"taskStatus": "Complete", "lastTaskOutcome": "cancelled"}, "cancelled"),
        ({"taskStatus": "Error", "lastTaskOutcome": "error"}, "failed"),
        ({"taskStatus": "InProgress"}, "working"),
        ({"taskStatus": "Compacting"}, "compacting"),
        ({"taskStatus": "InProgress", "status": "Pending"}, "waiting"),
        ({"taskStatus": "InProgress", "conditions": [MISSING]}, "waiting"),
        ({"status": "Pending", "conditions": [MISSING]}, "waiting"),
        ({"status": "Failed"}, "failed"),
        ({"status": "Sleeping"}, "asleep"),
    ],
)
def test_the_state_of_an_agent_is_one_word(fields: dict[str, Any], word: str) -> None:
    assert show.state(agent(**fields)) == word


def test_a_list_shows_why_an_agent_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    written = terminal(monkeypatch, 80)
    show.print_agents([agent(taskStatus="InProgress", conditions=[MISSING], lastTaskMessage="of an earlier task")])
    _, line = written.getvalue().splitlines()
    assert line.split(maxsplit=3) == ["ada", "waiting", "claude-sonnet-4-6", "there is no template 'nope'"]


def test_an_agent_is_shown_with_labels_and_dollars_and_without_what_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = terminal(monkeypatch, 80)
    show.print_agent(
        agent(
            priority=0,
            totalCostUSD="1.25",
            lastTaskCostUSD="0.000747",
            totalTokens=12345,
            templateRef="default",
            allowedTools=["Read", "Bash(git:*)"],
            labels={"team": "blue"},
            createdAt="2026-11-28T13:40:38Z",
            taskID="01M8H65VQW3S7ZKHTEHJP8RZE6",
            modelContextWindow=200000,
            budgetUSD="5",
        )
    )
    shown = written.getvalue()
    for words in ("Status         idle", "$1.25, last task $0.0007", "12,345", "Allowed tools  Read, Bash(git:*)"):
        assert words in shown
    assert "team=blue" in shown
    assert "Budget USD     5" in shown
    for word in ("riority", "emplate", "01M8H", "200", "onditions", "PodRunning", "T13:40"):
        assert word not in shown.replace("2026", "")


@given(JSONS)
def test_any_value_of_a_field_can_be_printed(value: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        written = terminal(patch, 60)
        fields = ("lastTaskMessage", "totalCostUSD", "labels", "createdAt", "model", "instructions", "status", "new")
        show.print_agent(agent(**dict.fromkeys(fields, value)))
        show.print_agents([agent(**dict.fromkeys(fields, value))])
    assert "\x1b" not in written.getvalue()


@given(JSONS)
def test_json_is_one_line_of_printable_characters_with_the_same_value(value: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        written = io.StringIO()
        patch.setattr("sys.stdout", written)
        show.print_json(value)
    (line,) = written.getvalue().splitlines()
    assert line.isprintable()
    assert json.dumps(json.loads(line)) == json.dumps(value)
