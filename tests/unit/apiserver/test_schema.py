"""Pruning, defaulting and validation by structural schemas."""

from typing import Any

import pytest

from komputer.local.apiserver.builtin_schema import schema_of
from komputer.local.apiserver.kinds import BUILT_IN, POD, ResourceKind
from komputer.local.apiserver.schema import Schema, compiled, conform, faults

TEXT: Schema = {"type": "string"}


def properties(**fields: Schema) -> Schema:
    return {"type": "object", "properties": fields}


def causes(value: Any, schema: Schema) -> dict[str, str]:
    """Return path → reason of every fault of `value` at `spec.x`."""
    whole = properties(spec=properties(x=schema))
    return {fault.field: fault.reason for fault in faults({"spec": {"x": value}}, whole)}


def test_unknown_fields_are_dropped_and_reported() -> None:
    unknown: list[str] = []
    schema = properties(spec=properties(items={"type": "array", "items": properties(a=TEXT)}))
    body = {"kind": "K", "metadata": {"name": "n"}, "spec": {"items": [{"a": "1", "b": 2}], "c": 3}, "d": 4}
    assert conform(body, schema, unknown) == {"kind": "K", "metadata": {"name": "n"}, "spec": {"items": [{"a": "1"}]}}
    assert unknown == ["spec.items[0].b", "spec.c", "d"]


def test_unknown_fields_are_kept_where_the_schema_preserves_them() -> None:
    schema = properties(status={"type": "object", "x-kubernetes-preserve-unknown-fields": True})
    assert conform({"status": {"any": {"thing": 1}}}, schema) == {"status": {"any": {"thing": 1}}}


def test_defaults_apply_to_missing_fields_only() -> None:
    inner = properties(size={"type": "integer", "default": 3})
    schema = properties(spec={**inner, "default": {}})
    assert conform({}, schema) == {"spec": {"size": 3}}
    assert conform({"spec": {"size": 0}}, schema) == {"spec": {"size": 0}}


def test_a_default_is_not_shared_between_objects() -> None:
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "default": {"tags": []}}
    schema = properties(spec=properties(any=anything))
    first = conform({"spec": {}}, schema)
    first["spec"]["any"]["tags"].append("x")
    assert conform({"spec": {}}, schema) == {"spec": {"any": {"tags": []}}}


def test_a_null_counts_as_absent_unless_nullable() -> None:
    schema = properties(a={"type": "string", "default": "x"}, b=TEXT, c={"type": "string", "nullable": True})
    assert conform({"a": None, "b": None, "c": None}, schema) == {"a": "x", "c": None}


@pytest.mark.parametrize(
    ("value", "schema", "reason"),
    [
        ("1", {"type": "integer"}, "FieldValueTypeInvalid"),
        (True, {"type": "integer"}, "FieldValueTypeInvalid"),
        (1.5, {"type": "integer"}, "FieldValueTypeInvalid"),
        (1, TEXT, "FieldValueTypeInvalid"),
        ({}, {"type": "array", "items": TEXT}, "FieldValueTypeInvalid"),
        (1.5, {"x-kubernetes-int-or-string": True}, "FieldValueTypeInvalid"),
        ("blue", {"type": "string", "enum": ["red"]}, "FieldValueNotSupported"),
        ("A", {"type": "string", "pattern": "^[a-z]$"}, "FieldValueInvalid"),
        ("abc", {"type": "string", "maxLength": 2}, "FieldValueTooLong"),
        ("", {"type": "string", "minLength": 1}, "FieldValueInvalid"),
        (11, {"type": "integer", "maximum": 10}, "FieldValueInvalid"),
        (10, {"type": "integer", "maximum": 10, "exclusiveMaximum": True}, "FieldValueInvalid"),
        (0, {"type": "integer", "minimum": 1}, "FieldValueInvalid"),
        (["a", "b"], {"type": "array", "maxItems": 1, "items": TEXT}, "FieldValueTooMany"),
        ([], {"type": "array", "minItems": 1, "items": TEXT}, "FieldValueInvalid"),
        ({"a": "1", "b": "2"}, {"type": "object", "maxProperties": 1}, "FieldValueTooMany"),
        ("noon", {"type": "string", "format": "date-time"}, "FieldValueInvalid"),
        (5, {"type": "integer", "not": {"enum": [5]}}, "FieldValueInvalid"),
        (5, {"type": "integer", "anyOf": [{"enum": [1]}, {"enum": [2]}]}, "FieldValueInvalid"),
        (1, {"type": "integer", "oneOf": [{"enum": [1]}, {"minimum": 0}]}, "FieldValueInvalid"),
    ],
    ids=str,
)
def test_each_rule_refuses_with_its_reason_and_the_path(value: Any, schema: Schema, reason: str) -> None:
    assert causes(value, schema) == {"spec.x": reason}


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        (2.0, {"type": "integer"}),
        (1, {"type": "number"}),
        ("5%", {"x-kubernetes-int-or-string": True}),
        ("2026-01-01T00:00:00.5+01:00", {"type": "string", "format": "date-time"}),
        ("é" * 3, {"type": "string", "maxLength": 3}),
        (None, {"type": "string", "nullable": True}),
        ({"a": {"b": 1}}, {"type": "object", "additionalProperties": True}),
    ],
    ids=str,
)
def test_a_valid_value_has_no_faults(value: Any, schema: Schema) -> None:
    assert causes(value, schema) == {}


def test_a_missing_required_field_is_reported_with_its_path() -> None:
    assert causes({}, {"type": "object", "required": ["text"]}) == {"spec.x.text": "FieldValueRequired"}


def test_items_of_a_map_list_must_have_distinct_keys() -> None:
    schema = {
        "type": "array",
        "items": properties(name=TEXT),
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    }
    assert causes([{"name": "a"}, {"name": "b"}, {"name": "a"}], schema) == {"spec.x[2]": "FieldValueDuplicate"}


def test_a_dollar_in_a_pattern_matches_the_end_of_the_text_only() -> None:
    assert compiled("^a$").search("a")
    assert not compiled("^a$").search("a\n")
    assert compiled(r"^[$]\$$").search("$$")


@pytest.mark.parametrize("kind", BUILT_IN, ids=lambda kind: kind.kind)
def test_every_built_in_kind_has_a_schema_with_descriptions(kind: ResourceKind) -> None:
    schema = schema_of(kind)
    assert schema["description"]
    assert {"kind", "apiVersion", "metadata"} <= set(schema["properties"])


def test_the_schema_of_a_pod_reaches_into_its_containers() -> None:
    body = {"spec": {"containers": [{"name": "a", "image": "x", "resources": {"limits": {"cpu": "lots"}}, "odd": 1}]}}
    unknown: list[str] = []
    found = {fault.field for fault in faults(conform(body, schema_of(POD), unknown), schema_of(POD))}
    assert (found, unknown) == ({"spec.containers[0].resources.limits.cpu"}, ["spec.containers[0].odd"])
