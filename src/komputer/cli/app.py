"""All commands, gathered."""

import typer

from komputer import __version__
from komputer.cli import agents, doctor, platform, serve, volumes

app = typer.Typer(
    name="komputer",
    help="Persistent Claude agents, on this machine or on Kubernetes.\n\n"
    "Begin with `komputer up` in one terminal and `komputer run ada 'Say hello.'` in another.",
    no_args_is_help=True,
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
