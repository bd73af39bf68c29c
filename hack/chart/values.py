"""Generates `values.schema.json` and `docs/reference/values.md` from the chart's `values.yaml`; `--check` compares.

Each value has a comment above it, which becomes its description. Its type is that of its default; a default of `{}` or
`[]` may have any content.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "komputer"
PAGE = ROOT / "docs" / "reference" / "values.md"
PULL = ["Always", "IfNotPresent", "Never"]
CHOICES: dict[str, list[Any]] = {
    "logLevel": ["debug", "info", "warning", "error"],
    "logFormat": ["json", "text"],
    "model.credentialType": ["api_key", "bearer"],
    "valkey.appendfsync": ["always", "everysec"],
    "api.auth": ["kubernetes", "none"],
    "api.compatCreateStatus": [0, 200, 201, 202],
    "api.service.type": ["ClusterIP", "NodePort", "LoadBalancer"],
    **{
        f"{place}pullPolicy": ["Always", "IfNotPresent", "Never"]
        for place in ("image.", "valkey.image.", "agents.image.")
    },
}
PATTERNS = {
    "namespaces": r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
    "connectors.allowedNetworks": r"^[0-9a-fA-F.:]+/[0-9]+$",
    "api.allowedOrigins": r"^https?://[^/]+$",
    "api.tokenAudiences": r"^\S+$",
    "redis.url": r"^$|^(redis|rediss|redis\+sentinel|rediss\+sentinel)://",
    "model.baseURL": r"^$|^https?://",
    "model.bedrock.region": r"^([a-z][a-z0-9-]{1,30})?$",
    "model.vertex.region": r"^[a-z][a-z0-9-]{1,30}$",
    "model.vertex.project": r"^([a-z][a-z0-9:.-]{4,62})?$",
}
"""Patterns of strings, or of each entry of a list."""
FREE = {"resources", "nodeSelector", "affinity", "labels"}
"""Kubernetes objects, which are passed on without validation."""
JSON_TYPES = {bool: "boolean", int: "integer", str: "string", list: "array", dict: "object"}


class Value(NamedTuple):
    path: str
    default: Any
    about: str


def read() -> Iterator[Value]:
    """Yield every value with its comment, in the order of the file. Raises `SystemExit` if one has no comment."""
    lines = (CHART / "values.yaml").read_text("utf-8").splitlines()
    defaults = yaml.safe_load("\n".join(lines))
    stack: list[tuple[int, str]] = []
    about: list[str] = []
    for line in lines:
        text = line.strip()
        if text.startswith("#"):
            about.append(text.removeprefix("#").strip())
            continue
        key, colon, _ = text.partition(":")
        if colon and not text.startswith(("-", "{")):
            indent = len(line) - len(line.lstrip())
            while stack and stack[-1][0] >= indent:
                stack.pop()
            if any(name in FREE for _, name in stack):
                about = []
                continue
            stack.append((indent, key))
            path = ".".join(name for _, name in stack)
            default: Any = defaults
            for _, name in stack:
                default = default[name]
            is_group = isinstance(default, dict) and bool(default) and key not in FREE
            if not is_group and not about:
                raise SystemExit(f"values.yaml: {path} has no comment")
            yield Value(path, default, "" if is_group and not about else " ".join(about))
        about = []


def schema(values: list[Value]) -> dict[str, Any]:
    """Return the JSON schema of the values. Groups accept only listed keys, so that a misspelt value is refused."""
    top: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": {}}
    top["properties"]["global"] = {"type": "object"}  # set by Helm
    for value in values:
        *parents, name = value.path.split(".")
        at = top
        for parent in parents:
            at = at["properties"][parent]
        found: dict[str, Any] = {"type": JSON_TYPES[type(value.default)]}
        if value.about:
            found["description"] = value.about
        if isinstance(value.default, dict) and value.default and name not in FREE:
            found |= {"additionalProperties": False, "properties": {}}
        elif not isinstance(value.default, dict):
            found["default"] = value.default
        if value.path in CHOICES:
            found["enum"] = CHOICES[value.path]
        if isinstance(value.default, int) and not isinstance(value.default, bool):
            found["minimum"] = 0
        if pattern := PATTERNS.get(value.path):
            found |= (
                {"items": {"type": "string", "pattern": pattern}} if found["type"] == "array" else {"pattern": pattern}
            )
        at["properties"][name] = found
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of the Komputer chart", **top}


def page(values: list[Value]) -> str:
    rows = [
        f"| `{value.path}` | `{json.dumps(value.default)}` | {value.about.replace('|', chr(92) + '|')} |"
        for value in values
        if not (isinstance(value.default, dict) and value.default and value.path.split(".")[-1] not in FREE)
    ]
    origin = "Generated from `charts/komputer/values.yaml` by `make generated`. Do not edit this page."
    head = f"# Values of the chart\n\n{origin}\n\n"
    return head + "| value | default | |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def main() -> int:
    values = list(read())
    wanted = {
        CHART / "values.schema.json": json.dumps(schema(values), indent=2, ensure_ascii=False) + "\n",
        PAGE: page(values),
    }
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} does not match values.yaml: run make generated", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(wanted[path], "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
