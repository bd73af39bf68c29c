"""Secrets that a tool printed do not get into events: those given to the agent, the pod's token, the task's key. Pure.

What is replaced is the text of a value as it stands, as JSON writes it, and the longer lines of one with several. A
tool that encodes, splits or reverses it is not caught: an agent that has a secret can tell it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from komputer.events.schema import EventBase

SHORTEST: Final = 6
"""Characters; shorter values stand in too many other words."""
SHORTEST_LINE: Final = 16
"""Of a value with several lines, such as a key in PEM."""
FIELDS: Final = ("content", "tool", "input", "output", "result", "error", "reason")
"""Of events, those that say what a model, a tool or a program said."""

E = TypeVar("E", bound=EventBase)


class Mask:
    """All values that this runtime has ever had: a conversation may repeat one that was replaced since."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None

    def learn(self, environment: Mapping[str, str]) -> None:
        """`environment` maps the name that is shown instead to the value."""
        before = len(self._names)
        for name, value in environment.items():
            for text in forms(value):
                self._names.setdefault(text, name)
        if len(self._names) != before:
            longest_first = sorted(self._names, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def masked(self, event: E) -> E:
        """The event, with `[secret SECRET_X]` in place of each known value."""
        if self._pattern is None:
            return event
        told: dict[str, Any] = {field: getattr(event, field) for field in FIELDS if field in type(event).model_fields}
        changed = {field: new for field, old in told.items() if (new := self._clean(old)) != old}
        return event.model_copy(update=changed) if changed else event

    def _clean(self, value: Any) -> Any:
        match value:
            case str():
                assert self._pattern is not None
                return self._pattern.sub(lambda found: f"[secret {self._names[found[0]]}]", value)
            case dict():
                return {self._clean(key): self._clean(part) for key, part in value.items()}
            case list():
                return [self._clean(part) for part in value]
            case _:
                return value


def forms(value: str) -> set[str]:
    """The texts by which a value is recognised."""
    whole = value.strip()
    if len(whole) < SHORTEST:
        return set()
    found = {whole, json.dumps(whole)[1:-1], json.dumps(whole, ensure_ascii=False)[1:-1]}
    lines = whole.splitlines()
    if len(lines) > 1:
        found |= {line.strip() for line in lines if len(line.strip()) >= SHORTEST_LINE}
    return found
