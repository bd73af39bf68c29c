"""`komputer doctor`: prints the findings of `komputer.doctor`."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from komputer.cli.arguments import API, Api, data_dir_option

if TYPE_CHECKING:
    from komputer.doctor.report import Finding

COLOURS = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "dim"}


def doctor(
    kubeconfig: Annotated[
        Path | None,
        typer.Option(envvar="KUBECONFIG", help="Check the cluster that it leads to.", show_default=False),
    ] = None,
    namespace: Annotated[
        str,
        typer.Option("--namespace", "-n", help="Its namespace.  [default: found]", show_default=False),
    ] = "",
    probe: Annotated[bool, typer.Option(help="Start a pod that tries whether NetworkPolicies are enforced.")] = True,
    data_dir: Annotated[Path | None, data_dir_option("Check the platform of this machine.")] = None,
    api: Api = API,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Check the platform, and say how to fix what is wrong.

    On this machine: data directory, parts, model, sandbox, disk, memory, descriptors. On a cluster: versions,
    definitions, rights, Redis, storage, tokens, model, network, clock; it changes nothing, but starts one pod for
    seconds. Without options it checks this machine's platform if there is one, otherwise the cluster of ~/.kube/config.

    Exit code: 0 unless a check failed.

    Example: `komputer doctor --kubeconfig ~/.kube/config`
    """
    from komputer.cli import show
    from komputer.local.datadir import default_path

    def report(finding: "Finding") -> None:
        if not as_json:
            show.print_finding(finding, COLOURS[finding.state])

    local = data_dir or _local(kubeconfig, default_path())
    if local:
        found = asyncio.run(_laptop(local, api, report))
    else:
        found = asyncio.run(_cluster(kubeconfig or Path.home() / ".kube" / "config", namespace, probe, report))
    if as_json:
        show.print_json({"findings": [finding.to_wire() for finding in found]})
    if any(finding.state == "failed" for finding in found):
        raise typer.Exit(1)


def _local(kubeconfig: Path | None, default: Path) -> Path | None:
    """Return the data directory if the options mean this machine's platform; None if they mean a cluster."""
    if kubeconfig is None:
        has_cluster = (Path.home() / ".kube" / "config").exists()
        return default if (default / "komputer.json").exists() or not has_cluster else None
    folder = kubeconfig.absolute().parent
    return folder if kubeconfig.name == "kubeconfig" and (folder / "komputer.json").exists() else None


async def _laptop(data_dir: Path, api: str, report: "Callable[[Finding], None]") -> "list[Finding]":
    from komputer.client import address
    from komputer.doctor import laptop
    from komputer.doctor.report import run

    return await run(laptop.CHECKS, laptop.Machine(data_dir.absolute(), address.normalized(api)), report)


async def _cluster(
    kubeconfig: Path, namespace: str, probe: bool, report: "Callable[[Finding], None]"
) -> "list[Finding]":
    from komputer.doctor import cluster
    from komputer.doctor.report import run
    from komputer.kube import Cluster

    connection = Cluster.connect(kubeconfig)
    try:
        installation = cluster.Installation(connection, kubeconfig, namespace, runs_pods=probe)
        return await run(cluster.CHECKS, installation, report)
    finally:
        await connection.close()


def register(app: typer.Typer) -> None:
    app.command()(doctor)
