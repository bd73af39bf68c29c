"""Puts pages from outside of `docs/` into the documentation site.

Pages link to each other as files of the repository, so that the links work where the repository is viewed. In the site
the files of `OUTSIDE` have another place, and links to them are rewritten. A link to another file of the repository
(source code, a folder) becomes plain text, since the site does not have the file. A link to a file that does not exist
stays as it is, and MkDocs in strict mode fails on it.
"""

import os
import re
from pathlib import Path
from typing import Any, Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).parents[2]
OUTSIDE: Final = {
    "CHANGELOG.md": "project/changelog.md",
    "CODE_OF_CONDUCT.md": "project/code-of-conduct.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "benchmarks/KUBERNETES.md": "project/benchmarks-kubernetes.md",
    "benchmarks/RESULTS.md": "project/benchmarks.md",
    "examples/README.md": "project/examples.md",
}
"""For each file of the repository: its place in the site."""
LINK: Final = re.compile(r"\[(?P<text>[^\]\[]*)\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
FENCE: Final = re.compile(r"^(`{3,}).*?^\1`*\s*$", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    for source, place in OUTSIDE.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    place = page.file.src_uri
    source = next((each for each, to in OUTSIDE.items() if to == place), f"docs/{place}")
    parts, end = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [rewritten(markdown[end : fence.start()], source, place), fence[0]]
        end = fence.end()
    return "".join([*parts, rewritten(markdown[end:], source, place)])


def rewritten(markdown: str, source: str, place: str) -> str:
    """Return the text with its links changed. `source` is the page's file in the repository, `place` its path in the
    site."""

    def link(found: re.Match[str]) -> str:
        target = found["target"]
        if ":" in target or target.startswith("/"):
            return found[0]
        path = os.path.normpath(os.path.join(os.path.dirname(source), target))
        if path.startswith("docs/"):
            to = path.removeprefix("docs/")
        elif path in OUTSIDE:
            to = OUTSIDE[path]
        else:
            return found["text"] if (ROOT / path).exists() else found[0]
        return f"[{found['text']}]({os.path.relpath(to, os.path.dirname(place) or '.')}{found['anchor'] or ''})"

    return LINK.sub(link, markdown)
