"""Every library that the source imports is declared: one that only comes with another may be gone with its next
release."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "src"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(*extras: str) -> set[str]:
    """The distributions that the project, and these extras, name themselves."""
    requirements = [*PROJECT["dependencies"], *(each for extra in extras for each in EXTRAS[extra])]
    return {normalized(re.split(r"[^A-Za-z0-9._-]", each, maxsplit=1)[0]) for each in requirements}


def modules() -> dict[str, Path]:
    found = {}
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(path: Path) -> Iterator[str]:
    """The modules that a file imports anywhere, in functions too. `from a import b` may mean the module `a.b`."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names if f"{node.module}.{each.name}" in MODULES)


def reachable(start: Iterable[str]) -> set[str]:
    """Our modules that are imported by these, directly or not."""
    found, due = set[str](), list(start)
    while due:
        module = due.pop()
        parents = [".".join(module.split(".")[:length]) for length in range(1, module.count(".") + 2)]
        for each in parents:
            if each in MODULES and each not in found:
                found.add(each)
                due += [name for name in imported(MODULES[each]) if name.startswith("komputer")]
    return found


def distributions(files: Iterable[Path]) -> dict[str, set[str]]:
    """For each file the distributions of other projects that it imports."""
    owners = packages_distributions()
    found = {}
    for file in files:
        roots = {name.split(".")[0] for name in imported(file)} - set(sys.stdlib_module_names) - {"komputer"}
        found[str(file.relative_to(ROOT))] = {_owner(root, owners[root]) for root in roots}
    return found


def _owner(root: str, candidates: list[str]) -> str:
    """The distribution of a package; of several, the one of that name (`lightkube`, not `lightkube-models`)."""
    names = [normalized(each) for each in candidates]
    return normalized(root) if normalized(root) in names else names[0]


def undeclared(files: Iterable[Path], names: set[str]) -> dict[str, set[str]]:
    missing = {file: used - names for file, used in distributions(files).items()}
    return {file: each for file, each in missing.items() if each}


def test_every_imported_library_is_declared() -> None:
    assert undeclared(MODULES.values(), declared(*EXTRAS)) == {}


@pytest.mark.parametrize(
    ("program", "extras"),
    [
        ("komputer.runtime.__main__", ("runtime",)),
        ("komputer.serve.main", ("server", "vertex")),
        ("komputer.client", ("cli",)),
        ("komputer.cli.app", ("cli", "runtime", "server", "vertex", "local")),
    ],
)
def test_an_extra_declares_what_its_programs_import(program: str, extras: tuple[str, ...]) -> None:
    assert undeclared((MODULES[each] for each in reachable([program])), declared(*extras)) == {}


@pytest.mark.parametrize("extra", ["runtime", "server", "cli", "local"])
def test_an_extra_declares_nothing_that_is_not_imported(extra: str) -> None:
    used = set().union(*distributions(MODULES.values()).values())
    assert declared(extra) - declared() - used - {"komputer-platform"} == set()
