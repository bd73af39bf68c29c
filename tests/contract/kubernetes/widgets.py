"""The two kinds of the tests: Widget (namespaced, with a status) and Gadget (cluster-scoped, without one)."""

from tests.contract.kubernetes.cluster import JSON

SPEC: JSON = {
    "type": "object",
    "description": "What the widget is to be.",
    "required": ["color"],
    "properties": {
        "color": {"type": "string", "enum": ["red", "green", "blue"], "description": "Its only color."},
        "size": {"type": "integer", "minimum": 1, "maximum": 100, "default": 3},
        "ratio": {"type": "number"},
        "note": {"type": "string", "minLength": 2, "maxLength": 20, "pattern": "^[a-z ]*$"},
        "tags": {"type": "array", "maxItems": 3, "items": {"type": "string"}},
        "parts": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "count": {"type": "integer", "default": 1}},
            },
        },
        "env": {"type": "object", "additionalProperties": {"type": "string"}},
        "limit": {"x-kubernetes-int-or-string": True},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "when": {"type": "string", "nullable": True},
        "nested": {"type": "object", "properties": {"depth": {"type": "integer", "default": 7}}},
    },
}

STATUS: JSON = {
    "type": "object",
    "properties": {
        "phase": {"type": "string", "enum": ["Pending", "Ready"]},
        "observedGeneration": {"type": "integer"},
        "ready": {"type": "boolean"},
    },
}

COLUMNS: list[JSON] = [
    {"name": "Color", "type": "string", "jsonPath": ".spec.color"},
    {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
    {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
    {"name": "Note", "type": "string", "jsonPath": ".spec.note", "priority": 1},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
]


def definition(
    group: str,
    kind: str,
    *,
    schema: JSON,
    scope: str = "Namespaced",
    short_names: tuple[str, ...] = (),
    **version: object,
) -> JSON:
    """Return a CustomResourceDefinition with the single version v1, extended by `version`."""
    singular = kind.lower()
    names = {"kind": kind, "listKind": f"{kind}List", "plural": f"{singular}s", "singular": singular}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{singular}s.{group}"},
        "spec": {
            "group": group,
            "scope": scope,
            "names": {**names, "shortNames": list(short_names), "categories": [group.split(".")[0]]},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, **version}
            ],
        },
    }


def widgets(group: str) -> JSON:
    """Return the definition of Widget, with every schema feature that we use, a status and columns. Its short name is
    the first word of the group with `w`."""
    schema: JSON = {
        "type": "object",
        "description": "A thing to test with.",
        "required": ["spec"],
        "properties": {"spec": SPEC, "status": STATUS},
    }
    short = (group.split(".")[0] + "w",)
    return definition(
        group, "Widget", schema=schema, short_names=short, subresources={"status": {}}, additionalPrinterColumns=COLUMNS
    )


def gadgets(group: str) -> JSON:
    """Return the definition of Gadget: cluster-scoped, no status subresource, no columns."""
    schema: JSON = {
        "type": "object",
        "properties": {
            "spec": {"type": "object", "properties": {"power": {"type": "integer"}}},
            "status": {"type": "object", "properties": {"phase": {"type": "string"}}},
        },
    }
    return definition(group, "Gadget", schema=schema, scope="Cluster")
