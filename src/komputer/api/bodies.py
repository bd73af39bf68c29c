"""What clients send and get: JSON bodies, checked at the border."""

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from komputer.resources import names
from komputer.resources.agent import INSTRUCTIONS_LIMIT_BYTES, PROMPT_LIMIT_BYTES, Model, Role
from komputer.resources.errors import Invalid

NOT_BUILT_YET = (
    "allowedTools",
    "archiveTTL",
    "budgetUSD",
    "deleteTTL",
    "disallowedTools",
    "effort",
    "labels",
    "lifecycle",
    "memories",
    "officeManager",
    "podSpec",
    "priority",
    "removeLabels",
    "secretRefs",
    "secrets",
    "skills",
    "sleepTTL",
    "storage",
    "taskBudgetUSD",
    "taskTimeout",
)
"""Fields that published clients know and that have no effect yet: refused, so that nobody believes they had one."""


def _text(value: Any) -> Any:
    """Text that UTF-8 can hold: a lone surrogate cannot be stored, sent or shown."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("is not valid Unicode text (it has a lone surrogate)") from None
    return value


def within(limit_bytes: int) -> BeforeValidator:
    def check(value: Any) -> Any:
        if isinstance(_text(value), str) and len(value.encode()) > limit_bytes:
            raise ValueError(f"is longer than {limit_bytes // 1024} KiB")
        return value

    return BeforeValidator(check)


def _agent_name(value: Any) -> Any:
    if isinstance(value, str) and not names.is_agent_name(value):
        raise ValueError("must be 1 to 63 lower-case letters, digits and hyphens, not beginning or ending with one")
    return value


def _template_name(value: Any) -> Any:
    if isinstance(value, str) and not all(names.is_agent_name(part) for part in value.split(".")):
        raise ValueError("must be the name of a template: lower-case letters, digits, hyphens and dots")
    return value


Name = Annotated[str, BeforeValidator(_agent_name)]
TemplateRef = Annotated[str, BeforeValidator(_template_name), Field(max_length=253)]
Instructions = Annotated[str, within(INSTRUCTIONS_LIMIT_BYTES), Field(min_length=1, pattern=r"\S")]
SystemPrompt = Annotated[str, within(PROMPT_LIMIT_BYTES)]


class Body(BaseModel):
    """camelCase, strict types; unknown fields are ignored. A null is an absent field."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow", strict=True)

    def refuse_what_is_not_built(self) -> None:
        """Raises `Invalid` (`not-supported`) for a field of the contract that would be ignored otherwise."""
        for field in NOT_BUILT_YET:
            if (self.model_extra or {}).get(field) not in (None, "", 0, [], {}):
                raise Invalid(
                    f"{field} is not supported by this version; leave it out", code="not-supported", field=field
                )


class CreateAgent(Body):
    """`POST /agents`: a new agent, or the next task of one that exists."""

    name: Name
    instructions: Instructions
    system_prompt: SystemPrompt | None = None
    model: Model | None = None
    template_ref: TemplateRef | None = None
    role: Role | None = None
    connectors: Annotated[list[str] | None, Field(max_length=64)] = None
    namespace: Name | None = None


class PatchAgent(Body):
    """`PATCH /agents/{name}`: all or nothing. `instructions` assign a task, as POST does."""

    instructions: Instructions | None = None
    system_prompt: SystemPrompt | None = None
    model: Model | None = None
    template_ref: TemplateRef | None = None
    role: Role | None = None
    connectors: Annotated[list[str] | None, Field(max_length=64)] = None


def settings_given(body: CreateAgent | PatchAgent) -> dict[str, Any]:
    """The fields of spec that a body names."""
    found = {
        "systemPrompt": body.system_prompt,
        "model": body.model,
        "templateRef": body.template_ref,
        "role": body.role,
        "connectors": body.connectors,
    }
    return {field: value for field, value in found.items() if value is not None}


class AgentCreated(BaseModel):
    """The answer to `POST /agents`."""

    name: str
    namespace: str
    model: str
    status: str
    createdAt: str


class AgentResponse(BaseModel):
    """An agent, as of now: `taskStatus` and `lastTaskMessage` are newer than the resource's status."""

    model_config = ConfigDict(extra="allow")

    name: str
    namespace: str
    model: str
    status: str
    createdAt: str
    taskStatus: str | None = None
    lastTaskMessage: str | None = None
    lastTaskOutcome: str | None = None
    lastTaskCostUSD: str | None = None
    totalCostUSD: str | None = None


class AgentList(BaseModel):
    agents: list[AgentResponse]


class EventBody(BaseModel):
    id: str
    agentName: str
    namespace: str
    type: str
    timestamp: str
    payload: dict[str, Any]


class EventPage(BaseModel):
    agent: str
    events: list[EventBody]
    gap: bool | None = None


class Done(BaseModel):
    status: str
    name: str


class ErrorBody(BaseModel):
    error: str
    code: str


def explain(errors: Iterable[dict[str, Any]]) -> tuple[str, str | None]:
    """The first problem that pydantic found as a sentence, and the field's name."""
    first = next(iter(errors))
    path = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path", "header"))
    if first["type"] == "json_invalid":
        return "the body is not JSON", None
    if first["type"] == "missing" and not path:
        return "the body is missing: send a JSON object", None
    if first["type"] == "missing":
        return f"{path} is required", path
    if first["type"] == "string_too_short" or (
        first["type"] == "string_pattern_mismatch" and path in ("instructions", "content")
    ):
        return f"{path} must not be empty", path
    if first["type"] == "model_attributes_type":
        return "the body must be a JSON object", None
    if first["type"] == "value_error":
        return f"{path} {first['ctx']['error']}", path
    message = first["msg"][0].lower() + first["msg"][1:]
    return f"{path or 'body'}: {message}", path or None
