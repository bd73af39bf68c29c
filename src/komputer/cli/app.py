"""The Typer application with all commands."""

from typing import Any

import typer
import typer.main

from komputer import __version__
from komputer.cli import agents, doctor, platform, serve, volumes

app = typer.Typer(
    name="komputer",
    help="Persistent Claude agents, on this machine or on Kubernetes.\n\n"
    "Begin with `komputer up` in one terminal and `komputer run ada 'Say hello.'` in another.",
    epilog="Exit codes: 0 done, 1 it failed or was refused, 2 wrong usage, 130 cancelled by Ctrl-C.\n\n"
    "Environment: KOMPUTER_API is the API's address, KOMPUTER_TOKEN or KOMPUTER_TOKEN_FILE a token for it.\n\n"
    "Completion of commands and of agents' names: `komputer --install-completion`.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"komputer {__version__}")
        raise typer.Exit


@app.callback()
def top(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Persistent Claude agents."""


agents.register(app)
platform.register(app)
serve.register(app)
volumes.register(app)
doctor.register(app)


def command() -> Any:
    """Return the root command. The options for completion are described in the epilog and hidden in the table, since
    their names are too long for a narrow terminal."""
    found = typer.main.get_command(app)
    for option in found.params:
        if option.name in ("install_completion", "show_completion"):
            option.hidden = True  # type: ignore[attr-defined]
    return found


@app.command("version")
def version() -> None:
    """Print the version."""
    typer.echo(f"komputer {__version__}")
