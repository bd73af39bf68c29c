"""Lists changes of the resource definitions that break objects or clients of the last release (the newest tag v*), and
fails if there are any. `additive.py OLD NEW` compares two folders.

A definition may gain optional fields, enum values, wider limits and columns. It may not lose a field or a version,
change a type, or get stricter: stored objects must stay valid.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = "src/komputer/domain/crds"
LOWER = ("maxLength", "maxItems", "maximum", "maxProperties")
UPPER = ("minLength", "minItems", "minimum", "minProperties")


def breaks(old: dict[str, Any], new: dict[str, Any], path: str = "") -> Iterator[str]:
    """Yield what `new` refuses or prunes and `old` accepted."""
    where = path or "the object"
    if old.get("type") != new.get("type"):
        yield f"{where}: type {old.get('type')} became {new.get('type')}"
        return
    for name in sorted(old.get("properties", {}).keys() - new.get("properties", {}).keys()):
        yield f"{path}.{name}: was removed, and would be pruned"
    for name in sorted(set(new.get("required", ())) - set(old.get("required", ()))):
        yield f"{path}.{name}: became required"
    if ("enum" in new and not set(old.get("enum", ())) <= set(new["enum"])) or ("enum" in new and "enum" not in old):
        yield f"{where}: accepts fewer values"
    if new.get("pattern") not in (None, old.get("pattern")):
        yield f"{where}: has another pattern"
    for limit in LOWER:
        if limit in new and (limit not in old or new[limit] < old[limit]):
            yield f"{where}: {limit} is lower"
    for limit in UPPER:
        if limit in new and new[limit] > old.get(limit, 0):
            yield f"{where}: {limit} is higher"
    if "default" in old and old["default"] != new.get("default"):
        yield f"{where}: has another default"
    for name, part in old.get("properties", {}).items():
        if name in new.get("properties", {}):
            yield from breaks(part, new["properties"][name], f"{path}.{name}")
    if isinstance(old.get("items"), dict) and isinstance(new.get("items"), dict):
        yield from breaks(old["items"], new["items"], f"{path}[]")


def compared(old: Path, new: Path) -> Iterator[str]:
    for file in sorted(old.glob("*.yaml")):
        before = json.loads(file.read_text("utf-8"))
        name = before["metadata"]["name"]
        if not (new / file.name).exists():
            yield f"{name}: the definition was removed"
            continue
        after = json.loads((new / file.name).read_text("utf-8"))
        versions = {version["name"]: version for version in after["spec"]["versions"]}
        for version in before["spec"]["versions"]:
            if version["name"] not in versions:
                yield f"{name}: version {version['name']} was removed"
                continue
            schemas = (each["schema"]["openAPIV3Schema"] for each in (version, versions[version["name"]]))
            for broken in breaks(*schemas):
                yield f"{name} {version['name']} {broken}"


def last_release(into: Path) -> str | None:
    """Write the definitions of the newest release into a folder and return its tag, or None."""
    described = subprocess.run(
        ["git", "describe", "--tags", "--match", "v*", "--abbrev=0"], capture_output=True, text=True, check=False
    )
    tag = described.stdout.strip()
    if not tag:
        return None
    listed = subprocess.run(
        ["git", "ls-tree", "--name-only", tag, f"{FOLDER}/"], capture_output=True, text=True, check=True
    )
    for path in listed.stdout.split():
        shown = subprocess.run(["git", "show", f"{tag}:{path}"], capture_output=True, text=True, check=True)
        (into / Path(path).name).write_text(shown.stdout, "utf-8")
    return tag


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        old, new = (Path(arguments[0]), Path(arguments[1])) if arguments else (Path(folder), Path(FOLDER))
        tag = str(old) if arguments else last_release(old)
        if tag is None:
            print("crds: there is no release yet to compare with")
            return 0
        found = list(compared(old, new))
    for broken in found:
        print(broken, file=sys.stderr)
    print(f"crds: {len(found)} breaking changes since {tag}" if found else f"crds: no breaking changes since {tag}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
