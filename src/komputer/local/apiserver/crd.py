"""CustomResourceDefinitions: their validation, and the kind that each defines."""

import re
from typing import Any

from komputer.local.apiserver.errors import FieldError, forbidden_field, invalid_value, required, unsupported
from komputer.local.apiserver.kinds import ResourceKind, TableColumn
from komputer.local.apiserver.metadata import name_fault
from komputer.local.apiserver.schema import Schema, compiled, conform, is_typed
from komputer.local.apiserver.schema import faults as schema_faults

Object = dict[str, Any]
FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_AGE = TableColumn("Age", "date", ".metadata.creationTimestamp")


def with_defaults(crd: Object) -> Object:
    """Return the definition with default names and conversion."""
    spec = crd.get("spec")
    if not isinstance(spec, dict) or not isinstance(names := spec.get("names"), dict):
        return crd
    kind = names.get("kind")
    if isinstance(kind, str):
        names = {
            "singular": kind.lower(),
            "listKind": f"{kind}List",
            **{key: value for key, value in names.items() if value},
        }
    return {**crd, "spec": {"conversion": {"strategy": "None"}, **spec, "names": names}}


def faults(crd: Object) -> list[FieldError]:
    """Return everything that prevents the definition from being served."""
    spec, names = crd.get("spec") or {}, (crd.get("spec") or {}).get("names") or {}
    found: list[FieldError] = []
    group, plural = spec.get("group", ""), names.get("plural", "")
    if crd["metadata"]["name"] != f"{plural}.{group}":
        found.append(
            invalid_value("metadata.name", crd["metadata"]["name"], 'must be spec.names.plural+"."+spec.group')
        )
    if "." not in group or name_fault(group):
        found.append(invalid_value("spec.group", group, "should be a domain with at least one dot"))
    found += [required(f"spec.names.{key}") for key in ("plural", "kind", "singular", "listKind") if not names.get(key)]
    for key in ("kind", "listKind"):
        if (name := names.get(key)) and (fault := name_fault(name.lower(), as_label=True)):
            found.append(invalid_value(f"spec.names.{key}", name, fault))
    if plural and name_fault(plural, as_label=True):
        found.append(invalid_value("spec.names.plural", plural, name_fault(plural, as_label=True) or ""))
    if spec.get("scope") not in ("Namespaced", "Cluster"):
        found.append(unsupported("spec.scope", spec.get("scope"), ("Cluster", "Namespaced")))
    if (spec.get("conversion") or {}).get("strategy", "None") != "None":
        found.append(
            forbidden_field("spec.conversion.strategy", "conversion webhooks are not supported by the local API server")
        )
    versions = spec.get("versions") or []
    if sum(bool(version.get("storage")) for version in versions) != 1:
        found.append(
            invalid_value("spec.versions", len(versions), "must have exactly one version marked as storage version")
        )
    served = [version for version in versions if version.get("served")]
    if len(served) != 1 or not served[0].get("storage"):
        found.append(
            forbidden_field("spec.versions", "the local API server serves exactly one version, the stored one")
        )
    for index, version in enumerate(versions):
        path = f"spec.versions[{index}]"
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        if not isinstance(schema, dict):
            found.append(required(f"{path}.schema.openAPIV3Schema", "schemas are required"))
            continue
        if schema.get("type") != "object":
            found.append(
                invalid_value(
                    f"{path}.schema.openAPIV3Schema.type", schema.get("type", ""), "must be object at the root"
                )
            )
        _check_structure(schema, f"{path}.schema.openAPIV3Schema", found)
        columns = version.get("additionalPrinterColumns") or []
        found += [
            invalid_value(
                f"{path}.additionalPrinterColumns[{place}].jsonPath", column.get("jsonPath"), "must start with a dot"
            )
            for place, column in enumerate(columns)
            if not str(column.get("jsonPath", "")).startswith(".")
        ]
    return found


def _check_structure(schema: Any, path: str, found: list[FieldError]) -> None:
    if not isinstance(schema, dict):
        found.append(invalid_value(path, schema, "must be an object"))
        return
    if not (is_typed(schema) or schema.get("x-kubernetes-preserve-unknown-fields")):
        found.append(required(f"{path}.type", "must not be empty for specified object fields"))
    if (type_name := schema.get("type")) and type_name not in _TYPES:
        found.append(unsupported(f"{path}.type", type_name, _TYPES))
    if isinstance(pattern := schema.get("pattern"), str):
        try:
            compiled(pattern)
        except re.error as error:
            found.append(
                invalid_value(f"{path}.pattern", pattern, f"must be a valid regular expression, but isn't: {error}")
            )
    for key, sub in (schema.get("properties") or {}).items():
        if not (path.endswith("openAPIV3Schema") and key in ("apiVersion", "kind", "metadata")):
            _check_structure(sub, f"{path}.properties[{key}]", found)
    if schema.get("type") == "array":
        if "items" not in schema:
            found.append(required(f"{path}.items", "must be specified"))
        else:
            _check_structure(schema["items"], f"{path}.items", found)
    if isinstance(schema.get("additionalProperties"), dict):
        _check_structure(schema["additionalProperties"], f"{path}.additionalProperties", found)
    if "default" in schema and not found:
        default = conform(schema["default"], schema, is_root=False)
        found += [FieldError(f.reason, f"{path}.default", f.message) for f in schema_faults(default, schema, "default")]


def rules_not_evaluated(crd: Object) -> bool:
    """Return whether the definition has CEL rules. Those are stored and published, but not evaluated."""
    return "x-kubernetes-validations" in str((crd.get("spec") or {}).get("versions"))


def accepted_status(crd: Object, now: str, before: Object) -> Object:
    """Return the status of a definition that is served."""
    established = {
        "type": "Established",
        "status": "True",
        "lastTransitionTime": now,
        "reason": "InitialNamesAccepted",
        "message": "the initial names have been accepted",
    }
    accepted = {
        "type": "NamesAccepted",
        "status": "True",
        "lastTransitionTime": now,
        "reason": "NoConflicts",
        "message": "no conflicts found",
    }
    stored = [version["name"] for version in crd["spec"]["versions"] if version.get("storage")]
    conditions = before.get("conditions") or [accepted, established]
    return {"conditions": conditions, "acceptedNames": crd["spec"]["names"], "storedVersions": stored}


def defined_kind(crd: Object) -> ResourceKind:
    """Return the kind that a valid definition defines."""
    spec = crd["spec"]
    names = spec["names"]
    version = next(version for version in spec["versions"] if version.get("served"))
    schema: Schema = version["schema"]["openAPIV3Schema"]
    columns = tuple(
        TableColumn(
            one["name"],
            one.get("type", "string"),
            one["jsonPath"],
            one.get("priority", 0),
            one.get("description", ""),
            one.get("format", ""),
        )
        for one in version.get("additionalPrinterColumns") or ()
    )
    return ResourceKind(
        group=spec["group"],
        version=version["name"],
        kind=names["kind"],
        plural=names["plural"],
        singular=names["singular"],
        list_kind=names["listKind"],
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        namespaced=spec["scope"] == "Namespaced",
        has_status=(version.get("subresources") or {}).get("status") is not None,
        custom=True,
        schema=schema,
        columns=columns or (_AGE,),
        is_terminating="deletionTimestamp" in crd["metadata"],
    )
