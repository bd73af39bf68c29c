"""A manager's tools: names, arguments and purposes. The docstrings and descriptions are text for the model."""

from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from komputer.domain import names
from komputer.domain.agent import INSTRUCTIONS_LIMIT_BYTES, PROMPT_LIMIT_BYTES, Model, Role, is_model_alias
from komputer.http.validation import explain


def _agent_name(value: str) -> str:
    if not names.is_agent_name(value):
        raise ValueError("must be 1 to 63 lower-case letters, digits and hyphens, the first and last not a hyphen")
    return value


def _within(limit_bytes: int) -> AfterValidator:
    def check(value: str) -> str:
        if len(value.encode(errors="surrogatepass")) > limit_bytes:
            raise ValueError(f"is longer than {limit_bytes // 1024} KiB")
        value.encode()
        return value

    return AfterValidator(check)


def _no_alias(value: str) -> str:
    if is_model_alias(value):
        raise ValueError("is an alias; write the model's id, for example claude-sonnet-4-6")
    return value


Name = Annotated[str, AfterValidator(_agent_name), Field(description="The agent's name.")]
Task = Annotated[str, Field(min_length=1, max_length=64, description="As create_agent and assign_task answered it.")]
Instructions = Annotated[
    str,
    _within(INSTRUCTIONS_LIMIT_BYTES),
    Field(min_length=1, pattern=r"\S", description="The whole task: the agent knows nothing else of your work."),
]


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CreateAgentArguments(Arguments):
    """Make an agent of your own and give it its first task, on which it starts at once. It has a workspace of its own,
    keeps its conversation for later tasks, and sees neither your files nor your conversation. Answers with the task's
    id. It never has more than you: your connectors at most, your tools, no secrets."""

    name: Annotated[str, AfterValidator(_agent_name), Field(description="Lower-case letters, digits and hyphens.")]
    instructions: Instructions
    role: Annotated[Role, Field(description="A manager can make agents of its own; prefer workers.")] = "worker"
    model: Annotated[
        Annotated[Model, AfterValidator(_no_alias)] | None, Field(description="Its id; yours if left out.")
    ] = None
    system_prompt: Annotated[
        str | None, _within(PROMPT_LIMIT_BYTES), Field(description="Put before its built-in prompt, for every task.")
    ] = None
    connectors: Annotated[
        list[str], Field(max_length=64, description="Of yours, those that it needs; none if left out.")
    ] = Field(default_factory=list)


class AssignTask(Arguments):
    """Give the next task to an agent of yours that is idle. It remembers its earlier tasks. Answers with the task's
    id."""

    agent: Name
    instructions: Instructions


class GetAgent(Arguments):
    """One agent of your namespace as it is now: status, what it does, how its last task went."""

    agent: Name


class ListAgents(Arguments):
    """All agents of your namespace; `is_yours` marks those that you made."""


class GetAgentEvents(Arguments):
    """What an agent did last, oldest first: what it said, its tool calls and their results."""

    agent: Name
    limit: Annotated[int, Field(ge=1, le=200)] = 20
    before: Annotated[str | None, Field(max_length=40, description="An event's id: those before it.")] = None


class Awaited(Arguments):
    agent: Name
    task_id: Annotated[Task | None, Field(description="The task it was given last, if left out.")] = None


class WaitForAgents(Arguments):
    """Wait until each of these agents has ended its task, however long that takes, and get every result. Ask again for
    what you have asked before and you get the same answer: results stay."""

    agents: Annotated[
        list[Name | Awaited], Field(min_length=1, max_length=64, description="Names, or names with a task's id.")
    ]


class CancelTask(Arguments):
    """End the running task of an agent of yours. The agent stays for the next one."""

    agent: Name
    task_id: Annotated[Task | None, Field(description="Only this one, if given.")] = None


class DeleteAgent(Arguments):
    """Delete an agent of yours with its workspace and the agents that it made. What it should leave behind must have
    been handed over before."""

    agent: Name


class ListConnectors(Arguments):
    """The connectors of your namespace; `is_yours` marks those that you have and may give on."""


TOOLS: Final[dict[str, type[Arguments]]] = {
    "create_agent": CreateAgentArguments,
    "assign_task": AssignTask,
    "get_agent": GetAgent,
    "list_agents": ListAgents,
    "get_agent_events": GetAgentEvents,
    "wait_for_agents": WaitForAgents,
    "cancel_task": CancelTask,
    "delete_agent": DeleteAgent,
    "list_connectors": ListConnectors,
}


def schema(tool: type[Arguments]) -> dict[str, Any]:
    return {key: value for key, value in tool.model_json_schema().items() if key != "description"}


def explained(wrong: ValidationError) -> str:
    """Return the first fault as a sentence for the model."""
    errors = wrong.errors(include_url=False)
    sentence, _ = explain([{**errors[0], "loc": errors[0]["loc"] or ("arguments",)}])
    return f"{sentence} (invalid)"
