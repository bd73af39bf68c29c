"""The steps of a script, and the functions that find a script in a text and parse it.

Pure. A script is a fenced block that opens with ```offline and contains a JSON array of steps.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from komputer.http.validation import explain
from komputer.offline.conversation import MAX_DEPTH, BadRequest, is_deeper

Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Times = Annotated[int, Field(ge=1, le=1_000_000)]
Words = Annotated[str, Field(min_length=1, pattern=r"\S")]
Tokens = Annotated[int, Field(ge=0, le=1_000_000_000)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Say(_Model):
    """A text block."""

    say: Words
    stop: Literal["max_tokens", "model_context_window_exceeded", "refusal"] | None = None
    """The stop reason, if the turn ends here; None: the turn continues with the next step."""


class Think(_Model):
    """A thinking block."""

    think: Words


class ToolStep(_Model):
    """A tool call, which the client runs. Ends the turn."""

    tool: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]
    input: Any = Field(default_factory=dict)
    """The tool's input. It is usually an object; another value plays a faulty model."""


class Wait(_Model):
    """A pause of this many seconds, in which only pings are sent: the model thinks."""

    wait: Seconds
    times: Times | None = None
    """How many requests wait here; None means every one."""


class Hang(_Model):
    """A pause of this many seconds in which nothing is sent: the model is stuck."""

    hang: Seconds
    times: Times | None = None
    """How many requests hang here; None means every one."""


class Fail(_Model):
    """An API error instead of the following steps."""

    fail: Annotated[int, Field(ge=400, le=599)]
    times: Times = 1
    """How many requests fail here before one continues."""
    message: str = "The script asked for this error."


class UsageCounts(_Model):
    """Token counts; those that are None are derived from the texts."""

    input_tokens: Tokens | None = None
    output_tokens: Tokens | None = None
    cache_read_input_tokens: Tokens | None = None
    cache_creation_input_tokens: Tokens | None = None


class Use(_Model):
    """The token usage of the turn that contains this step."""

    usage: UsageCounts


Step = Say | Think | ToolStep | Wait | Hang | Fail | Use

KINDS: dict[str, type[Step]] = {
    "say": Say,
    "think": Think,
    "tool": ToolStep,
    "wait": Wait,
    "hang": Hang,
    "fail": Fail,
    "usage": Use,
}

CLOSING = Say(say="The offline model's script ends here.")
"""The step that is appended to a script without a `say` at its end: a model's last turn always ends with a text."""

MAX_STEPS = 10_000


_OPENING = re.compile(r"^[ \t]*(`{3,}|~{3,})offline(?:[ \t]+bookmark=(\d{1,5}):(\d{1,9}))?(?=\s|\Z)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Bookmark:
    """The position at which a script continues after a compaction: the step, and the number of scripts so far in the
    conversation."""

    step: int
    ordinal: int


@dataclass(frozen=True, kw_only=True)
class ContentBlock:
    """A fenced block that opens with ```offline, not yet parsed. `end` is the index behind the opening line."""

    text: str
    fence: str
    end: int
    bookmark: Bookmark | None


def find(text: str) -> ContentBlock | None:
    """Return the last such block in `text`, or None."""
    *_, opening = [None, *_OPENING.finditer(text)]
    if opening is None:
        return None
    bookmark = Bookmark(step=int(opening[2]), ordinal=int(opening[3])) if opening[2] else None
    return ContentBlock(text=text, fence=opening[1], end=opening.end(), bookmark=bookmark)


def parse(block: ContentBlock) -> tuple[Step, ...]:
    """Return the steps of a block. Raises BadRequest with what is wrong."""
    array = block.text[block.end :].lstrip()
    try:
        value, end = _JSON.raw_decode(array)
    except ValueError as error:
        raise BadRequest(f"The ```offline block is not JSON: {error}") from None
    except RecursionError:
        raise BadRequest(f"The ```offline block nests more than {MAX_DEPTH} objects and arrays") from None
    rest = array[end:].lstrip()
    if not rest.startswith(block.fence):
        raise BadRequest(f"The ```offline block must close after its JSON array, with {block.fence}, not {rest[:20]!r}")
    return read(value)


def write(steps: Sequence[Step], bookmark: Bookmark) -> str:
    """Return the steps as a block that continues at the bookmark."""
    array = json.dumps([step.model_dump(exclude_none=True) for step in steps])
    return f"```offline bookmark={bookmark.step}:{bookmark.ordinal}\n{array}\n```"


def read(array: object) -> tuple[Step, ...]:
    """Return the steps of a script given as parsed JSON. `CLOSING` is appended if it does not end with a `say`. An
    empty array is a script without steps. Raises BadRequest with the number of the step, from 1, and what is wrong with
    it."""
    if not isinstance(array, list):
        raise BadRequest(f"The ```offline block must hold a JSON array of steps, not {_shown(array)}")
    if len(array) > MAX_STEPS:
        raise BadRequest(f"The ```offline block has {len(array)} steps; {MAX_STEPS} is the limit")
    steps = tuple(_step(value, number) for number, value in enumerate(array, start=1))
    outputs = [step for step in steps if isinstance(step, Say | Think | ToolStep)]
    if steps and not (outputs and isinstance(outputs[-1], Say)):
        return (*steps, CLOSING)
    return steps


def digest(value: object) -> str:
    """Return sixteen hex digits that are equal for equal JSON values on every machine."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _step(value: object, number: int) -> Step:
    if is_deeper(value, MAX_DEPTH):
        raise BadRequest(f"Step {number} of the ```offline block nests more than {MAX_DEPTH} objects and arrays")
    kinds = [kind for kind in KINDS if isinstance(value, dict) and kind in value]
    if len(kinds) != 1:
        raise BadRequest(
            f"Step {number} of the ```offline block is unknown: {_shown(value)}. "
            f"A step is an object with exactly one of: {', '.join(KINDS)}"
        )
    try:
        return KINDS[kinds[0]].model_validate(value)
    except ValidationError as error:
        fault, _ = explain(error.errors(include_url=False))
        raise BadRequest(f"Step {number} of the ```offline block, {_shown(value)}: {fault}") from None


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:80] + "…"


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number")


_JSON = json.JSONDecoder(parse_constant=_refuse)
