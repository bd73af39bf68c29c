"""Equality-based label selectors, with the API server's semantics. Set-based selectors are not supported, because
nothing uses them. lightkube writes selectors, but does not match objects against them."""

from collections.abc import Callable

from komputer.domain.errors import Invalid
from komputer.kube.kinds import Manifest


def selects(labels: str | None) -> Callable[[Manifest], bool]:
    """Return a function that returns whether an object matches the selector `labels` (`a=b,c!=d,e,!f`; None: all).
    Raises Invalid for set-based ones (`a in (b, c)`)."""
    terms = [_term(text.strip()) for text in labels.split(",")] if labels else []

    def matches(manifest: Manifest) -> bool:
        has = manifest["metadata"].get("labels") or {}
        return all(term(has) for term in terms)

    return matches


def _term(text: str) -> Callable[[dict[str, str]], bool]:
    if not text or any(sign in text for sign in " ()"):
        raise Invalid(f"{text!r} is not an equality-based label selector", field="labelSelector")
    if text.startswith("!"):
        return lambda has: text[1:] not in has
    if "!=" in text:
        key, value = text.split("!=", 1)
        return lambda has: has.get(key) != value
    if "=" in text:
        key, value = text.replace("==", "=").split("=", 1)
        return lambda has: has.get(key) == value
    return lambda has: text in has
