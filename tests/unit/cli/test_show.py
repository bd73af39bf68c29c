"""What a person sees of agents and events."""

import io
from typing import Any

import pytest
from rich.console import Console

from komputer.cli import show

AGENTS: list[dict[str, Any]] = [
    {
        "namespace": "team",
        "name": name,
        "status": "Running",
        "taskStatus": "InProgress",
        "totalCostUSD": "0.000924",
        "model": "claude-sonnet-4-6",
        "lastTaskMessage": "A message that is longer than what is left of a line. " * 3,
    }
    for name in ("ada", "a-name-of-a-good-length")
]


def shown(monkeypatch: pytest.MonkeyPatch, width: int, *, is_terminal: bool) -> list[str]:
    written = io.StringIO()
    monkeypatch.setattr(
        show,
        "console",
        Console(file=written, width=width, force_terminal=is_terminal, color_system=None, soft_wrap=True),
    )
    show.print_agents(AGENTS, with_namespace=True)
    return written.getvalue().splitlines()


@pytest.mark.parametrize("width", [110, 120, 250])
def test_a_line_for_each_agent_with_everything_but_the_rest_of_its_message(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    head, *lines = shown(monkeypatch, width, is_terminal=True)
    assert head.split() == ["NAMESPACE", "NAME", "STATUS", "TASK", "COST", "MODEL", "MESSAGE"]
    for line, agent in zip(lines, AGENTS, strict=True):
        assert line.split()[:6] == ["team", agent["name"], "Running", "InProgress", "$0.0009", "claude-sonnet-4-6"]
        assert line.index("A message") == head.index("MESSAGE")
        assert len(line) <= width


def test_what_is_read_by_a_program_is_not_cut_to_a_width(monkeypatch: pytest.MonkeyPatch) -> None:
    _, *lines = shown(monkeypatch, 80, is_terminal=False)
    assert [line.split()[1] for line in lines] == ["ada", "a-name-of-a-good-length"]
    assert all(line.endswith(AGENTS[0]["lastTaskMessage"].strip()) for line in lines)
