from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from komputer.offline.conversation import BadRequest
from komputer.offline.script import (
    CLOSING,
    Bookmark,
    Fail,
    Hang,
    Say,
    Step,
    Think,
    ToolStep,
    UsageCounts,
    Use,
    Wait,
    find,
    parse,
    read,
    write,
)


def steps_in(text: str) -> tuple[Step, ...]:
    block = find(text)
    assert block
    return parse(block)


def test_every_kind_of_step_is_parsed() -> None:
    text = """Please.
```offline
[
  {"think": "hm"}, {"say": "one"}, {"tool": "Bash", "input": {"command": "ls"}}, {"wait": 1}, {"hang": 2.5, "times": 3},
  {"fail": 529}, {"usage": {"input_tokens": 7}}, {"say": "two"}
]
```
And thank you."""
    assert steps_in(text) == (
        Think(think="hm"),
        Say(say="one"),
        ToolStep(tool="Bash", input={"command": "ls"}),
        Wait(wait=1),
        Hang(hang=2.5, times=3),
        Fail(fail=529, times=1),
        Use(usage=UsageCounts(input_tokens=7)),
        Say(say="two"),
    )


@pytest.mark.parametrize(
    "text",
    [
        'x\n```offline\n[{"say": "hi"}]\n```',
        'x\r\n```offline\r\n[{"say": "hi"}]\r\n```\r\n',
        '  ```offline [{"say": "hi"}] ```',
        '~~~offline\n[{"say": "hi"}]\n~~~',
        '````offline\n[{"say": "hi"}]\n````',
        '```offline\n[{"say": "old"}]\n```\n```offline\n[{"say": "hi"}]\n```',
    ],
)
def test_the_last_block_counts_however_it_is_fenced(text: str) -> None:
    assert steps_in(text) == (Say(say="hi"),)


@pytest.mark.parametrize("text", ["", "```json\n[]\n```", "say ```offline here", "```offlines\n[]\n```"])
def test_other_text_has_no_script(text: str) -> None:
    assert find(text) is None


def test_a_script_may_quote_fences() -> None:
    assert steps_in(scripted := "```offline\n" + json.dumps([{"say": "```py\nx\n```"}]) + "\n```") == (
        Say(say="```py\nx\n```"),
    ), scripted


@pytest.mark.parametrize("last", [{"tool": "Bash"}, {"think": "hm"}, {"wait": 1}, {"usage": {}}])
def test_a_script_without_a_final_text_gets_one(last: object) -> None:
    assert read([{"say": "x"}, last])[-1] == (CLOSING if last not in ({"wait": 1}, {"usage": {}}) else read([last])[0])


def test_an_empty_script_stays_empty() -> None:
    assert read([]) == ()


@pytest.mark.parametrize(
    ("array", "named"),
    [
        ('[{"say": "a"}, {"sya": "b"}]', 'Step 2 of the ```offline block is unknown: {"sya": "b"}'),
        ('["hello"]', "say, think, tool, wait, hang, fail, usage"),
        ('[{"say": "a", "think": "b"}]', "exactly one of"),
        ("[{}]", "Step 1"),
        ("{}", "must hold a JSON array"),
        ('[{"say": "a"}', "is not JSON"),
        ("", "is not JSON"),
        ("[" * 100_000, "nests more than 100"),
        ('[{"tool": "Bash", "input": ' + '{"a":' * 100 + "1" + "}" * 100 + "}]", "nests more than 100"),
        ('[{"wait": NaN}]', "NaN is not a number"),
        ('[{"wait": 1e999}]', ": wait "),
        ('[{"wait": -1}]', ": wait "),
        ('[{"wait": "5"}]', ": wait "),
        ('[{"wait": true}]', ": wait "),
        ('[{"fail": 200}]', ": fail "),
        ('[{"fail": 500, "times": 0}]', ": times "),
        ('[{"say": ""}]', ": say "),
        ('[{"say": " "}]', ": say "),
        ('[{"say": "a", "loud": true}]', ": loud "),
        ('[{"tool": "no such name"}]', ": tool "),
        ('[{"usage": {"input_tokens": -1}}]', ": usage.input_tokens "),
        ('[{"usage": {"tokens": 1}}]', ": usage.tokens "),
        ('[{"say": "a"}] []', "must close after its JSON array"),
        ('[{"say": "%s"}, 1]' % ("x" * 200), "Step 2"),
        ("[" + ",".join(['{"say": "a"}'] * 10_001) + "]", "10000 is the limit"),
    ],
)
def test_an_invalid_script_is_refused_with_a_sentence_that_names_the_fault(array: str, named: str) -> None:
    with pytest.raises(BadRequest) as refused:
        steps_in(f"```offline\n{array}\n```")
    assert named in str(refused.value)


def test_a_block_that_is_not_closed_is_refused() -> None:
    with pytest.raises(BadRequest, match="must close"):
        steps_in('```offline\n[{"say": "a"}]')


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(json_values)
def test_any_json_is_either_a_script_or_refused(value: Any) -> None:
    with contextlib.suppress(BadRequest):
        assert read([value])


@given(st.dictionaries(st.text(), json_values, max_size=3), st.integers(0, 99_999), st.integers(1, 99))
def test_a_script_written_with_a_bookmark_parses_to_the_same_steps(
    given_input: dict[str, Any], step: int, ordinal: int
) -> None:
    steps = (Say(say="a\n```\nb"), ToolStep(tool="Bash", input=given_input), Fail(fail=500), Say(say="end"))
    block = find("<summary>\n" + write(steps, Bookmark(step=step, ordinal=ordinal)) + "\n</summary>")
    assert block
    assert (parse(block), block.bookmark) == (steps, Bookmark(step=step, ordinal=ordinal))
