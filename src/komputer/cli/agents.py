"""Commands about agents: `run`, `list`, `get`, `events`, `send`, `cancel`, `compact`, `delete`."""

from typing import Annotated, Any

import typer

from komputer.cli import show
from komputer.cli.arguments import (
    API,
    Api,
    AsJson,
    Name,
    Names,
    Namespace,
    OneNamespace,
    Timestamps,
    Verbose,
    text_or_stdin,
)
from komputer.cli.blockers import Blockers
from komputer.cli.connection import connected
from komputer.client import AgentDeleted, ApiError, Client
from komputer.client.client import END_TYPES

EXIT_CODES = {"task_completed": 0, "error": 1, "task_cancelled": 130}


def run(
    name: Name,
    instructions: Annotated[
        str, typer.Argument(help="What to do; - reads it from standard input.", show_default=False)
    ],
    model: Annotated[str | None, typer.Option(help="Model, such as claude-sonnet-4-6.", show_default=False)] = None,
    system_prompt: Annotated[
        str | None, typer.Option(help="Text before the built-in system prompt.", show_default=False)
    ] = None,
    template: Annotated[str | None, typer.Option(help="An agent template.", show_default=False)] = None,
    role: Annotated[str | None, typer.Option(help="manager or worker.", show_default=False)] = None,
    api: Api = API,
    namespace: Namespace = None,
    verbose: Verbose = False,
    timestamps: Timestamps = False,
    as_json: AsJson = False,
) -> None:
    """Give an agent a task and follow it to its end. An agent that does not exist is created.

    Ctrl-C cancels the task; a second one stops following it. Exit code: 0 completed, 1 error, 130 cancelled.

    Example: `komputer run ada "Write a haiku into haiku.txt"`
    """
    task = text_or_stdin(instructions)
    with connected(api, namespace) as client:
        before = client.last_event(name)
        fields = {"model": model, "systemPrompt": system_prompt, "templateRef": template, "role": role}
        answer = client.create(name, task, namespace=namespace, **fields)
        for warning in answer.get("warnings") or ():
            show.print_note(f"note: {warning}", as_json)
        raise typer.Exit(Following(client, name, before, as_json, verbose, timestamps).to_end())


class Following:
    """Follows the next task of an agent and prints its events. `before` is the newest event before the assignment."""

    def __init__(
        self, client: Client, name: str, before: dict[str, Any] | None, as_json: bool, verbose: bool, timestamps: bool
    ) -> None:
        self._client, self._name, self._as_json = client, name, as_json
        self._verbose, self._timestamps = verbose, timestamps or verbose
        self._after = before["id"] if before else "0-0"
        is_open = before is not None and before["type"] not in END_TYPES
        self._old_task = before["payload"].get("task_id") if before and is_open else None
        self._is_cancelled = False

    def to_end(self) -> int:
        """Return the exit code for the task's end."""

        def tell(sentence: str) -> None:
            show.print_note(f"… {sentence}", self._as_json)

        try:
            with Blockers(self._client, self._name, tell):
                while True:
                    try:
                        return self._followed()
                    except KeyboardInterrupt:
                        if self._is_cancelled:
                            return 130
                        self._is_cancelled = True
                        show.print_note("cancelling … (Ctrl-C again stops following)", self._as_json)
                        self._cancel()
        except ApiError as failed:
            if failed.status == 404:
                raise AgentDeleted(self._name) from failed
            raise

    def _followed(self) -> int:
        for event in self._client.follow(self._name, self._after):
            self._after = event.get("id", self._after)
            if self._old_task and event.get("payload", {}).get("task_id") == self._old_task:
                continue  # the previous task, which ended between the two requests
            if self._as_json:
                show.print_json(event)
            else:
                show.print_event(event, verbose=self._verbose, timestamps=self._timestamps)
            if event["type"] in END_TYPES:
                return EXIT_CODES[event["type"]]
        raise AssertionError("the stream ended before the task")

    def _cancel(self) -> None:
        try:
            self._client.cancel(self._name)
        except ApiError as refused:
            if refused.code != "idle":
                raise


