"""Commands about agents: `run`, `list`, `get`, `events`, `send`, `cancel`, `compact`, `delete`."""

from typing import Annotated

import typer

from komputer.cli import show
from komputer.cli.connection import connected
from komputer.client import ApiError, Client
from komputer.client.client import END_TYPES

EXIT_CODES = {"task_completed": 0, "error": 1, "task_cancelled": 130}

Name = Annotated[str, typer.Argument(help="The agent's name.", show_default=False)]
Api = Annotated[str, typer.Option("--api", envvar="KOMPUTER_API", help="Address of the API.")]
Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="Default: the server's.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
API = "http://127.0.0.1:8080"


def run(
    name: Name,
    instructions: Annotated[str, typer.Argument(help="What to do.", show_default=False)],
    model: Annotated[str | None, typer.Option(help="For example claude-sonnet-4-6.", show_default=False)] = None,
    system_prompt: Annotated[str | None, typer.Option(help="Before the built-in prompt.", show_default=False)] = None,
    template: Annotated[str | None, typer.Option(help="An agent template.", show_default=False)] = None,
    role: Annotated[str | None, typer.Option(help="manager or worker.", show_default=False)] = None,
    api: Api = API,
    namespace: Namespace = None,
    as_json: AsJson = False,
) -> None:
    """Give an agent a task, make it if need be, and follow it to its end.

    Ctrl-C cancels the task; twice leaves it alone. Exit code: 0 completed, 1 error, 130 cancelled.

    Example: `komputer run ada "Write a haiku into haiku.txt"`
    """
    with connected(api, namespace) as client:
        after = client.last_event_id(name)
        fields = {"model": model, "systemPrompt": system_prompt, "templateRef": template, "role": role}
        client.create(name, instructions, namespace=namespace, **fields)
        raise typer.Exit(_follow_to_end(client, name, after, as_json))


def _follow_to_end(client: Client, name: str, after: str, as_json: bool) -> int:
    """Prints the next task of the agent; its exit code."""
    was_cancelled = False
    while True:
        try:
            for event in client.follow(name, after):
                after = event.get("id", after)
                show.print_json(event) if as_json else show.print_event(event)
                if event["type"] in END_TYPES:
                    return EXIT_CODES[event["type"]]
        except KeyboardInterrupt:
            if was_cancelled:
                return 130
            was_cancelled = True
            if not as_json:
                show.console.print("cancelling … (Ctrl-C again leaves it alone)", style="yellow")
            try:
                client.cancel(name)
            except ApiError as refused:
                if refused.code != "idle":
                    raise


def list_agents(api: Api = API, namespace: Namespace = None, as_json: AsJson = False) -> None:
    """List the agents of all namespaces, or of one.

    Example: `komputer list --json`
    """
    with connected(api, namespace) as client:
        agents = client.agents()
    if as_json:
        show.print_json({"agents": agents})
    elif agents:
        show.print_agents(agents, with_namespace=namespace is None)
    else:
        show.console.print("no agents; make one: komputer run ada 'Say hello.'")


def get(name: Name, api: Api = API, namespace: Namespace = None, as_json: AsJson = False) -> None:
    """Show one agent.

    Example: `komputer get ada`
    """
    with connected(api, namespace) as client:
        agent = client.agent(name)
    show.print_json(agent) if as_json else show.print_agent(agent)


def events(
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they happen, until Ctrl-C.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many of the newest.")] = 50,
    types: Annotated[str | None, typer.Option(help="Only these, separated by commas.", show_default=False)] = None,
    api: Api = API,
    namespace: Namespace = None,
    as_json: AsJson = False,
) -> None:
    """Show what an agent did.

    Example: `komputer events ada -f --types text,tool_call`
    """
    with connected(api, namespace) as client:
        after = "0-0"
        for event in client.events(name, limit=limit, types=types):
            after = event["id"]
            show.print_json(event) if as_json else show.print_event(event)
        try:
            for event in client.follow(name, after, types=types) if follow else ():
                show.print_json(event) if as_json else show.print_event(event)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


def send(
    name: Name,
    content: Annotated[str, typer.Argument(metavar="TEXT", help="What to say.", show_default=False)],
    api: Api = API,
    namespace: Namespace = None,
    as_json: AsJson = False,
) -> None:
    """Say something to an agent at work; its model reads it with its next step.

    Example: `komputer send ada "Use tabs, please."`
    """
    with connected(api, namespace) as client:
        answer = client.send(name, content)
    show.print_json(answer) if as_json else show.console.print(f"sent to {name}")


def cancel(name: Name, api: Api = API, namespace: Namespace = None, as_json: AsJson = False) -> None:
    """End an agent's running task; the agent stays.

    Example: `komputer cancel ada`
    """
    with connected(api, namespace) as client:
        answer = client.cancel(name)
    show.print_json(answer) if as_json else show.console.print(f"cancelling the task of {name}")


def compact(
    name: Name,
    instructions: Annotated[str | None, typer.Option(help="What the summary must keep.", show_default=False)] = None,
    api: Api = API,
    namespace: Namespace = None,
    as_json: AsJson = False,
) -> None:
    """Summarise the conversation of an idle agent, and wait for it.

    Ctrl-C cancels it. Exit code: 0 done, 1 error, 130 cancelled.

    Example: `komputer compact ada --instructions "Keep the names of the files."`
    """
    with connected(api, namespace) as client:
        after = client.last_event_id(name)
        client.compact(name, instructions)
        raise typer.Exit(_follow_to_end(client, name, after, as_json))


def delete(
    names: Annotated[list[str], typer.Argument(help="The agents' names.", show_default=False)],
    api: Api = API,
    namespace: Namespace = None,
    as_json: AsJson = False,
) -> None:
    """Delete agents with their files, conversation and events.

    Example: `komputer delete ada bob`
    """
    with connected(api, namespace) as client:
        for name in names:
            answer = client.delete(name)
            show.print_json(answer) if as_json else show.console.print(f"deleted {name}")


def register(app: typer.Typer) -> None:
    app.command()(run)
    app.command("list")(list_agents)
    app.command()(get)
    app.command()(events)
    app.command()(send)
    app.command()(cancel)
    app.command()(compact)
    app.command()(delete)
