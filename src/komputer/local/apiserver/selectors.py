"""Parses label and field selectors into predicates. Python client libraries can only build selectors."""

import re
from collections.abc import Callable
from typing import Any

from komputer.local.apiserver.errors import bad_request

Object = dict[str, Any]
Selector = Callable[[Object], bool]

_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
_KEY = rf"({_NAME}/)?{_NAME}"
_SET = re.compile(rf"^(?P<key>{_KEY})\s+(?P<operator>in|notin)\s*\((?P<values>[^()]*)\)$")
_EQUAL = re.compile(rf"^(?P<key>{_KEY})\s*(?P<operator>==|=|!=)\s*(?P<value>({_NAME})?)$")
_ORDER = re.compile(rf"^(?P<key>{_KEY})\s*(?P<operator>[<>])\s*(?P<value>-?\d+)$")
_EXISTS = re.compile(rf"^(?P<not>!\s*)?(?P<key>{_KEY})$")
_VALUE = re.compile(rf"^({_NAME})?$")

_COMMON_FIELDS = ("metadata.name", "metadata.namespace")
FIELDS: dict[str, tuple[str, ...]] = {
    "pods": (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.phase",
        "status.podIP",
    ),
    "events": (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
    "secrets": ("type",),
    "namespaces": ("status.phase",),
}
"""The selectable fields of each resource besides name and namespace."""


def labels(text: str) -> Selector | None:
    """Return the predicate of a `labelSelector`; None if it selects everything. Raises StatusError 400."""
    tests = [_requirement(part.strip()) for part in re.split(r",(?![^(]*\))", text)] if text.strip() else []
    if not tests:
        return None

    def matches(body: Object) -> bool:
        present = body["metadata"].get("labels") or {}
        return all(test(present) for test in tests)

    return matches


def _requirement(text: str) -> Callable[[dict[str, str]], bool]:
    if found := _SET.match(text):
        key, values = found["key"], {value.strip() for value in found["values"].split(",")}
        if not all(_VALUE.match(value) for value in values):
            raise _unreadable(text)
        if found["operator"] == "in":
            return lambda present: present.get(key) in values
        return lambda present: present.get(key) not in values
    if found := _EQUAL.match(text):
        key, value = found["key"], found["value"]
        if found["operator"] == "!=":
            return lambda present: present.get(key) != value
        return lambda present: present.get(key) == value
    if found := _ORDER.match(text):
        key, limit, above = found["key"], int(found["value"]), found["operator"] == ">"
        return lambda present: _is_beyond(present.get(key), limit, above)
    if found := _EXISTS.match(text):
        key, absent = found["key"], bool(found["not"])
        return lambda present: (key in present) is not absent
    raise _unreadable(text)


def _is_beyond(value: str | None, limit: int, above: bool) -> bool:
    if value is None or not re.fullmatch(r"-?\d{1,18}", value):
        return False
    return int(value) > limit if above else int(value) < limit


def _unreadable(text: str) -> Exception:
    return bad_request(f'unable to parse requirement: "{text}" is not a label selector')


def fields(text: str, resource: str) -> Selector | None:
    """Return the predicate of a `fieldSelector` for `resource`; None if it selects everything. Raises StatusError 400
    for an unknown field."""
    known = (*_COMMON_FIELDS, *FIELDS.get(resource, ()))
    tests: list[tuple[list[str], str, bool]] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", part)
        if not found:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        if found[1] not in known:
            raise bad_request(
                f'Unable to find "{resource}" that match label selector "", field selector "{text}": '
                f"field label not supported: {found[1]}"
            )
        tests.append((found[1].split("."), found[3], found[2] != "!="))
    if not tests:
        return None
    return lambda body: all((_at(body, path) == value) is wanted for path, value, wanted in tests)


def _at(body: Object, path: list[str]) -> str:
    value: Any = body
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    if path == ["source"] and isinstance(value, dict):
        value = value.get("component")
    return "" if value is None else str(value)


def both(first: Selector | None, second: Selector | None) -> Selector | None:
    """Return the conjunction of two predicates; None if neither restricts anything."""
    if first is None or second is None:
        return first or second
    return lambda body: first(body) and second(body)
