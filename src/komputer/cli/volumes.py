"""`komputer volumes`: workspaces of the laptop that no agent is known to own."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="volumes",
    help="Workspaces in lost+found of the data directory: list, adopt, delete.",
    no_args_is_help=True,
)
DataDirectory = Annotated[
    Path | None,
    typer.Option(help="Of `komputer up`.  [default: ~/.local/share/komputer]", show_default=False),
]


def _data(path: Path | None) -> Path:
    from komputer.local.datadir import default_path

    return (path or default_path()).absolute()


@app.command("list")
def list_volumes(data_dir: DataDirectory = None) -> None:
    """List workspaces that were found without their claim, the newest first."""
    from komputer.local.lost import lost_volumes

    found = lost_volumes(_data(data_dir))
    if not found:
        typer.echo(f"no lost volumes in {_data(data_dir)}")
    for volume in found:
        typer.echo(f"{volume.name}\n  was {volume.claim}, changed {volume.changed:%Y-%m-%d %H:%M} UTC, {volume.path}")


@app.command()
def adopt(
    volume: Annotated[str, typer.Argument(help="Its name, as `komputer volumes list` prints it.")],
    agent: Annotated[str, typer.Argument(help="The agent that gets it. It must exist.")],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Of the agent.")] = "default",
    data_dir: DataDirectory = None,
) -> None:
    """Make a lost workspace the workspace of an agent. The agent's present one goes to lost+found in its place.

    Example: `komputer volumes adopt default_ada-pvc_0b61… ada`
    """
    from komputer.kube import Cluster
    from komputer.local.lost import adopt

    async def run() -> Path:
        cluster = Cluster.connect(_data(data_dir) / "kubeconfig")
        try:
            return await adopt(_data(data_dir), cluster, volume, agent, namespace)
        finally:
            await cluster.close()

    path = asyncio.run(run())
    typer.echo(f"{agent} has its workspace back: {path}; its pod starts again on it")


@app.command()
def delete(
    volume: Annotated[str, typer.Argument(help="Its name, as `komputer volumes list` prints it.")],
    data_dir: DataDirectory = None,
) -> None:
    """Delete a lost workspace for good."""
    from komputer.local.lost import delete

    delete(_data(data_dir), volume)
    typer.echo(f"{volume} was deleted")


def register(parent: typer.Typer) -> None:
    parent.add_typer(app)
