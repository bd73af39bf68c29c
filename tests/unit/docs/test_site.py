"""The site is built without warnings, and its pages load nothing from other hosts."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
LOADS = re.compile(
    r"<(?:script|link|img|iframe|source|video|audio|object|embed)\b[^>]*?\s(?:src|href|data)=[\"']?([^\"' >]+)"
)
STYLE_LOADS = re.compile(r"@import\s+[\"']?([^\"';]+)|url\([\"']?(https?:[^\"')]+|//[^\"')]+)")


def built(config: Path, to: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(to)],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_the_site_is_built_and_loads_nothing_from_other_hosts(tmp_path: Path) -> None:
    done = built(ROOT / "mkdocs.yml", tmp_path)
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 25
    loaded = {target for page in pages for target in LOADS.findall(page.read_text("utf-8"))}
    styles = {
        each
        for file in tmp_path.rglob("*.css")
        for found in STYLE_LOADS.findall(file.read_text("utf-8"))
        for each in found
    }
    assert loaded
    assert [each for each in loaded | styles if re.match(r"(https?:)?//", each)] == []


def test_a_broken_link_or_anchor_fails_the_build(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# Map\n\n[to nothing](nothing.md) [nowhere](#nowhere)\n")
    settings = (ROOT / "mkdocs.yml").read_text("utf-8").partition("nav:")[0]
    settings = settings.replace("hack/docs/hook.py", str(ROOT / "hack/docs/hook.py"))
    (tmp_path / "mkdocs.yml").write_text(settings)
    done = built(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode != 0
    assert "nothing.md" in done.stderr
    assert "nowhere" in done.stderr
