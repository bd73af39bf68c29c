"""Every line that README.md, docs/operations.md and docs/quickstart.md tell somebody with a laptop to paste works as it
is written."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.laptop import Laptop
from tests.e2e.pages import CURL

pytestmark = pytest.mark.timeout(400)
"""The first test also waits for the platform to start."""
ROOT = Path(__file__).parents[2]
NOT_HERE = ("make up", "make test", "helm ", "kubectl get komputeragents -A", "tar ", "mv ", "chmod ")
"""What the other tests do (`make`), what wants a cluster, and what wants the platform to be stopped."""

NOT_ONCE_MORE = ("make up", "ANTHROPIC_API_KEY=")
"""What starts the platform."""


def pasted(page: str) -> list[str]:
    """The commands of a page's consoles, one or several lines each."""
    found = []
    text = (ROOT / page).read_text()
    for _, block in re.findall(r"^(`{3,})console\n(.*?)^\1$", text, re.MULTILINE | re.DOTALL):
        found += [each.strip() for each in re.split(r"^\$ ", block, flags=re.MULTILINE) if each.strip()]
    return found


@pytest.mark.timeout(400)
def test_the_lines_of_readme_and_operations_work_as_pasted(laptop: Laptop, tmp_path: Path) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    lines = [each for page in ("README.md", "docs/operations.md") for each in pasted(page)]
    assert {word for word in NOT_HERE if not any(line.startswith(word) for line in lines)} == set(), (
        "exceptions are used"
    )
    here = [line for line in lines if not line.startswith(NOT_HERE)]
    assert len(here) > 12
    said = play(here, laptop, tmp_path)
    assert "ok       platform: it runs" in said


def test_the_lines_of_the_quickstart_work_as_pasted(laptop: Laptop, tmp_path: Path) -> None:
    lines = [line for line in pasted("docs/quickstart.md") if not line.startswith(NOT_ONCE_MORE)]
    assert len(lines) == 8
    lines[:0] = ["export KOMPUTER_API=http://127.0.0.1:8080"]  # the laptop of the tests has another port
    said = play(lines, laptop, tmp_path)
    assert "ls | wc -l" in said
    assert "Done." in said


def play(lines: list[str], laptop: Laptop, home: Path) -> str:
    """Run the commands one after the other in one shell, as somebody whose data directory is the laptop's; return what
    they print."""
    default = home / ".local" / "share" / "komputer"
    default.parent.mkdir(parents=True)
    default.symlink_to(laptop.data_dir)
    forget(laptop)
    script = "\n".join(lines).replace("http://127.0.0.1:8080", laptop.url).replace("curl -s", CURL)
    script = script.replace(".venv/bin/komputer", f"{sys.executable} -m komputer.cli")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("KOMPUTER_", "XDG_", "KUBECONFIG"))}
    done = subprocess.run(
        ["bash", "-xeuo", "pipefail", "-c", script],
        cwd=ROOT,
        env={**clean, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    forget(laptop)
    return done.stdout


def forget(laptop: Laptop) -> None:
    """What the pages make, and what other tests call the same."""
    for path in ("/agents/ada", "/agents/bob", "/connectors/github"):
        laptop.http.delete(path)
