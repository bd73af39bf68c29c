"""The scripts in docs/offline.md behave as the page says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from komputer.offline.answer import answer
from komputer.offline.script import KINDS, Fail, Say, Step, Think, ToolStep, find, parse
from tests.unit.offline.conversations import TOOLS, result, turn, user

PAGE = (Path(__file__).parents[3] / "docs" / "offline.md").read_text()

EXAMPLES = re.findall(r"(```offline\n.*?\n```)\n.*?```played\n(.*?)\n```", PAGE, re.DOTALL)


def shown(step: Step) -> list[str]:
    match step:
        case Say(say=text):
            return [f"say: {text}"]
        case Think(think=text):
            return [f"think: {text}"]
        case ToolStep(tool=name, input=given):
            return [f"tool: {name} {json.dumps(given)}"]
        case Fail(fail=status, times=times):
            return [f"fail: {status}"] * times
        case _:
            return []


def test_the_page_has_its_examples() -> None:
    assert len(EXAMPLES) == len(re.findall("^```played$", PAGE, re.MULTILINE)) == 4


@pytest.mark.parametrize(("script", "played"), EXAMPLES)
def test_an_example_is_played_as_the_page_shows(script: str, played: str) -> None:
    messages, turns = [user(script)], list[str]()
    while True:
        answered = answer(messages, TOOLS)
        turns.append("\n".join(line for move in answered.moves for line in shown(move.step)))
        if not isinstance(answered.moves[-1].step, ToolStep):
            break
        messages += [turn(answered), result(answered)]
    assert "\n-\n".join(turns) == played


def test_the_page_names_every_step_and_every_field() -> None:
    rows = re.findall(r'^\| `\{"(\w+)"', PAGE, re.MULTILINE)
    assert sorted(rows) == sorted(KINDS)
    for kind in KINDS.values():
        for name in kind.model_fields:
            assert f'"{name}"' in PAGE


def test_every_block_of_the_page_can_be_parsed() -> None:
    for block in re.findall(r"```offline\n.*?\n```", PAGE, re.DOTALL):
        found = find(block)
        assert found
        assert parse(found)
