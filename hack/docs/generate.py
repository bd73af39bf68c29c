"""Writes the reference pages of the command line, the custom resources and the settings; `--check` compares them.

The text comes from the code: typer's commands, the resource definitions, and the settings of `komputer serve`.
"""

import json
import sys
import textwrap
import types
import typing
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Final

from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from komputer.cli.app import command
from komputer.domain.crds import KINDS, crd
from komputer.serve.processes import Api, GatewayCommand, OfflineModel, Operator

ROOT: Final = Path(__file__).parents[2]
REFERENCE: Final = ROOT / "docs" / "reference"
EXAMPLE: Final = ROOT / "examples" / "agent.yaml"
TEMPLATE: Final = Path(__file__).with_name("configuration.md")
WIDTH: Final = 100
NOTICE: Final = "Generated from {} by `make generated`. Do not edit this page."
LIMITS: Final = {
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "minimum": "at least {}",
    "maximum": "at most {}",
    "pattern": "matches `{}`",
    "format": "format {}",
}
"""The text of each keyword of a schema."""
FORMAT_LIMITS: Final = (-(2**31), 2**31 - 1, -(2**63), 2**63 - 1)
"""Limits that are implied by `format` (int32, int64)."""
SERVED: Final = {"api": Api, "gateway": GatewayCommand, "operator": Operator, "offline-model": OfflineModel}


def cell(value: object) -> str:
    """Return the value as the cell of a table. `<NAME>` outside of code is text, not HTML."""
    parts = str(value).replace("|", "\\|").replace("\n", " ").split("`")
    parts[::2] = (part.replace("<", "&lt;") for part in parts[::2])
    return "`".join(parts)


def table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines)


def wrapped(text: str) -> str:
    """Return the paragraphs of a docstring, wrapped."""
    paragraphs = (" ".join(each.split()) for each in text.split("\n\n"))
    return "\n\n".join(
        textwrap.fill(each, WIDTH, break_long_words=False, break_on_hyphens=False) for each in paragraphs if each
    )


def code(value: object) -> str:
    return f"`{value}`" if value not in (None, "") else ""


# ---- the command line ---------------------------------------------------------------------------------------------
def commands(group: Any, path: str = "komputer") -> Iterator[tuple[str, Any]]:
    for name, each in group.commands.items():
        if hasattr(each, "commands"):
            yield from commands(each, f"{path} {name}")
        else:
            yield f"{path} {name}", each


def option_rows(each: Any) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield name, type, default, variable and description of every option that is shown."""
    for param in each.params:
        if param.param_type_name != "option" or param.hidden or param.name == "help":
            continue
        names = [*sorted(param.opts, key=len, reverse=True), *param.secondary_opts]
        about, _, shown = (param.help or "").partition("  [default: ")
        default = shown.rstrip("]") if shown else default_of(param.default)
        kind = "" if param.is_flag else type_of_param(param)
        variable = code(param.envvar) if isinstance(param.envvar, str) else ""
        yield ", ".join(map(code, names)), kind, code(default), variable, about


def default_of(value: Any) -> str:
    if value is None or value is PydanticUndefined or callable(value):
        return ""
    if isinstance(value, bool):
        return "on" if value else ""
    return str(getattr(value, "value", value))


def type_of_param(param: Any) -> str:
    annotation = param.type_descriptor.annotation
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(code(each.value) for each in annotation)
    if param.min is not None:
        return f"number, {param.min} to {param.max}"
    return type_of(annotation)


def placeholder(argument: Any) -> str:
    return (argument.metavar or argument.name.upper()) + ("..." if argument.nargs == -1 else "")


def cli_page() -> str:
    top = command()
    found = list(commands(top))
    parts = [
        "# The command line",
        wrapped(NOTICE.format("`src/komputer/cli`")),
        "`--help` shows the help of each command. `komputer --version` prints the version. In a checkout of\n"
        "the repository the command is `.venv/bin/komputer`.",
        "## Exit codes",
        table(
            ("code", "meaning"),
            (
                (0, "success; also if the reader of the output closed it early (`| head`)"),
                (1, "failed or refused; the reason is on standard error"),
                (2, "usage error: an unknown option or a missing argument"),
                (130, "cancelled, or interrupted by Ctrl-C"),
            ),
        ),
        "A command with other rules says so below.",
        "## Commands",
        table(("command", ""), ((f"[`{path}`](#{anchor(path)})", summary(each)) for path, each in found)),
    ]
    for path, each in found:
        parts.append("\n\n".join(command_section(path, each)))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def anchor(path: str) -> str:
    return path.replace(" ", "-")


def summary(each: Any) -> str:
    return (each.help or "").split("\n\n")[0].replace("\n", " ").strip()


def command_section(path: str, each: Any) -> Iterator[str]:
    arguments = [param for param in each.params if param.param_type_name == "argument"]
    usage = " ".join(map(placeholder, arguments))
    yield f"### {path}"
    served = path == "komputer serve"
    tail = "PROCESS [OPTIONS]" if served else f"[OPTIONS] {usage}".strip()
    yield f"```text\n{path} {tail}\n```"
    yield wrapped(each.help or "")
    if arguments:
        yield table(("argument", ""), ((code(placeholder(each)), each.help or "") for each in arguments))
    rows = list(option_rows(each))
    if rows:
        yield table(("option", "type", "default", "variable", ""), rows)
    if served:
        yield "The options of each process are in [Configuration](configuration.md#komputer-serve)."


# ---- the custom resources -----------------------------------------------------------------------------------------
def fields(schema: dict[str, Any], path: str) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield path, type, default, limits and description of everything below `schema`."""
    needed = schema.get("required", ())
    for name, part in schema.get("properties", {}).items():
        at = f"{path}.{name}" if path else name
        default = code(json.dumps(part["default"])) if "default" in part else "required" if name in needed else ""
        yield code(at), kind_of(part), default, limits(part), part.get("description", "")
        yield from fields(part, at)
        if part.get("items", {}).get("properties"):
            yield from fields(part["items"], f"{at}[]")


