"""Error codes have one style, in answers, events and conditions of connectors alike."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import komputer

SNAKE_CASE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")

KUBERNETES_REASONS = {"ErrImagePull", "CreateContainerConfigError"}
"""Reasons of waiting containers, which the local kubelet writes as Kubernetes' does."""


def codes() -> Iterator[tuple[str, str]]:
    """Yield file name and code of each `code="…"` argument and of each `code = "…"` in the body of a class."""
    for path in Path(komputer.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            values: list[ast.expr | None] = []
            if isinstance(node, ast.Call):
                values = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
            elif isinstance(node, ast.ClassDef):
                for statement in node.body:
                    targets = statement.targets if isinstance(statement, ast.Assign) else []
                    if [ast.unparse(target) for target in targets] == ["code"]:
                        values.append(statement.value)  # type: ignore[attr-defined]
            for value in values:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield path.name, value.value


def test_every_error_code_is_snake_case() -> None:
    found = list(codes())
    assert len(found) > 80, "the search finds them"
    assert [each for each in found if not SNAKE_CASE.fullmatch(each[1]) and each[1] not in KUBERNETES_REASONS] == []
