"""Schemas of the built-in kinds, in the form of a CRD's, derived on first use from lightkube's generated models.

lightkube is a dependency in any case. The alternative, Kubernetes' own OpenAPI document, is several megabytes of JSON.
"""

import importlib
import re
from functools import cache
from typing import Any

from komputer.local.apiserver.kinds import ResourceKind
from komputer.local.apiserver.schema import Schema

TYPE_NAME = "x-type-name"
"""The key under which a derived schema keeps the name of its model. Named schemas are shared by all fields of that
type."""

MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "imagePullSecrets": "name",
    "secrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "schedulingGates": "name",
    "ownerReferences": "uid",
    "conditions": "type",
    "podIPs": "ip",
}
"""The lists of built-in kinds that a strategic merge patch merges item by item, and the key that identifies an item."""

RETAIN_KEYS = {"volumes"}
"""Lists whose items support the directive `$retainKeys`: a patch with it drops the fields that it does not list."""
_MODULES = {
    "": "core_v1",
    "coordination.k8s.io": "coordination_v1",
    "events.k8s.io": "events_v1",
    "apiextensions.k8s.io": "apiextensions_v1",
    "authentication.k8s.io": "authentication_v1",
    "authorization.k8s.io": "authorization_v1",
}
QUANTITY: Schema = {"x-kubernetes-int-or-string": True, "format": "quantity"}
_SCALARS: dict[str, Schema] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "dict": {"type": "object", "additionalProperties": True},
    "Dict": {"type": "object", "additionalProperties": True},
    "Time": {"type": "string", "format": "date-time", "nullable": True},
    "MicroTime": {"type": "string", "format": "date-time", "nullable": True},
    "datetime": {"type": "string", "format": "date-time"},
    "Quantity": QUANTITY,
    "IntOrString": {"x-kubernetes-int-or-string": True},
    "RawExtension": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    "FieldsV1": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    "CustomResourceSubresourceStatus": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    "JSONSchemaProps": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
}
_QUANTITIES = {"limits", "requests", "capacity", "allocatedResources", "overhead"}
_FIELD_TEXT = re.compile(r"^ {2}\* \*\*(\w+)\*\* ``[^`]*`` - (.*?)(?=^ {2}\* \*\*|\Z)", re.M | re.S)


def schema_of(kind: ResourceKind) -> Schema:
    """Return the schema of a built-in kind's objects."""
    return _model(_MODULES[kind.group], kind.kind)


@cache
def _model(module: str, name: str) -> Schema:
    model: Any = getattr(importlib.import_module(f"lightkube.models.{module}"), name)
    text = "\n".join(line.removeprefix("    ") for line in (model.__doc__ or "").splitlines())
    summary, _, listed = text.partition("**parameters**")
    texts = {found[1]: " ".join(found[2].split()) for found in _FIELD_TEXT.finditer(listed)}
    schema: Schema = {
        TYPE_NAME: f"{module}.{name}",
        "type": "object",
        "description": " ".join(summary.split()),
        "properties": {},
    }
    names: tuple[str, ...] = model.__struct_encode_fields__
    for name_in_python, field in zip(model.__struct_fields__, names, strict=True):
        sub = dict(_annotated(model.__annotations__[name_in_python], module))
        if field in _QUANTITIES:
            sub["additionalProperties"] = QUANTITY
        if field in texts:
            sub["description"] = texts[field]
        if sub.get("type") == "array" and field in MERGE_KEYS:
            sub["x-kubernetes-patch-merge-key"] = MERGE_KEYS[field]
            sub["x-kubernetes-patch-strategy"] = "merge,retainKeys" if field in RETAIN_KEYS else "merge"
        schema["properties"][field] = sub
    if needed := names[: len(names) - len(model.__struct_defaults__)]:
        schema["required"] = list(needed)
    return schema


def _annotated(annotation: str, module: str) -> Schema:
    """Return the schema of a field from the annotation of the model: `Optional[List[EnvVar]]`, `meta_v1.Time`, …"""
    if inner := re.fullmatch(r"Optional\[(.*)\]", annotation):
        return _annotated(inner[1], module)
    if inner := re.fullmatch(r"List\[(.*)\]", annotation):
        return {"type": "array", "items": _annotated(inner[1], module)}
    home, _, name = annotation.rpartition(".")
    if name in _SCALARS:
        return _SCALARS[name]
    return _model(home or module, name)
