"""`komputer volumes`: workspaces of this machine that belong to no agent."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from komputer.cli.arguments import data_dir_option

app = typer.Typer(
    name="volumes",
    help="Workspaces in lost+found of the data directory: list, adopt, delete.",
    no_args_is_help=True,
)
DataDirectory = Annotated[Path | None, data_dir_option("The data directory of `komputer up`.")]


@app.command("list")
def list_volumes(data_dir: DataDirectory = None) -> None:
    """List workspaces that belong to no agent, the newest first."""
    from komputer.local.datadir import existing
    from komputer.local.lost import lost_volumes

    folder = existing(data_dir)
    found = lost_volumes(folder)
    if not found:
        typer.echo(f"no lost volumes in {folder}")
    for volume in found:
        typer.echo(f"{volume.name}\n  was {volume.claim}, changed {volume.changed:%Y-%m-%d %H:%M} UTC, {volume.path}")


@app.command()
def adopt(
    volume: Annotated[str, typer.Argument(help="Its name, as `komputer volumes list` prints it.")],
    agent: Annotated[str, typer.Argument(help="The agent that gets it. It must exist.")],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Of the agent.")] = "default",
    data_dir: DataDirectory = None,
) -> None:
    """Make a lost workspace the workspace of an agent. The agent's own workspace is moved to lost+found.

    Example: `komputer volumes adopt default_ada-pvc_0b61… ada`
    """
    from komputer.kube import Cluster
    from komputer.local.datadir import existing
    from komputer.local.lost import adopt

    folder = existing(data_dir)

    async def run() -> Path:
        cluster = Cluster.connect(folder / "kubeconfig")
        try:
            return await adopt(folder, cluster, volume, agent, namespace)
        finally:
            await cluster.close()

    path = asyncio.run(run())
    typer.echo(f"{agent} has its workspace back: {path}; its pod starts again on it")


@app.command()
def delete(
    volume: Annotated[str, typer.Argument(help="Its name, as `komputer volumes list` prints it.")],
    data_dir: DataDirectory = None,
) -> None:
    """Delete a lost workspace. This cannot be undone."""
    from komputer.local.datadir import existing
    from komputer.local.lost import delete

    delete(existing(data_dir), volume)
    typer.echo(f"{volume} was deleted")


def register(parent: typer.Typer) -> None:
    parent.add_typer(app)
