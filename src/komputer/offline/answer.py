"""Decides the next turn of the model: a pure function of the conversation.

The position in a script is derived from the messages that follow the script in the conversation. So the client and this
process may be killed and restarted at any time. `docs/offline.md` explains the rules.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from komputer.offline import conversation as talk
from komputer.offline import script as play
from komputer.offline.conversation import BadRequest, HistoryEntry, Text, ToolUse
from komputer.offline.script import Fail, Hang, Say, Step, Think, ToolStep, UsageCounts, Use, Wait

QUOTED_CHARACTERS = 300
"""How many characters of the prompt an answer without a script quotes."""


@dataclass(frozen=True, kw_only=True)
class Move:
    """One step to play. `key` identifies the step when its `times` are counted; it stays the same until the
    conversation has passed the step."""

    step: Say | Think | ToolStep | Wait | Hang | Fail
    key: str


@dataclass(frozen=True, kw_only=True)
class ModelReply:
    """One turn of the model. `id` is a digest of the conversation, `origin` one of its first prompt: equal
    conversations have equal ids."""

    id: str
    origin: str
    moves: tuple[Move, ...]
    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int


def answer(messages: object, tools: Sequence[object] = (), schema: object = None) -> ModelReply:
    """Return the next turn. `messages` and `tools` are those of a request, `schema` is the JSON schema in
    `output_config.format`.

    Raises BadRequest for malformed messages, or if the newest prompt contains an invalid script."""
    entries = talk.read(messages)
    prompt = next((entry.texts[-1] for entry in reversed(entries) if entry.role == "user" and entry.texts), "")
    if _wants_title(schema):
        return _turn(entries, [Say(say=json.dumps({"title": "Offline"}))])
    script = _current_script(entries)
    if _wants_summary(prompt):
        return _turn(entries, [Say(say=_summary(script))])
    if script is None or not any(isinstance(step, Say | ToolStep) for step in script.steps[script.at :]):
        return _turn(entries, [Say(say=plain(prompt))])
    begin, end = _segment(script.steps, script.at)
    steps = script.steps[script.at : end]
    if isinstance(steps[-1], ToolStep) and not tools:
        text = f"The script's next step calls the tool {steps[-1].tool}, but this request offers no tools."
        return _turn(entries, [Say(say=text)])
    return _turn(entries, steps, script=script, usage=_usage(script.steps[begin:end]))


def plain(prompt: str) -> str:
    """Return the answer of a turn without a script."""
    quoted = prompt if len(prompt) <= QUOTED_CHARACTERS else prompt[:QUOTED_CHARACTERS] + "…"
    return f"This is Komputer's offline model: no Claude was asked. The task was: {quoted}"


def position(steps: Sequence[Step], visible: Iterable[Text | ToolUse], start: int = 0) -> int:
    """Return the index of the next step to play, given what the model has said since the script.

    A tool call, whatever its result, moves the position behind the next `tool` step. A text that equals the next `say`,
    or several consecutive ones before the next `tool`, moves it behind them. If the text ends within a `say`, that step
    is not passed. Any other text does not come from the script and is ignored."""
    at = start
    for block in visible:
        if isinstance(block, ToolUse):
            at = next((i + 1 for i in range(at, len(steps)) if isinstance(steps[i], ToolStep)), at)
        else:
            at = _behind(block.text, steps, at)
    return at


def _behind(text: str, steps: Sequence[Step], at: int) -> int:
    rest, behind = text.strip(), at
    for i in range(at, _segment(steps, at)[1]):
        step = steps[i]
        if not isinstance(step, Say):
            continue
        expected = step.say.strip()
        if not rest.startswith(expected):
            return behind if expected.startswith(rest) else at
        rest, behind = rest[len(expected) :].lstrip(), i + 1
        if not rest:
            return behind
    return at


def _segment(steps: Sequence[Step], at: int) -> tuple[int, int]:
    """Return the turn that contains step `at`, as a half-open range of steps."""
    begin = next((i + 1 for i in range(at - 1, -1, -1) if _ends_turn(steps[i])), 0)
    end = next((i + 1 for i in range(at, len(steps)) if _ends_turn(steps[i])), len(steps))
    return begin, end


def _ends_turn(step: Step) -> bool:
    return isinstance(step, ToolStep) or (isinstance(step, Say) and step.stop is not None)


@dataclass(frozen=True, kw_only=True)
class _Script:
    """A script and the position in it. `ordinal` counts the scripts of the conversation, from 1."""

    steps: tuple[Step, ...]
    at: int
    ordinal: int


def _current_script(entries: Sequence[HistoryEntry]) -> _Script | None:
    """Return the script of the newest user text that has one.

    An invalid script is refused if it is in the newest user text. In an older text it is treated as a script without
    steps, so that one mistake does not block all later tasks."""
    texts = [(at, text) for at, entry in enumerate(entries) if entry.role == "user" for text in entry.texts]
    newest, ordinal = None, 0
    for index, (at, text) in enumerate(texts):
        if block := play.find(text):
            newest, ordinal = (index, at, block), block.bookmark.ordinal if block.bookmark else ordinal + 1
    if newest is None:
        return None
    index, at, block = newest
    try:
        steps = play.parse(block)
    except BadRequest:
        if index == len(texts) - 1:
            raise
        steps = ()
    visible = [block for entry in entries[at + 1 :] if entry.role == "assistant" for block in entry.blocks]
    start = min(block.bookmark.step, len(steps)) if block.bookmark else 0
    return _Script(steps=steps, at=position(steps, visible, start), ordinal=ordinal)


def _usage(steps: Iterable[Step]) -> UsageCounts:
    given = [step.usage.model_dump(exclude_none=True) for step in steps if isinstance(step, Use)]
    return UsageCounts.model_validate({name: count for usage in given for name, count in usage.items()})


def _turn(
    entries: tuple[HistoryEntry, ...],
    steps: Sequence[Step],
    *,
    script: _Script | None = None,
    usage: UsageCounts | None = None,
) -> ModelReply:
    usage = usage or UsageCounts()
    at, ordinal = (script.at, script.ordinal) if script else (0, 0)
    moves = tuple(
        Move(step=step, key=f"{ordinal}:{at + offset}:{play.digest(step.model_dump())}")
        for offset, step in enumerate(steps)
        if not isinstance(step, Use)
    )
    counted = usage.input_tokens, usage.output_tokens
    return ModelReply(
        id=play.digest([[entry.role, *(_material(block) for block in entry.blocks)] for entry in entries]),
        origin=play.digest(next((entry.texts for entry in entries if entry.role == "user"), ())),
        moves=moves,
        input_tokens=talk.size_tokens(entries) if counted[0] is None else counted[0],
        output_tokens=_output_tokens(moves) if counted[1] is None else counted[1],
        cache_read_input_tokens=usage.cache_read_input_tokens or 0,
        cache_creation_input_tokens=usage.cache_creation_input_tokens or 0,
    )


def _material(block: Text | ToolUse) -> object:
    return block.text if isinstance(block, Text) else [block.id, block.name, block.input]


def _output_tokens(moves: Iterable[Move]) -> int:
    texts: list[str] = []
    for move in moves:
        match move.step:
            case Say(say=text) | Think(think=text):
                texts.append(text)
            case ToolStep(tool=name, input=given):
                texts.extend((name, json.dumps(given)))
            case Wait() | Hang() | Fail():
                pass
    return talk.tokens(*texts)


def _wants_title(schema: object) -> bool:
    """Return whether this is the separate request in which the Claude CLI asks for the title of a session."""
    return isinstance(schema, dict) and list(schema.get("properties") or ()) == ["title"]


def _wants_summary(prompt: str) -> bool:
    """Return whether the Claude CLI asks for a summary, to compact the conversation."""
    return "TEXT ONLY" in prompt and "<summary>" in prompt


def _summary(script: _Script | None) -> str:
    """Return the summary that replaces the conversation. It contains the script and the position in it, which would
    otherwise be lost with the conversation."""
    rest = ""
    if script:
        rest = "\n" + play.write(script.steps, play.Bookmark(step=script.at, ordinal=script.ordinal))
    return f"<summary>\nKomputer's offline model has summarised the conversation.{rest}\n</summary>"
