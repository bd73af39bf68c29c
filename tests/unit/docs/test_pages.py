"""The pages are complete, their links lead somewhere, and the commands that they name exist."""

import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from komputer.cli.app import command
from komputer.operator.agent.endings import CODES, WITHOUT_DEADLINE
from komputer.protocol.wire import AppendResult

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
PAGES = [*DOCS.rglob("*.md"), *ROOT.glob("*.md"), ROOT / "examples/README.md", *ROOT.glob("benchmarks/*.md")]
UNWRAPPED = ("docs/reference/values.md", "benchmarks/RESULTS.md", "benchmarks/KUBERNETES.md")
"""Generated pages whose lines are not wrapped."""
INTERNAL = {
    "KOMPUTER_CREDENTIAL_FD": "from `komputer up` to itself",
    "KOMPUTER_MODEL_ADDRESS": "from `komputer up` to itself",
    "KOMPUTER_CREDENTIAL_PROBLEM": "from `komputer up` to itself",
    "KOMPUTER_VARIABLE_UNUSED": "from `komputer up` to itself",
    "KOMPUTER_CLAUDE": "from the runtime to Claude's launcher",
    "KOMPUTER_AGENT": "from the operator to a pod",
    "KOMPUTER_NAMESPACE": "from the operator to a pod",
    "KOMPUTER_GATEWAY_URL": "from the operator to a pod",
    "KOMPUTER_WORKSPACE": "from the operator to a pod",
    "KOMPUTER_POD_FOLDER": "from the laptop's kubelet to a pod",
}
"""Variables that nobody outside sets, and who sets them."""
FENCE = re.compile(r"^(`{3,}).*?^\1`*[ ]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]\[]*\]\(([^)\s]+)\)")
CODE_SPAN = re.compile(r"`([^`\n]+)`")


@cache
def prose(page: Path) -> str:
    """Return the page without its fenced blocks."""
    return FENCE.sub("", page.read_text("utf-8"))


def links(page: Path) -> list[str]:
    return LINK.findall(CODE_SPAN.sub("`…`", prose(page)))


@cache
def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings. Of two equal headings only the first has one that works both in the
    repository's view and in the site."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        text = LINK.sub(lambda link: link[0][1 : link[0].index("]")], heading)
        found.add(re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page: Path) -> None:
    broken = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        if ":" in path:
            continue
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


class _Loader(yaml.SafeLoader):
    """Reads mkdocs.yml without building the objects that it names."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def test_every_page_is_in_the_navigation_and_the_map_leads_to_each_page_of_docs() -> None:
    config = yaml.load((ROOT / "mkdocs.yml").read_text("utf-8"), _Loader)
    listed = [place for place in leaves(config["nav"]) if not place.startswith("project/")]
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))
    linked = {target.partition("#")[0] for target in links(DOCS / "index.md")}
    assert {place for place in listed if place != "index.md"} <= linked


def leaves(node: Any) -> list[str]:
    if isinstance(node, str):
        return [node]
    return [leaf for each in (node.values() if isinstance(node, dict) else node) for leaf in leaves(each)]


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.relative_to(ROOT).as_posix() not in UNWRAPPED],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_the_prose_of_a_page_is_wrapped_at_100_columns(page: Path) -> None:
    lines = prose(page).splitlines()
    assert [line for line in lines if len(line) > 100 and not line.startswith("|")] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_source_file_that_a_page_names_exists(page: Path) -> None:
    missing = []
    for span in CODE_SPAN.findall(prose(page)):
        if re.fullmatch(r"[\w-]+(/[\w.-]+)*/?", span) and "/" in span:
            top = span.partition("/")[0]
            roots = [root for root in (ROOT, ROOT / "src/komputer") if (root / top).is_dir()]
            if roots and not any((root / span).exists() for root in roots):
                missing.append(span)
    assert missing == []


def test_the_architecture_page_describes_every_package() -> None:
    page = (DOCS / "architecture.md").read_text("utf-8")
    packages = [path.parent.name for path in (ROOT / "src/komputer").glob("*/__init__.py")]
    assert len(packages) > 10
    assert [name for name in packages if f"\n| `{name}` |" not in page] == []


def test_the_architecture_page_explains_each_answer_of_the_event_log() -> None:
    page = (DOCS / "architecture.md").read_text("utf-8")
    assert [answer for answer in get_args(AppendResult) if f"| `{answer}` |" not in page] == []


# ---- commands -----------------------------------------------------------------------------------------------------
def named_commands(page: Path) -> list[str]:
    """Return the commands of a page that begin with one of our programs: in code spans and at the begin of a line."""
    text = page.read_text("utf-8")
    blocks = [line.removeprefix("$ ").strip() for block in FENCE.finditer(text) for line in block[0].splitlines()]
    spans = CODE_SPAN.findall(prose(page).replace("\\|", "|"))
    found = [each.removeprefix(".venv/bin/") for each in (*spans, *blocks)]
    return [each for each in found if re.match(r"(komputer|make|hack/\S+|python3 hack/\S+)( |$)", each)]


@pytest.mark.parametrize(
    "name", ["troubleshooting", "quickstart", "release", "compatibility", "reference/configuration"]
)
def test_every_command_that_a_page_names_exists(name: str) -> None:
    found = named_commands(DOCS / f"{name}.md")
    assert found
    assert [each for each in found if not exists(shlex.split(each.replace("'", ""), comments=True))] == []


def exists(words: list[str]) -> bool:
    if words[0] == "make":
        targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        return all(word in targets for word in words[1:] if "=" not in word)
    if words[0] != "komputer":
        return (ROOT / words[-1]).exists()
    at: Any = command()
    rest = words[1:]
    while rest and hasattr(at, "commands"):
        if rest[0] not in at.commands:
            return False
        at, rest = at.commands[rest[0]], rest[1:]
    if at.name == "serve":
        return not rest or rest[0] in ("*", "api", "gateway", "operator", "offline-model")
    options = {name: param for param in at.params for name in (*param.opts, *param.secondary_opts)}
    given = [word for word in rest if word.startswith("-") and word != "-"]
    return all(word in options or word in ("-h", "--help") for word in given)


def test_the_troubleshooting_page_has_each_reason_why_a_task_cannot_start_and_its_code() -> None:
    rows = re.findall(r"^\| (`[A-Z]\w+`(?:, `\w+`)*) \| ([^|]+) \|", prose(DOCS / "troubleshooting.md"), re.MULTILINE)
    told = {reason.strip("`"): code.strip().strip("`") for reasons, code in rows for reason in reasons.split(", ")}
    assert told.keys() == CODES.keys()
    assert {reason: code for reason, code in told.items() if reason not in WITHOUT_DEADLINE} == {
        reason: code for reason, code in CODES.items() if reason not in WITHOUT_DEADLINE
    }


def test_every_variable_that_the_code_reads_is_on_the_configuration_page() -> None:
    page = (DOCS / "reference/configuration.md").read_text("utf-8")
    read = set()
    for file in (ROOT / "src").rglob("*"):
        if file.suffix in (".py", ".sh"):
            read |= set(re.findall(r"\bKOMPUTER_[A-Z][A-Z_]*[A-Z]\b", file.read_text("utf-8")))
    assert {name for name in read if f"`{name}`" not in page} == INTERNAL.keys() & read
    assert INTERNAL.keys() <= read
