"""Generates the CRD manifests from the models. `python -m komputer.domain.crds` writes `crds/*.yaml`, here and in the
Helm chart; with `--check` it exits with 1 if a file is outdated."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from komputer.domain import names
from komputer.domain.agent import Agent
from komputer.domain.base import Manifest, Resource
from komputer.domain.config import Config
from komputer.domain.connector import Connector
from komputer.domain.template import ClusterTemplate, Template

FOLDER = Path(__file__).parent / "crds"
CHART = Path(__file__).parents[3] / "charts/komputer/crds"
"""The folder of the copy that Helm requires in the chart. It exists in a source checkout only."""
KINDS: tuple[type[Resource], ...] = (Agent, Template, ClusterTemplate, Config, Connector)
API_VERSION = f"Version of the schema of this object: {names.API_VERSION}."
KIND = "Kind of the object, in CamelCase."
DROPPED = {"title", "discriminator", "additionalProperties"}


def structural(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON schema as a structural schema: no references, no alternatives, and one type for each node.

    Source: the structural schema rules of apiextensions.k8s.io/v1. An optional field becomes one that may be absent.
    """
    if "$ref" in schema:
        base = definitions[schema["$ref"].rsplit("/", 1)[-1]]
        return structural({**base, **{k: v for k, v in schema.items() if k != "$ref"}}, definitions)
    if "anyOf" in schema:
        (only,) = [part for part in schema["anyOf"] if part.get("type") != "null"]
        return structural({**only, **{k: v for k, v in schema.items() if k != "anyOf"}}, definitions)
    out = {key: value for key, value in schema.items() if key not in DROPPED}
    if out.get("default", ...) in (None, [], {}):
        del out["default"]
    if "const" in out:
        out["enum"] = [out.pop("const")]
    if "properties" in out:
        out["properties"] = {name: structural(part, definitions) for name, part in out["properties"].items()}
    elif isinstance(schema.get("additionalProperties"), dict):
        out["additionalProperties"] = structural(schema["additionalProperties"], definitions)
    if "items" in out:
        out["items"] = structural(out["items"], definitions)
    return out


def crd(kind: type[Resource]) -> Manifest:
    """Return the CustomResourceDefinition of `kind`."""
    schema = kind.model_json_schema(mode="validation", by_alias=True)
    properties = structural(schema, schema.get("$defs", {}))["properties"]
    # Kubernetes refuses any further schema of the metadata, and adds its own.
    properties["metadata"] = {"type": "object"}
    version: Manifest = {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "description": (kind.__doc__ or "").strip(),
                "required": ["spec"],
                "properties": {
                    "apiVersion": {"type": "string", "description": API_VERSION},
                    "kind": {"type": "string", "description": KIND},
                    **properties,
                },
            }
        },
        "additionalPrinterColumns": [c.model_dump(by_alias=True, exclude_defaults=True) for c in kind.columns],
    }
    if "status" in properties:
        version["subresources"] = {"status": {}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": {
                "kind": kind.kind_name,
                "listKind": f"{kind.kind_name}List",
                "plural": kind.plural,
                "singular": kind.kind_name.lower(),
                "categories": ["komputer"],
            },
            "versions": [version],
        },
    }


def files() -> Iterable[tuple[Path, str]]:
    """Yield the path and text of each manifest in each folder. The text is JSON, which is also YAML and can be read
    without a YAML library."""
    for kind in KINDS:
        text = json.dumps(crd(kind), indent=2, ensure_ascii=False) + "\n"
        for folder in (FOLDER, CHART):
            yield folder / f"{kind.plural}.yaml", text


def manifests() -> list[Manifest]:
    """Return the committed CRDs, as they are applied to a cluster."""
    return [json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.yaml"))]


def main() -> int:
    stale = [path for path, text in files() if not path.exists() or path.read_text("utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path} is not what the models say: run python -m komputer.domain.crds", file=sys.stderr)
        return 1 if stale else 0
    for path, text in files():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
