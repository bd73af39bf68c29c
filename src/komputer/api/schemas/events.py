"""Events as clients read them. Answers contain the JSON of the event log as it is; the models here document it."""

from typing import Any, Final, Literal, get_args

from pydantic import BaseModel, Field, create_model
from pydantic.json_schema import models_json_schema

from komputer.domain.base import WireModel
from komputer.events.entries import UNREADABLE
from komputer.events.schema import Event, EventBase

ABOUT: Final = "One event of an agent. A later version may add types: skip those that you do not know."


class EventBody(WireModel):
    """What all events have in common. The OpenAPI document replaces this schema by the union of all types."""

    id: str = Field(description="The event's cursor: `<milliseconds>-<microseconds>`.")
    agent_name: str
    namespace: str
    type: str
    timestamp: str = Field(description="RFC 3339, UTC, six fraction digits.")
    payload: dict[str, Any]


class EventPage(WireModel):
    """Events of one agent, oldest first."""

    agent: str
    events: list[EventBody]
    gap: bool | None = Field(None, description="Whether events after the cursor are no longer kept.")
    cut: bool | None = Field(None, description="Whether the page ends early because of its size.")


class UnreadablePayload(BaseModel):
    """Replaces a log entry that is not an event."""

    error: str


def event_schemas(ref_template: str) -> dict[str, Any]:
    """Return JSON schemas by name: one for each type of event, one for its payload, and `EventBody`, their union."""
    types = {kind.model_fields["type"].default: _documented(kind) for kind in get_args(Event)}
    types[UNREADABLE] = _event_model("Unreadable", UNREADABLE, UnreadablePayload)
    _, found = models_json_schema([(model, "serialization") for model in types.values()], ref_template=ref_template)
    schemas: dict[str, Any] = found["$defs"]
    references = {kind: ref_template.format(model=model.__name__) for kind, model in types.items()}
    schemas[EventBody.__name__] = {
        "description": ABOUT,
        "oneOf": [{"$ref": reference} for reference in references.values()],
        "discriminator": {"propertyName": "type", "mapping": references},
    }
    return schemas


def _documented(kind: type[EventBase]) -> type[BaseModel]:
    """Return a model of the events of one type. On the wire the type stands beside the payload, not in it."""
    fields: dict[str, Any] = {
        name: (info.annotation, info) for name, info in kind.model_fields.items() if name != "type"
    }
    payload = create_model(f"{kind.__name__}Payload", __doc__=kind.__doc__, **fields)
    return _event_model(kind.__name__, kind.model_fields["type"].default, payload)


def _event_model(name: str, kind: str, payload: type[BaseModel]) -> type[BaseModel]:
    fields: dict[str, Any] = {"type": (Literal[kind], ...), "payload": (payload, ...)}
    return create_model(f"{name}Event", __base__=EventBody, __doc__=payload.__doc__, **fields)