def kind_of(part: dict[str, Any]) -> str:
    if part["type"] == "array":
        return f"list of {kind_of(part['items'])}"
    if part["type"] == "object":
        values = part.get("additionalProperties")
        return f"map of {kind_of(values)}" if isinstance(values, dict) else "object"
    return str(part["type"])


def limits(part: dict[str, Any]) -> str:
    found = [text.format(part[key]) for key, text in LIMITS.items() if part.get(key, ...) not in (..., *FORMAT_LIMITS)]
    if "enum" in part:
        found.insert(0, "one of " + ", ".join(code(json.dumps(each)) for each in part["enum"]))
    if part.get("x-kubernetes-preserve-unknown-fields"):
        found.append("any fields")
    if isinstance(part.get("items"), dict) and (each := limits(part["items"])):
        found.append(f"each: {each}")
    return "; ".join(found)


def resources_page() -> str:
    parts = [
        "# Custom resources",
        wrapped(NOTICE.format("the resource definitions (`src/komputer/domain`)")),
        wrapped(
            "All are of the group `komputer.komputer.ai`, version `v1alpha1`. Clients write `spec`, the operator "
            "writes `status`. On a cluster, `kubectl explain komputeragent.spec` shows the same descriptions."
        ),
        "## A KomputerAgent",
        f"`examples/agent.yaml`:\n\n```yaml\n{EXAMPLE.read_text('utf-8')}```",
        "Apply it with `kubectl apply -f examples/agent.yaml`.",
    ]
    for resource in KINDS:
        manifest = crd(resource)
        names = manifest["spec"]["names"]
        schema = manifest["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        scope = "Namespaced." if manifest["spec"]["scope"] == "Namespaced" else "Cluster-scoped."
        parts += [f"## {names['kind']}", wrapped(f"{schema['description']} {scope} Plural: `{names['plural']}`.")]
        for part in ("spec", "status"):
            if part in schema["properties"]:
                parts += [
                    f"### {names['kind']} {part}",
                    wrapped(schema["properties"][part].get("description", "")),
                    table(("field", "type", "default", "limits", ""), fields(schema["properties"][part], "")),
                ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


# ---- settings -----------------------------------------------------------------------------------------------------
def setting_rows(process: Any) -> Iterator[tuple[str, str, str, str, str]]:
    for name, field in process.model_fields.items():
        flag, alias = f"--{name.replace('_', '-')}", field.validation_alias
        variable = alias.choices[-1] if isinstance(alias, AliasChoices) else f"KOMPUTER_{name.upper()}"
        default = "required" if field.is_required() else code(plain(field.default))
        yield code(flag), code(variable), type_of_field(field), default, field.description or ABOUT.get(name, "")


ABOUT: Final = {
    "port": "port to listen on; 0 picks a free one",
    "log_level": "minimum level of log lines",
    "log_format": "format of log lines",
}
"""Settings without a description of their own."""


def plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value in (None, ()) else str(value)


def type_of_field(field: FieldInfo) -> str:
    return type_of(field.annotation)


def type_of(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return type_of(arguments[0])
    if origin is typing.Literal:
        return ", ".join(code(each) for each in arguments)
    if origin in (typing.Union, types.UnionType):
        return type_of(next(each for each in arguments if each is not type(None)))
    if origin is tuple:
        return "list"
    return {bool: "yes or no", int: "number", str: "text", Path: "path"}[annotation]


def configuration_page() -> str:
    """Return the page: `hack/docs/configuration.md` with the generated tables in the places of `<!-- NAME -->`."""
    ups = next(each for path, each in commands(command()) if path == "komputer up")
    config = next(kind for kind in KINDS if kind.kind_name == "KomputerConfig")
    schema = crd(config)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    up_rows = [(name, kind, default, about) for name, kind, default, _, about in option_rows(ups)]
    served = [
        f"### komputer serve {name}\n\n{wrapped(process.__doc__)}\n\n"
        + table(("option", "variable", "type", "default", ""), setting_rows(process))
        for name, process in SERVED.items()
    ]
    return (
        TEMPLATE.read_text("utf-8")
        .replace("<!-- up -->", table(("option", "type", "default", ""), up_rows))
        .replace("<!-- serve -->", "\n\n".join(served))
        .replace("<!-- config -->", table(("field", "type", "default", "limits", ""), fields(schema, "")))
    )


def main() -> int:
    wanted = {
        REFERENCE / "cli.md": cli_page(),
        REFERENCE / "resources.md": resources_page(),
        REFERENCE / "configuration.md": configuration_page(),
    }
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} does not match the code: run make generated", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(wanted[path], "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
