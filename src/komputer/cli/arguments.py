"""Arguments and options that several commands share."""

import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from komputer.cli.connection import connected
from komputer.client import ApiError
from komputer.client.address import DEFAULT, VARIABLE

COMPLETION_TIMEOUT_S: Final = 2.0
STDIN_LIMIT_BYTES: Final = 1024 * 1024
"""The largest request that the API accepts."""
API: Final = DEFAULT


def agent_names(context: typer.Context, incomplete: str) -> list[str]:
    """Return the names of agents that begin with `incomplete`, for the shell; none if the API does not answer."""
    try:
        api, namespace = context.params.get("api") or API, context.params.get("namespace")
        with connected(api, namespace, timeout_s=COMPLETION_TIMEOUT_S) as client:
            return sorted({agent["name"] for agent in client.agents() if agent["name"].startswith(incomplete)})
    except ApiError:
        return []


def text_or_stdin(value: str) -> str:
    """Return the argument, or for `-` the text of standard input. Raises `typer.BadParameter` if that is no text."""
    if value != "-":
        return value
    given = sys.stdin.buffer.read(STDIN_LIMIT_BYTES + 1) if sys.stdin else b""
    if len(given) > STDIN_LIMIT_BYTES:
        raise typer.BadParameter("standard input has more than 1 MiB, which is the limit of the API")
    try:
        found = given.decode("utf-8").strip()
    except UnicodeDecodeError as wrong:
        raise typer.BadParameter(f"standard input is not UTF-8 text (at byte {wrong.start})") from wrong
    if not found:
        raise typer.BadParameter("standard input is empty")
    return found


def folder(value: str) -> Path:
    """Return the path that an option names. Raises `typer.BadParameter` for an empty one, which most often is an unset
    variable of the shell: `Path` would take it for the current directory."""
    if not value:
        raise typer.BadParameter("the path is empty")
    return Path(value)


def data_dir_option(help_text: str) -> Any:
    """Return the option `--data-dir` of a command."""
    default = "  [default: ~/.local/share/komputer]"
    return typer.Option("--data-dir", parser=folder, metavar="PATH", help=help_text + default, show_default=False)


Name = Annotated[str, typer.Argument(help="The agent's name.", show_default=False, autocompletion=agent_names)]
Names = Annotated[list[str], typer.Argument(help="The agents' names.", show_default=False, autocompletion=agent_names)]
Api = Annotated[
    str, typer.Option("--api", envvar=VARIABLE, help="Address of the API; scheme and /api/v1 may be left out.")
]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", help="Namespace of the agent.  [default: the server's]", show_default=False),
]
OneNamespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", help="Only agents of this one.  [default: all namespaces]", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show everything in full, with times.")]
Timestamps = Annotated[bool, typer.Option("--timestamps", "-t", help="Show when each event happened.")]
