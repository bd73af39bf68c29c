"""Masks secrets in events, in case a tool prints them: the agent's secrets, the pod's token, the task's key. Pure.

A value is found literally, as a JSON string, and by its longer lines. A value that a tool encodes, splits or reverses
is not found: masking does not stop an agent from revealing a secret that it has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar

from komputer.events.schema import EventBase

SHORTEST: Final = 6
"""The shortest value that is masked, in characters. A shorter one would match parts of ordinary text."""
SHORTEST_LINE: Final = 16
"""The shortest line that is masked, of a value with several lines such as a PEM key, in characters."""
FIELDS: Final = ("content", "tool", "input", "output", "result", "error", "reason")
"""The fields of events with text from a model, a tool or a program."""

CLI_TOKEN: Final = "CLAUDE_CODE_MESSAGING_TOKEN"
"""A variable that the Claude CLI sets for its tools: the token of its own socket. The CLI chooses the value, which
cannot be configured. So the value is taken from the first text that names the variable, such as the output of `env`."""
_CLI_TOKEN_VALUE: Final = re.compile(CLI_TOKEN + r"\W{1,6}([0-9A-Za-z_-]{16,})")

E = TypeVar("E", bound=EventBase)


class Mask:
    """Masks all secrets that this runtime has ever had: a conversation may repeat one that has been replaced since."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None

    def learn(self, environment: Mapping[str, str]) -> None:
        """Add secrets. `environment` maps the name of each, which is shown in place of the value, to the value."""
        before = len(self._names)
        for name, value in environment.items():
            for text in forms(value):
                self._names.setdefault(text, name)
        if len(self._names) != before:
            longest_first = sorted(self._names, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def masked(self, event: E) -> E:
        """Return the event with `[secret SECRET_X]` in place of each known value."""
        texts: dict[str, Any] = {field: getattr(event, field) for field in FIELDS if field in type(event).model_fields}
        for text in _strings_in(texts):
            if CLI_TOKEN in text:
                for value in _CLI_TOKEN_VALUE.findall(text):
                    self.learn({CLI_TOKEN: value})
        if self._pattern is None:
            return event
        changed = {field: new for field, old in texts.items() if (new := self._clean(old)) != old}
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


def _strings_in(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for key, part in value.items():
                yield from _strings_in(key)
                yield from _strings_in(part)
        case list():
            for part in value:
                yield from _strings_in(part)


def forms(value: str) -> set[str]:
    """Return the texts that are masked for a value."""
    whole = value.strip()
    if len(whole) < SHORTEST:
        return set()
    found = {whole, json.dumps(whole)[1:-1], json.dumps(whole, ensure_ascii=False)[1:-1]}
    lines = whole.splitlines()
    if len(lines) > 1:
        found |= {line.strip() for line in lines if len(line.strip()) >= SHORTEST_LINE}
    return found
