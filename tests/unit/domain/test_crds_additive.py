"""The check that resource definitions only gain: it runs in CI against the last release."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from komputer.domain import crds

SCRIPT = Path(__file__).parents[3] / "hack" / "crds" / "additive.py"
OLD: dict[str, Any] = {
    "type": "object",
    "required": ["model"],
    "properties": {
        "model": {"type": "string", "maxLength": 10},
        "role": {"type": "string", "enum": ["manager", "worker"]},
        "count": {"type": "integer", "minimum": 0},
        "names": {"type": "array", "items": {"type": "string"}},
    },
}


def write(folder: Path, schema: dict[str, Any]) -> Path:
    folder.mkdir()
    version = {"name": "v1", "schema": {"openAPIV3Schema": schema}}
    definition = {"metadata": {"name": "things"}, "spec": {"versions": [version]}}
    (folder / "things.yaml").write_text(json.dumps(definition))
    return folder


def judged(tmp_path: Path, new: dict[str, Any]) -> tuple[int, str]:
    command = [sys.executable, str(SCRIPT), str(write(tmp_path / "old", OLD)), str(write(tmp_path / "new", new))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stderr


def changed(path: str, **fields: Any) -> dict[str, Any]:
    new: dict[str, Any] = json.loads(json.dumps(OLD))
    at = new
    for name in filter(None, path.split(".")):
        at = at["properties"][name]
    at.update(fields)
    return new


@pytest.mark.parametrize(
    ("new", "says"),
    [
        (changed("", required=["model", "role"]), ".role: became required"),
        (changed("", properties={"model": OLD["properties"]["model"]}), ".names: was removed"),
        (changed("model", type="integer"), ".model: type string became integer"),
        (changed("model", maxLength=5), ".model: maxLength is lower"),
        (changed("role", enum=["worker"]), ".role: accepts fewer values"),
        (changed("count", minimum=1), ".count: minimum is higher"),
        (changed("model", pattern="^a"), ".model: has another pattern"),
        (changed("names", items={"type": "integer"}), ".names[]: type string became integer"),
    ],
)
def test_a_change_that_would_break_stored_objects_is_reported(tmp_path: Path, new: dict[str, Any], says: str) -> None:
    code, said = judged(tmp_path, new)
    assert code == 1
    assert says in said


def test_what_only_gains_passes(tmp_path: Path) -> None:
    new = changed("role", enum=["manager", "worker", "judge"])
    new["properties"]["more"] = {"type": "string"}
    new["properties"]["model"]["maxLength"] = 20
    assert judged(tmp_path, new) == (0, "")


def test_the_definitions_as_they_are_break_nothing_of_themselves() -> None:
    command = [sys.executable, str(SCRIPT), str(crds.FOLDER), str(crds.FOLDER)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
