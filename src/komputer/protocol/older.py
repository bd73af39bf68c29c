"""The names of wire format 1, so that runtimes and gateways of different versions work together during an update.

Format 2 renamed three fields and two answers. Each side reads and writes both names of a field, so it need not know the
version of the other side. An answer to a post is one of a fixed set of words, and a runtime knows only the words of its
own format. A post therefore states its format, and the gateway answers in that format.

Remove this module and all references to it in the release after 0.1: no runtime of format 1 was ever released, and pods
are replaced at each update.
"""

from typing import Final

from pydantic import AliasChoices

FORMAT: Final = 1
"""The format of a sender that states none. It is also the oldest format of a gateway with which a runtime works."""

SEQ: Final = AliasChoices("seq", "n")
LAST_SEQ: Final = AliasChoices("lastSeq", "taken")
ACKED_MESSAGE_ID: Final = AliasChoices("ackedMessageId", "heard")

_ANSWERS: Final = {"gap": "hole", "unacknowledged": "unheard"}
_PRESENT_ANSWERS: Final = {old: new for new, old in _ANSWERS.items()}

POD_CODES: Final = frozenset({"not-current-pod", "agent-gone"})
"""Error codes that format 1 writes with hyphens."""


def both(names: AliasChoices, value: object) -> dict[str, object]:
    """Return a field under its present and its former name."""
    return {str(name): value for name in names.choices}


def answer(present: str, format_version: int) -> str:
    """Return an answer to an event in the words of the given format."""
    return _ANSWERS.get(present, present) if format_version <= FORMAT else present


def present_answer(given: object) -> object:
    """Return the present word for an answer to an event; any other value unchanged."""
    return _PRESENT_ANSWERS.get(given, given) if isinstance(given, str) else given
