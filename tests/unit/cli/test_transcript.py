"""Events as text for a terminal."""

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from komputer.cli import transcript
from komputer.events import schema
from tests.unit.cli.jsons import JSONS

KINDS = ["task_started", "task_resumed", "user_message", "thinking", "text", "tool_call", "tool_result", "compaction"]
KINDS += ["retry", "task_completed", "task_cancelled", "error", "gap", "a_new_one"]
FIELDS = ["instructions", "content", "tool", "input", "output", "is_error", "duration_ms", "cost_usd", "turns", "error"]
FIELDS += ["code", "reason", "status", "attempt", "max_retries", "tokens_before", "cause"]


def printed(
    kind: str,
    payload: Any,
    width: int = 80,
    *,
    is_terminal: bool = True,
    verbose: bool = False,
    timestamps: bool = False,
) -> list[str]:
    written = io.StringIO()
    console = Console(file=written, width=width, force_terminal=is_terminal, color_system=None, soft_wrap=True)
    event = {"type": kind, "timestamp": "2026-11-28T13:40:40.057716Z", "payload": payload}
    transcript.print_event(console, event, verbose=verbose, timestamps=timestamps)
    return written.getvalue().splitlines()


@given(
    st.sampled_from(KINDS),
    st.dictionaries(st.sampled_from(FIELDS), JSONS) | JSONS,
    st.booleans(),
    st.booleans(),
)
def test_every_event_can_be_printed_whatever_is_in_it(kind: str, payload: Any, verbose: bool, timestamps: bool) -> None:
    shown = "".join(printed(kind, payload, verbose=verbose, timestamps=timestamps))
    assert "\x1b" not in shown


def test_every_type_of_event_has_words() -> None:
    blocks = {kind: transcript.block(kind, {}) for kind in schema.TYPES}
    assert not [kind for kind, block in blocks.items() if block is None or block.sign == "·"]


def test_a_short_result_is_shown_whole() -> None:
    assert printed("tool_result", {"output": "one\ntwo\nthree", "duration_ms": 35}) == [
        "← one",
        "  two",
        "  three (35 ms)",
    ]
    assert printed("tool_result", {"output": "", "duration_ms": 1500}) == ["← no output (1.5 s)"]


def test_of_a_long_result_both_ends_are_shown_and_with_verbose_all() -> None:
    output = "\n".join(f"line {n}" for n in range(100))
    lines = printed("tool_result", {"output": output})
    assert lines[0] == "← line 0"
    assert lines[-1] == "  line 99"
    assert "  … 90 more lines (-v shows all)" in lines
    assert len(printed("tool_result", {"output": output}, verbose=True)) == 100


def test_of_a_failure_the_end_is_shown_where_stderr_is() -> None:
    output = "Exit code 1\n" + "\n".join(f"progress {n}" for n in range(50)) + "\nfatal: no such thing"
    lines = printed("tool_result", {"output": output, "is_error": True})
    assert lines[0] == "✗ Exit code 1"
    assert lines[-1] == "  fatal: no such thing"
    assert len(lines) < 20


def test_verbose_shows_the_whole_input_of_a_tool() -> None:
    given_input = {"command": "for i in 1 2\ndo echo $i\ndone", "description": "Count"}
    assert printed("tool_call", {"tool": "Bash", "input": given_input}, verbose=True) == [
        "→ Bash",
        "  command:",
        "    for i in 1 2",
        "    do echo $i",
        "    done",
        "  description: Count",
    ]
    assert printed("tool_call", {"tool": "Edit", "input": {"replace_all": True, "file_path": "/a"}}) == ["→ Edit: /a"]
    assert printed("tool_call", {"tool": "TaskList", "input": {}}) == ["→ TaskList"]
    assert printed("tool_call", {"tool": "Bash", "input": ["ls"]}) == ["→ Bash: ls"]


@pytest.mark.parametrize("width", [60, 80])
def test_a_terminal_gets_whole_words_below_each_other(width: int) -> None:
    said = "All done. This sentence says what was done, and goes on for more than a line of any terminal. " * 2
    for kind, payload in (("text", {"content": said}), ("tool_result", {"output": said})):
        lines = printed(kind, payload, width, timestamps=True)
        assert len(lines) > 2
        assert all(len(line) <= width for line in lines)
        assert " ".join(" ".join(lines).removeprefix(lines[0].split("All")[0]).split()) == said.strip()
        assert len({len(line) - len(line.lstrip()) for line in lines[1:]}) == 1


def test_a_pipe_gets_lines_as_they_are() -> None:
    said = "a very long line " * 40
    assert printed("text", {"content": said}, is_terminal=False) == [said.strip()]
