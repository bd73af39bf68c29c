"""Commands for the platform of this machine: `up`, `repair`, `offline-model`."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from komputer.cli.arguments import data_dir_option


class SandboxChoice(StrEnum):
    AUTO = "auto"
    BUBBLEWRAP = "bubblewrap"
    NONE = "none"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


def up(
    host: Annotated[str, typer.Option(help="Loopback address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8080,
    data_dir: Annotated[Path | None, data_dir_option("Directory of all data.")] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Use the built-in offline model, even with a key.")
    ] = False,
    sandbox: Annotated[SandboxChoice, typer.Option(help="Sandbox of agents' processes.")] = SandboxChoice.AUTO,
    log_level: Annotated[LogLevel, typer.Option(help="For the files in DATA_DIR/logs.")] = LogLevel.INFO,
    log_format: Annotated[LogFormat, typer.Option(help="For the files in DATA_DIR/logs.")] = LogFormat.TEXT,
    compat_create_status: Annotated[
        int | None,
        typer.Option(
            min=200,
            max=202,
            help="HTTP status of every accepted POST /agents; published SDKs expect 200.",
            metavar="200",
        ),
    ] = None,
) -> None:
    """Run the whole platform on this machine until Ctrl-C.

    The model's credential comes from ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN (address: ANTHROPIC_BASE_URL). Without
    one the built-in offline model answers.

    Example: `komputer up --port 0 --data-dir /tmp/try --offline`
    """
    from komputer.local.platform import Options
    from komputer.local.up import up

    raise typer.Exit(
        up(
            Options(
                host,
                port,
                data_dir,
                offline,
                sandbox.value,
                log_level.value,
                log_format.value,
                create_status=compat_create_status,
            )
        )
    )


def offline_model(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8099,
) -> None:
    """Serve only the offline model, for any client of the Messages API.

    Example: `komputer offline-model --port 8099`, then point ANTHROPIC_BASE_URL at it.
    """
    from komputer import offline
    from komputer.domain.errors import Conflict

    try:
        offline.serve(port, ready=lambda taken: typer.echo(f"http://127.0.0.1:{taken}"))
    except OSError as wrong:
        why = os.strerror(wrong.errno or 0)  # asyncio's own text repeats the address
        raise Conflict(
            f"cannot listen on 127.0.0.1:{port} ({why}); choose another with --port, 0 takes a free one"
        ) from wrong


def repair(
    data_dir: Annotated[Path | None, data_dir_option("Directory to repair.")] = None,
) -> None:
    """Check the data directory of a stopped platform and repair what is damaged.

    Prints what was found and lost, and keeps a copy of each damaged file. An undamaged directory is not changed.

    Example: `komputer repair --data-dir /tmp/try`
    """
    from komputer.local.repair import repair
    from komputer.local.terminal import tell

    repair(data_dir, tell)


def register(app: typer.Typer) -> None:
    app.command()(up)
    app.command()(repair)
    app.command("offline-model")(offline_model)
