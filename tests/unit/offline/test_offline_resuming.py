"""For any script and any interruptions, every remaining step is played, in order, and the script ends."""

from __future__ import annotations

import json
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from komputer.offline.answer import answer
from komputer.offline.script import CLOSING
from tests.unit.offline.conversations import TOOLS, Message, assistant, outputs, result, scripted, turn, user

WORDS = st.sampled_from(["a", "ab", "abc", "b", "No", "a b", "a\nb", "end"])
STEPS = st.lists(
    st.one_of(
        st.builds(lambda words: {"say": words}, WORDS),
        st.builds(lambda words: {"think": words}, WORDS),
        st.just({"tool": "Bash", "input": {}}),
        st.just({"wait": 1}),
        st.just({"fail": 529}),
        st.just({"usage": {"input_tokens": 1}}),
    ),
    min_size=1,
    max_size=12,
)


@dataclass(frozen=True)
class Cut:
    """The client is stopped during a turn: it keeps this many blocks of the turn, and this many characters of the next
    text."""

    blocks: int
    letters: int
    is_killed: bool
    is_compacted: bool


CUTS = st.lists(
    st.none() | st.builds(Cut, st.integers(0, 4), st.integers(0, 3), st.booleans(), st.booleans()), max_size=8
)


def wanted(steps: list[dict[str, object]]) -> list[str]:
    texts = [str(step.get("say") or step.get("tool")) for step in steps if "say" in step or "tool" in step]
    kinds = [kind for step in steps for kind in step if kind in ("say", "think", "tool")]
    return texts if kinds and kinds[-1] == "say" else [*texts, CLOSING.say]


def kept(blocks: list[Message], cut: Cut) -> list[Message]:
    """Return what the client's transcript contains of an interrupted turn."""
    whole = blocks[: cut.blocks]
    if cut.blocks < len(blocks) and blocks[cut.blocks]["type"] == "text":
        part = blocks[cut.blocks]["text"][: cut.letters]
        if part.strip() and part.strip() != blocks[cut.blocks]["text"].strip():
            return [*whole, {"type": "text", "text": part}]
    return whole


def resumed(messages: list[Message], blocks: list[Message], cut: Cut) -> list[Message]:
    """Return the conversation after the client has resumed."""
    left = kept(blocks, cut)
    after = [*messages, {"role": "assistant", "content": left}] if left else list(messages)
    if left and left[-1]["type"] == "tool_use":
        lost = {"type": "tool_result", "tool_use_id": left[-1]["id"], "content": "[Tool call interrupted]"}
        after.append(user(lost))
    if cut.is_killed:
        after.append(assistant("No response requested."))
    else:
        after.append(user("[Request interrupted by user]"))
    if cut.is_compacted:
        summary = answer([*after, user("Respond with TEXT ONLY: an <analysis> and a <summary>.")], TOOLS)
        after = [user(outputs(summary)[0])]
    return [*after, user("The task was interrupted. Go on.")]


@given(STEPS, CUTS)
def test_a_resumed_script_plays_every_remaining_step_in_order_and_ends(
    steps: list[dict[str, object]], cuts: list[Cut | None]
) -> None:
    messages = [user("Hello."), assistant("Hello."), user(scripted(*steps))]
    left = wanted(steps)
    for cut in [*cuts, *[None] * len(steps), None]:
        answered = answer(messages, TOOLS)
        texts = outputs(answered)
        assert texts == left[: len(texts)], json.dumps(messages)
        blocks = turn(answered)["content"]
        if cut is None:
            kept_whole, messages = len(texts), [*messages, turn(answered)]
            if blocks[-1]["type"] == "tool_use":
                messages = [*messages, result(answered)]
        else:
            kept_whole = sum(block["type"] != "thinking" for block in blocks[: cut.blocks])
            messages = resumed(messages, blocks, cut)
        left = left[kept_whole:]
        if not left:
            break
    assert not left
    assert outputs(answer([*messages, user("Next.")], TOOLS)) == [
        "This is Komputer's offline model: no Claude was asked. The task was: Next."
    ]
