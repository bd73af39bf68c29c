"""What Helm makes of the chart. `python -m tests.chart.rendering` writes the snapshots anew."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "komputer"
VALUES = sorted((Path(__file__).parent / "values").glob("*.yaml"))
SNAPSHOTS = Path(__file__).parent / "snapshots"
Json = dict[str, Any]


def helm() -> str | None:
    """The binary, where it is built (`hack/kubernetes/build.sh helm`)."""
    if given := os.environ.get("HELM"):
        return given
    command = [str(ROOT / "hack" / "kubernetes" / "build.sh"), "--check", "helm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def rendered(*options: str) -> subprocess.CompletedProcess[str]:
    program = helm()
    assert program
    where = ("--namespace", "komputer", "--kube-version", "1.33")
    command = [program, "template", "komputer", str(CHART), *where, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def text_of(values: Path) -> str:
    """All that is rendered for one set of values; what is drawn at random is not."""
    done = rendered("-f", str(values), "--skip-crds")
    assert done.returncode == 0, done.stderr
    return re.sub(r'data: \{password: "[^"]*"\}', 'data: {password: "cmFuZG9t"}', done.stdout)


def objects(text: str) -> Iterator[Json]:
    for found in yaml.safe_load_all(text):
        if found:
            yield found


if __name__ == "__main__":
    if helm() is None:
        sys.exit("helm is not built: hack/kubernetes/build.sh helm")
    SNAPSHOTS.mkdir(exist_ok=True)
    for each in VALUES:
        (SNAPSHOTS / each.name).write_text(text_of(each), "utf-8")
