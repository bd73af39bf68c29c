"""`komputer serve`: runs one process of the platform, as the chart does."""

import typer


def serve(context: typer.Context) -> None:
    """Run one process of the platform, as the Helm chart does: `api`, `gateway`, `operator` or `offline-model`.

    Each flag is also an environment variable: `--redis-url` is `KOMPUTER_REDIS_URL`. See `komputer serve api --help`.

    Example: `komputer serve api --redis-url redis://localhost:6379 --kubeconfig ~/.kube/config`
    """
    from komputer.serve.main import main

    if context.args in ([], ["--help"]):
        typer.echo(context.get_help())
        raise typer.Exit(0 if context.args else 2)
    raise typer.Exit(main(context.args))


def register(app: typer.Typer) -> None:
    # The arguments, --help included, are parsed by the settings of each process.
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})(
        serve
    )
