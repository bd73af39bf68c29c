"""`komputer doctor`: is an installation on a cluster as it should be, and if not, what to do."""

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer

COLOURS = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "dim"}


def doctor(
    kubeconfig: Annotated[
        Path | None, typer.Option(envvar="KUBECONFIG", help="Default: ~/.kube/config.", show_default=False)
    ] = None,
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Where it is installed. Empty: looked for.")] = "",
    probe: Annotated[bool, typer.Option(help="Run a pod that tries whether NetworkPolicies are enforced.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Look at the platform on a cluster: versions, definitions, rights, Redis, storage, tokens, model, network, clock.

    Changes nothing but for one short-lived pod. Exit code: 0 unless something failed.

    Example: `komputer doctor --kubeconfig ~/.kube/config`
    """
    from komputer.cli.show import console
    from komputer.kube import Cluster
    from komputer.serve.doctor import Doctor, Finding

    def told(finding: "Finding") -> None:
        if as_json:
            return
        state = f"[{COLOURS[finding.state]}]{finding.state:<8}[/]"
        console.print(f"{state} [bold]{finding.check}[/]: {finding.said}", highlight=False)
        if finding.do:
            console.print(f"          → {finding.do}", highlight=False)

    async def look() -> "list[Finding]":
        path = kubeconfig or Path.home() / ".kube" / "config"
        cluster = Cluster.connect(path)
        try:
            return await Doctor(cluster, path, namespace, probes=probe).findings(told)
        finally:
            await cluster.close()

    found = asyncio.run(look())
    if as_json:
        answer: dict[str, Any] = {"findings": [finding.to_wire() for finding in found]}
        typer.echo(json.dumps(answer))
    if any(finding.state == "failed" for finding in found):
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    app.command()(doctor)
