"""Conditions that the status of several kinds has."""

from collections.abc import Iterable, Sequence

from komputer.domain.base import Condition


def fields_supported(ignored: Sequence[str], known: Iterable[Condition]) -> Condition | None:
    """Return the condition FieldsSupported, which names the fields of the spec that are set and have no effect. None if
    there are no such fields and the object does not have the condition yet."""
    if ignored:
        message = f"no effect in this release: {', '.join(f'spec.{field}' for field in ignored)}"
        return Condition(type="FieldsSupported", status="False", reason="FieldsNotSupported", message=message)
    if any(each.type == "FieldsSupported" for each in known):
        return Condition(type="FieldsSupported", status="True", reason="AllFieldsSupported")
    return None
