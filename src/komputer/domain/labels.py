"""Labels that users set on agents. They follow Kubernetes' syntax; keys of the platform are reserved."""

import re
from collections.abc import Mapping
from typing import Final

from komputer.domain import names

LIMIT: Final = 64
"""Maximum number of labels of one agent. A guess, far above the number that anyone filters by."""
ALLOWED_OF_OURS: Final = frozenset({"komputer.ai/personal-agent"})
"""Keys with the reserved prefix that users may set, because published clients set them."""

_PREFIX: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_WORD: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


def is_reserved(key: str) -> bool:
    """Return whether only the platform may set this key."""
    return key.startswith(names.RESERVED_LABEL_PREFIX) and key not in ALLOWED_OF_OURS


def key_fault(key: str) -> str | None:
    """Return what is wrong with the key of a label, as the end of a sentence; None for a valid one."""
    prefix, slash, name = key.rpartition("/")
    if slash and not (len(prefix) <= 253 and _PREFIX.fullmatch(prefix)):
        return f"{key[:100]!r} is no label key: the part before the slash must be a DNS name"
    if not (len(name) <= 63 and _WORD.fullmatch(name)):
        return f"{key[:100]!r} is no label key: 1 to 63 letters, digits, dots, dashes and underscores"
    return None


def fault(labels: Mapping[str, str]) -> str | None:
    """Return what is wrong with labels that a user wants to set; None if they are valid."""
    if len(labels) > LIMIT:
        return f"has more than {LIMIT} labels"
    for key, value in labels.items():
        if wrong := key_fault(key):
            return wrong
        if is_reserved(key):
            return f"{key!r} has a prefix that the platform keeps for itself"
        if value and not (len(value) <= 63 and _WORD.fullmatch(value)):
            return f"{key}: {value[:100]!r} is no label value: at most 63 letters, digits, dots, dashes and underscores"
    return None


def pair(text: str) -> tuple[str, str] | None:
    """Return key and value of a filter `key=value`; None for an invalid one."""
    key, equals, value = text.partition("=")
    if not equals or key_fault(key) or (value and not (len(value) <= 63 and _WORD.fullmatch(value))):
        return None
    return key, value
