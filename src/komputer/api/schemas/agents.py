"""Requests and responses of `/api/v1/agents`."""

from typing import Annotated, Any, ClassVar, Final, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
)
from pydantic.alias_generators import to_camel

from komputer.api.schemas.responses import ResponseBase
from komputer.domain import labels as labelling
from komputer.domain import names, secret
from komputer.domain.agent import (
    EMPTY,
    INSTRUCTIONS_LIMIT_BYTES,
    PROMPT_LIMIT_BYTES,
    AgentTaskSettings,
    Model,
    is_model_alias,
)
from komputer.domain.base import WireModel
from komputer.domain.errors import Invalid
from komputer.events.schema import TEXT_LIMIT
from komputer.services.agents.view import AgentSummary, AgentView

KEPT_WHERE_EMPTY = ("model", "templateRef", "role")
"""Fields that an empty text in `POST /agents` leaves unchanged."""


def _text(value: Any) -> Any:
    """Refuse text that UTF-8 cannot encode: a lone surrogate cannot be stored, sent or shown."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("is not valid Unicode text (it has a lone surrogate)") from None
    return value


def _within(limit_bytes: int) -> BeforeValidator:
    def check(value: Any) -> Any:
        if isinstance(_text(value), str) and len(value.encode()) > limit_bytes:
            raise ValueError(f"is longer than {limit_bytes // 1024} KiB")
        return value

    return BeforeValidator(check)


def _agent_name(value: Any) -> Any:
    if isinstance(value, str) and not names.is_agent_name(value):
        raise ValueError("must be 1 to 63 lower-case letters, digits and hyphens, the first and last no hyphen")
    return value


def _template_name(value: Any) -> Any:
    if isinstance(value, str) and not all(names.is_agent_name(part) for part in value.split(".")):
        raise ValueError("must be the name of a template: lower-case letters, digits, hyphens and dots")
    return value


def _is_map_of_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(part, str) for pair in value.items() for part in pair)


def _labels(value: Any) -> Any:
    if _is_map_of_texts(value) and (wrong := labelling.fault(value)):
        raise ValueError(wrong)
    return value


def _label_keys(value: Any) -> Any:
    for key in value if isinstance(value, list) else ():
        if isinstance(key, str) and (labelling.key_fault(key) or labelling.is_reserved(key)):
            raise ValueError(labelling.key_fault(key) or f"{key!r} has a prefix that the platform keeps for itself")
    return value


def _secret_data(value: Any) -> Any:
    if _is_map_of_texts(value) and (wrong := secret.fault({key: _text(text) for key, text in value.items()})):
        raise ValueError(wrong)
    return value


def _object_name(value: Any) -> Any:
    if isinstance(value, str) and not (len(value) <= 253 and all(names.is_agent_name(p) for p in value.split("."))):
        raise ValueError(f"{value[:100]!r} is not the name of an object: lower-case letters, digits, hyphens and dots")
    return value


Name = Annotated[str, BeforeValidator(_agent_name)]
ObjectName = Annotated[str, BeforeValidator(_object_name)]
TemplateRef = Annotated[str, BeforeValidator(_template_name), Field(max_length=253)]
Instructions = Annotated[str, _within(INSTRUCTIONS_LIMIT_BYTES), Field(min_length=1, pattern=r"\S")]
SystemPrompt = Annotated[str, _within(PROMPT_LIMIT_BYTES)]
SecretData = Annotated[dict[str, str], BeforeValidator(_secret_data)]
Labels = Annotated[dict[str, str], BeforeValidator(_labels)]
LabelKeys = Annotated[list[str], BeforeValidator(_label_keys), Field(max_length=labelling.LIMIT)]


class Body(BaseModel):
    """A request body: camelCase, strict types. Unknown fields are ignored and named in `warnings` of the response. A
    null is an absent field."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow", strict=True)

    unsupported: ClassVar[tuple[str, ...]] = ()
    """Fields of published clients that have no effect yet. They are refused rather than ignored silently."""
    refused_elsewhere: ClassVar[tuple[str, ...]] = ()
    """Other known fields, which an operation refuses with a message of its own."""

    def refuse_unsupported(self) -> None:
        """Raise `Invalid` (`not_supported`) for a field that would be ignored otherwise."""
        for field in self.unsupported:
            if (self.model_extra or {}).get(field) not in (None, "", 0, [], {}):
                raise Invalid(
                    f"{field} is not supported by this version; leave it out", code="not_supported", field=field
                )


def _no_alias(model: str) -> str:
    if is_model_alias(model):
        raise ValueError("is an alias; write the model's id, for example claude-sonnet-4-6")
    return model


OrEmpty = WrapValidator(lambda value, check: value if value == "" else check(value))
"""An empty text is not checked; its meaning is defined where the field is used."""


