"""`kubectl explain` says of every field what it is."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from komputer.domain import crds

FILES = sorted(path for folder in (crds.FOLDER, crds.CHART) for path in folder.glob("*.yaml"))


def fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, part in schema.get("properties", {}).items():
        yield f"{path}.{name}", part
        yield from fields(part, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from fields(schema[key], f"{path}[]")


def test_every_definition_is_checked() -> None:
    assert len(FILES) == 2 * len(crds.KINDS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_every_field_of_every_definition_has_a_description(path: Path) -> None:
    for version in json.loads(path.read_text("utf-8"))["spec"]["versions"]:
        schema = version["schema"]["openAPIV3Schema"]
        assert schema["properties"].pop("metadata") == {"type": "object"}, (
            "Kubernetes refuses any more, and describes it"
        )
        found = dict(fields(schema))
        assert len(found) > 5
        assert len(schema["description"]) > 20
        assert [name for name, part in found.items() if len(part.get("description", "")) < 10] == []
