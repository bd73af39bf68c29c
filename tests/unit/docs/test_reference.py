"""The generated reference is complete, and its example is valid."""

import re
from pathlib import Path
from typing import Any

import yaml

from komputer.cli.app import command
from komputer.domain.agent import Agent, AgentSpec
from komputer.domain.crds import KINDS, crd
from komputer.local.apiserver.schema import conform, faults

ROOT = Path(__file__).parents[3]
REFERENCE = ROOT / "docs" / "reference"


def schema_of(manifest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def test_the_example_of_an_agent_is_on_the_page_and_valid() -> None:
    text = (ROOT / "examples/agent.yaml").read_text("utf-8")
    assert f"```yaml\n{text}```" in (REFERENCE / "resources.md").read_text("utf-8")
    with_references = text.replace("# connectors", "connectors").replace("# secrets", "secrets")
    for given in (text, with_references):
        manifest = yaml.safe_load(given)
        unknown: list[str] = []
        whole = conform(manifest, schema_of(crd(Agent)), unknown)
        assert (unknown, faults(whole, schema_of(crd(Agent)))) == ([], [])
        assert Agent.model_validate(whole).spec.model == "claude-sonnet-4-6"
    ignored = {AgentSpec.model_fields[field].alias for field in Agent.ignored_fields}
    set_by_others = {"officeManager", "secretsUID", "task", "cancelTaskID", *ignored}
    assert manifest["spec"].keys() == schema_of(crd(Agent))["properties"]["spec"]["properties"].keys() - set_by_others


def test_every_field_of_every_definition_is_on_the_page() -> None:
    page = (REFERENCE / "resources.md").read_text("utf-8")
    for kind in KINDS:
        for part in ("spec", "status"):
            names = schema_of(crd(kind))["properties"].get(part, {}).get("properties", {})
            section = page.partition(f"### {kind.kind_name} {part}\n")[2].partition("\n#")[0]
            assert [name for name in names if f"| `{name}` |" not in section] == []


def test_every_command_and_option_is_on_the_page() -> None:
    page = (REFERENCE / "cli.md").read_text("utf-8")
    for path, each in commands(command(), "komputer"):
        section = page.partition(f"### {path}\n")[2].partition("\n### ")[0]
        options = [name for param in each.params for name in param.opts if name.startswith("--") and name != "--help"]
        assert section, path
        assert [name for name in options if f"`{name}`" not in section] == []


def commands(group: Any, path: str) -> list[tuple[str, Any]]:
    if not hasattr(group, "commands"):
        return [(path, group)]
    return [found for name, each in group.commands.items() for found in commands(each, f"{path} {name}")]


def test_every_page_says_that_it_is_generated() -> None:
    for name in ("cli", "resources", "configuration"):
        assert re.search(r"Generated from .*`make generated`", (REFERENCE / f"{name}.md").read_text("utf-8"))