_TEXTS: Final = frozenset(
    name
    for name, info in AgentTaskSettings.model_fields.items()
    if list not in [get_origin(part) for part in get_args(info.annotation)]
)
"""The settings that are not lists: an empty text clears them too."""


class AgentSettings(AgentTaskSettings, Body):
    """The settings that may be given when an agent is created and later. An empty value (`""`, `[]`, 0) clears a
    setting; a null is an absent field."""

    unsupported: ClassVar[tuple[str, ...]] = (
        "archiveTTL",
        "budgetUSD",
        "deleteTTL",
        "lifecycle",
        "memories",
        "officeManager",
        "podSpec",
        "priority",
        "skills",
        "sleepTTL",
        "storage",
        "taskBudgetUSD",
        "taskTimeout",
    )

    system_prompt: SystemPrompt | None = None
    model: Annotated[Model, AfterValidator(_no_alias)] | None = None
    template_ref: Annotated[TemplateRef | None, OrEmpty] = None
    secret_refs: Annotated[list[ObjectName] | None, Field(max_length=64)] = None
    labels: Labels | None = None

    @field_validator(*AgentTaskSettings.model_fields, mode="wrap")
    @classmethod
    def _empty_text_clears(cls, value: Any, check: ValidatorFunctionWrapHandler, field: ValidationInfo) -> Any:
        """An empty text is not checked where a text is expected: `settings_given` turns it into None."""
        return value if value == "" and field.field_name in _TEXTS else check(value)


class CreateAgent(AgentSettings):
    """`POST /agents`: a new agent, or the next task of one that exists."""

    name: Name
    instructions: Instructions
    namespace: Name | None = None
    secrets: SecretData | None = None


class PatchAgent(AgentSettings):
    """`PATCH /agents/{name}`: all or nothing. `instructions` assign a task, as POST does."""

    refused_elsewhere: ClassVar[tuple[str, ...]] = ("secrets",)

    instructions: Instructions | None = None
    remove_labels: LabelKeys | None = None

    def refuse_unsupported(self) -> None:
        super().refuse_unsupported()
        if (self.model_extra or {}).get("secrets") is not None:
            raise Invalid(
                "secrets cannot be patched; POST /api/v1/agents gives an agent new ones with its next task, and "
                "PATCH /api/v1/secrets/<agent>-secrets replaces them",
                code="not_supported",
                field="secrets",
            )


def settings_given(body: CreateAgent | PatchAgent) -> dict[str, Any]:
    """The fields of spec that a body names; None for one that it clears. See `agents.claim.change`."""
    named: dict[str, Any] = {
        info.alias or name: getattr(body, name) for name, info in AgentTaskSettings.model_fields.items()
    }
    named |= {"templateRef": body.template_ref, "secrets": body.secret_refs}
    given = {field: None if value in EMPTY else value for field, value in named.items() if value is not None}
    if isinstance(body, CreateAgent):
        # Published clients send these fields empty if the user did not set them.
        given = {field: given[field] for field in given if field not in KEPT_WHERE_EMPTY or given[field] is not None}
    labels: dict[str, str | None] = dict(body.labels or {})
    if isinstance(body, PatchAgent):
        labels = dict.fromkeys(body.remove_labels or ()) | labels
    return given | ({"labels": labels} if labels else {})


class MessageRequest(Body):
    """`POST /agents/{name}/messages`."""

    content: Annotated[str, BeforeValidator(_text), Field(min_length=1, max_length=TEXT_LIMIT, pattern=r"\S")]


class Compact(Body):
    """`POST /agents/{name}/compact`. `instructions` say what the summary must keep."""

    instructions: Annotated[str, BeforeValidator(_text), Field(max_length=TEXT_LIMIT)] | None = None


class AgentCreated(AgentSummary, ResponseBase):
    """The answer to `POST /agents`."""


class AgentResponse(AgentView, ResponseBase):
    """An agent as of now. `taskStatus` and `lastTaskMessage` may be newer than the resource's status."""


class AgentListFacets(WireModel):
    """What a list may be filtered by: `key=value` of the labels that users have set, and namespaces."""

    labels: list[str]
    namespaces: list[str]


class AgentList(WireModel):
    """One page of agents. `total` counts all that match the filters."""

    agents: list[AgentView]
    total: int
    next_offset: Annotated[int | None, Field(description="`offset` of the next page; absent on the last one.")] = None
    facets: AgentListFacets


class MessageAccepted(ResponseBase):
    """The message was stored as the event `id`, for the task `taskID`."""

    status: Literal["accepted"]
    name: str
    id: str
    task_id: Annotated[str, Field(alias="taskID")]


class AgentAccepted(ResponseBase):
    """The accepted operation and the agent's name."""

    status: Literal["cancelling", "compacting"]
    name: str
