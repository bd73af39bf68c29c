"""Conversations as a client of the Messages API keeps them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from komputer.offline import wire
from komputer.offline.answer import ModelReply, answer
from komputer.offline.script import Say, ToolStep

Message = dict[str, Any]

TOOLS: list[object] = [{"name": "Bash", "input_schema": {"type": "object"}}]

REMINDER = {
    "type": "text",
    "text": "<system-reminder>\n```offline\n[]\n```\nToday's date is 2026-11-24.\n</system-reminder>",
}


def text(words: str) -> Message:
    return {"type": "text", "text": words}


def user(*blocks: Message | str) -> Message:
    return {"role": "user", "content": [text(block) if isinstance(block, str) else block for block in blocks]}


def assistant(*blocks: Message | str) -> Message:
    return {**user(*blocks), "role": "assistant"}


def scripted(*steps: object) -> str:
    return "Do it.\n```offline\n" + json.dumps(steps) + "\n```"


def turn(answered: ModelReply) -> Message:
    """Return the reply as the client keeps it."""
    return {"role": "assistant", "content": wire.message(answered, "claude-test")["content"]}


def result(answered: ModelReply, content: str = "ok") -> Message:
    """Return the client's next message after a turn that called a tool."""
    call = turn(answered)["content"][-1]
    return user({"type": "tool_result", "tool_use_id": call["id"], "content": content})


def outputs(answered: ModelReply) -> list[str]:
    """Return the texts and tool calls of a reply."""
    steps = [move.step for move in answered.moves]
    return [step.say if isinstance(step, Say) else step.tool for step in steps if isinstance(step, Say | ToolStep)]


def played(messages: Sequence[Message]) -> list[str]:
    """Return what the model says and calls from here to its last turn, with every tool answering."""
    conversation, collected = list(messages), list[str]()
    while True:
        answered = answer(conversation, TOOLS)
        collected += outputs(answered)
        if not isinstance(answered.moves[-1].step, ToolStep):
            return collected
        conversation += [turn(answered), result(answered)]
