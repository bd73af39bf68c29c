"""Secrets that a tool printed do not get into events."""

import pytest

from komputer.events.schema import AgentText, TaskCompleted, ToolCall, ToolResult
from komputer.runtime.masking import Mask, forms

PEM = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0\nabc\n-----END KEY-----\n"


def mask(**environment: str) -> Mask:
    made = Mask()
    made.learn(environment)
    return made


def test_a_value_is_replaced_in_all_that_is_said_called_and_answered() -> None:
    known = mask(SECRET_A="hunter22")
    result = ToolResult(
        task_id="t",
        id="hunter22",
        tool="Bash",
        input={"command": "echo hunter22", "hunter22": [{"deep": "xhunter22x"}]},
        output="hunter22\n",
        is_error=False,
        duration_ms=1,
    )
    masked = known.masked(result)
    assert masked.output == "[secret SECRET_A]\n"
    assert masked.input == {"command": "echo [secret SECRET_A]", "[secret SECRET_A]": [{"deep": "x[secret SECRET_A]x"}]}
    assert masked.id == "hunter22", "what ties events together is not touched"
    end = TaskCompleted(task_id="t", result="It is hunter22.", cost_usd=0, duration_ms=1, turns=1)
    assert known.masked(end).result == "It is [secret SECRET_A]."


def test_the_longer_of_two_values_wins() -> None:
    known = mask(SECRET_A="secret", SECRET_B="secret-longer")
    assert known.masked(AgentText(task_id="t", content="secret-longer secret")).content == (
        "[secret SECRET_B] [secret SECRET_A]"
    )


def test_short_values_are_not_masked() -> None:
    assert forms("abcde") == set()
    assert forms(" abcde\n") == set()
    assert mask(SECRET_A="abcde").masked(AgentText(task_id="t", content="abcde")).content == "abcde"


def test_a_value_of_several_lines_is_known_by_its_lines_and_as_json_writes_it() -> None:
    known = mask(SECRET_KEY=PEM)
    numbered = "1\tMIIEvQIBADANBgkqhkiG9w0"
    assert known.masked(AgentText(task_id="t", content=numbered)).content == "1\t[secret SECRET_KEY]"
    call = ToolCall(task_id="t", id="1", tool="Write", input={"content": PEM})
    assert "MIIE" not in str(known.masked(call).input)
    assert mask(SECRET_A='with "quotes"').masked(
        AgentText(task_id="t", content='{"a": "with \\"quotes\\""}')
    ).content == ('{"a": "[secret SECRET_A]"}')


def test_what_was_known_once_stays_known() -> None:
    known = mask(SECRET_A="before-rotation")
    known.learn({"SECRET_A": "after-rotation"})
    said = known.masked(AgentText(task_id="t", content="before-rotation after-rotation"))
    assert said.content == "[secret SECRET_A] [secret SECRET_A]"


@pytest.mark.parametrize(
    "output",
    [
        "CLAUDE_CODE_MESSAGING_TOKEN=c3511d5bafb6c7e54a91e6de1fe04b51\nHOME=/w",
        'declare -x CLAUDE_CODE_MESSAGING_TOKEN="c3511d5bafb6c7e54a91e6de1fe04b51"',
        '{"CLAUDE_CODE_MESSAGING_TOKEN": "c3511d5bafb6c7e54a91e6de1fe04b51"}',
    ],
)
def test_the_token_of_the_cli_s_socket_is_masked_from_the_first_text_that_names_it(output: str) -> None:
    mask = Mask()
    first = mask.masked(AgentText(task_id="t1", content=output))
    assert "c3511d5b" not in first.content
    assert "[secret CLAUDE_CODE_MESSAGING_TOKEN]" in first.content
    later = mask.masked(AgentText(task_id="t1", content="It is c3511d5bafb6c7e54a91e6de1fe04b51."))
    assert later.content == "It is [secret CLAUDE_CODE_MESSAGING_TOKEN]."