def list_agents(api: Api = API, namespace: OneNamespace = None, as_json: AsJson = False) -> None:
    """List the agents of all namespaces, or of one.

    Example: `komputer list --json`
    """
    with connected(api, namespace) as client:
        agents = client.agents()
    if as_json:
        show.print_json({"agents": agents})
    elif agents:
        show.print_agents(agents)
    else:
        show.print_line("no agents; create one: komputer run ada 'Say hello.'")


def get(name: Name, api: Api = API, namespace: Namespace = None, as_json: AsJson = False) -> None:
    """Show one agent.

    Example: `komputer get ada`
    """
    with connected(api, namespace) as client:
        agent = client.agent(name)
    show.print_json(agent) if as_json else show.print_agent(agent)


def events(
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow new events until Ctrl-C.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Number of newest events.")] = 50,
    types: Annotated[
        str | None, typer.Option(help="Only these types, separated by commas.", show_default=False)
    ] = None,
    api: Api = API,
    namespace: Namespace = None,
    verbose: Verbose = False,
    timestamps: Timestamps = False,
    as_json: AsJson = False,
) -> None:
    """Show what an agent did.

    Exit code of `--follow`: 1 when the agent is deleted, 130 after Ctrl-C.

    Example: `komputer events ada -f --types text,tool_call`
    """

    def tell(event: dict[str, Any]) -> None:
        if as_json:
            show.print_json(event)
        else:
            show.print_event(event, verbose=verbose, timestamps=timestamps or verbose)

    def note(sentence: str) -> None:
        show.print_note(f"… {sentence}", as_json)

    with connected(api, namespace) as client:
        after = "0-0"
        for event in client.events(name, limit=limit, types=types):
            after = event["id"]
            tell(event)
        try:
            for event in client.follow(name, after, types=types, tell=note) if follow else ():
                tell(event)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except ApiError as failed:
            if failed.status == 404:
                raise AgentDeleted(name) from failed
            raise


def send(
    name: Name,
    content: Annotated[
        str,
        typer.Argument(metavar="TEXT", help="Text of the message; - reads it from standard input.", show_default=False),
    ],
    api: Api = API,
    namespace: Namespace = None,
    as_json: AsJson = False,
) -> None:
    """Send a message to an agent at work. Its model reads it with its next step.

    Example: `komputer send ada "Use tabs, please."`
    """
    with connected(api, namespace) as client:
        answer = client.send(name, text_or_stdin(content))
    show.print_json(answer) if as_json else show.print_line(f"sent to {name}")


def cancel(name: Name, api: Api = API, namespace: Namespace = None, as_json: AsJson = False) -> None:
    """Cancel the running task of an agent. The agent is kept.

    Example: `komputer cancel ada`
    """
    with connected(api, namespace) as client:
        answer = client.cancel(name)
    show.print_json(answer) if as_json else show.print_line(f"cancelling the task of {name}")


def compact(
    name: Name,
    instructions: Annotated[str | None, typer.Option(help="What the summary must keep.", show_default=False)] = None,
    api: Api = API,
    namespace: Namespace = None,
    as_json: AsJson = False,
) -> None:
    """Summarise the conversation of an idle agent, and wait for the end.

    Ctrl-C cancels it. Exit code: 0 done, 1 error, 130 cancelled.

    Example: `komputer compact ada --instructions "Keep the names of the files."`
    """
    with connected(api, namespace) as client:
        before = client.last_event(name)
        client.compact(name, instructions)
        raise typer.Exit(Following(client, name, before, as_json, verbose=False, timestamps=False).to_end())


def delete(names: Names, api: Api = API, namespace: Namespace = None, as_json: AsJson = False) -> None:
    """Delete agents with their files, conversation and events.

    Exit code: 0 if all were deleted, 1 if one was not. The others are deleted in any case.

    Example: `komputer delete ada bob`
    """
    failures = 0
    with connected(api, namespace) as client:
        for name in names:
            try:
                answer = client.delete(name)
            except ApiError as refused:
                if len(names) == 1 or refused.status == 0:
                    raise
                failures += 1
                show.print_error(refused.message, refused.code, as_json)
            else:
                show.print_json(answer) if as_json else show.print_line(f"deleted {name}")
    if failures:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    app.command()(run)
    app.command("list")(list_agents)
    app.command()(get)
    app.command()(events)
    app.command()(send)
    app.command()(cancel)
    app.command()(compact)
    app.command()(delete)
