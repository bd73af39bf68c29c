"""What every custom resource of ours is made of."""

import copy
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from komputer.domain import names
from komputer.domain.ref import ObjectRef

Manifest = dict[str, Any]
"""A Kubernetes object as JSON."""

CONDITION_LIMIT = 1024
"""Characters of a condition's message; longer ones are cut. Kubernetes' own limit is 32768; a person reads one line."""


class WireModel(BaseModel):
    """A piece of a resource: camelCase on the wire, snake_case here, unknown fields ignored, never changed in place."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True, serialize_by_alias=True
    )

    def to_wire(self) -> Manifest:
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


Preserved = Annotated[
    dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True, "type": "object"})
]
"""A part that Kubernetes itself defines and checks (a PodSpec): kept as it comes."""

Int32 = Annotated[int, Field(ge=-(2**31), le=2**31 - 1, json_schema_extra={"format": "int32"})]


def _within_64_bits(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise ValueError("must have 64 bits at most")
    return value


Int64 = Annotated[int, AfterValidator(_within_64_bits), Field(json_schema_extra={"format": "int64"})]
Decimal4 = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?$", max_length=40)]
"""US dollars as a decimal string; ours have at least four fraction digits."""


class Condition(WireModel):
    """As metav1.Condition. `reason` is CamelCase and stable, `message` is for people."""

    type: Annotated[str, Field(description="What the condition is about, in CamelCase, such as Ready.", max_length=316)]
    status: Annotated[
        Literal["True", "False", "Unknown"], Field(description="Whether the condition holds: True, False or Unknown.")
    ]
    reason: Annotated[
        str, Field(description="Why, as one CamelCase word that programs may compare.", max_length=1024)
    ] = ""
    message: Annotated[str, Field(description="Why, as a sentence for people.", max_length=32768)] = ""
    observed_generation: Annotated[
        Int64 | None, Field(description="metadata.generation of the object that the condition was judged by.")
    ] = None
    last_transition_time: Annotated[
        str | None,
        Field(description="When the status of the condition last changed.", json_schema_extra={"format": "date-time"}),
    ] = None


class Metadata(WireModel):
    """The fields of ObjectMeta that we read."""

    name: str = ""
    namespace: str | None = None
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    owner_references: list[dict[str, Any]] = Field(default_factory=list)


class Resource(WireModel):
    """A custom resource. Subclasses say their names and columns; `crds.py` makes the manifests of them."""

    kind_name: ClassVar[str]
    plural: ClassVar[str]
    namespaced: ClassVar[bool] = True
    columns: ClassVar[tuple["PrinterColumn", ...]] = ()

    metadata: Metadata = Field(default_factory=Metadata)

    @classmethod
    def as_controller(cls, name: str, uid: str) -> Manifest:
        """The ownerReference of a child, which is deleted with its owner."""
        return {
            "apiVersion": names.API_VERSION,
            "kind": cls.kind_name,
            "name": name,
            "uid": uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }

    @classmethod
    def salvaged(cls, manifest: Manifest, within: str | None = None) -> tuple[Self, list[str]]:
        """The object without the values that do not fit (of `within`, such as `status`, if given), and their paths: one
        that was written past our schema, or by another version, is read as far as it can be. For showing only: what is
        decided is decided on whole objects. Raises `ValidationError` where a required field outside of lists and
        optional objects does not fit."""
        left_out: list[str] = []
        while True:
            try:
                return cls.model_validate(manifest), left_out
            except ValidationError as wrong:
                places = [_to_drop(error) for error in wrong.errors(include_input=False, include_url=False)]
                if any(len(place) < 2 or within not in (None, place[0]) for place in places):
                    raise
                if not left_out:
                    manifest = copy.deepcopy(manifest)
                # From the end, so that the indexes before it stay what they are.
                order = sorted(set(places), key=lambda place: [(isinstance(part, str), part) for part in place])
                gone = [place for place in reversed(order) if _dropped(manifest, place)]
                if not gone:
                    raise
                left_out += [".".join(map(str, place)) for place in gone]

    @property
    def ref(self) -> ObjectRef:
        """Namespace and name."""
        return ObjectRef(self.metadata.namespace or "", self.metadata.name)

    @property
    def key(self) -> str:
        """`namespace/name`, as logs write it."""
        return str(self.ref)

    @property
    def is_terminating(self) -> bool:
        return self.metadata.deletion_timestamp is not None


def _to_drop(error: ErrorDetails) -> tuple[str | int, ...]:
    """The path of the value that is to be left out: of a required field that is missing, the object around it."""
    place = error["loc"][:-1] if error["loc"][-1:] == ("[key]",) else error["loc"]
    return place[:-1] if error["type"] == "missing" else place


def _dropped(manifest: Any, place: tuple[str | int, ...]) -> bool:
    """Takes the value at `place` out of `manifest`. False where it is not there, or is gone with what was around it."""
    try:
        for part in place[:-1]:
            manifest = manifest[part]
        del manifest[place[-1]]
    except (KeyError, IndexError, TypeError):
        return False
    return True


def fields_of(manifest: Manifest, part: Literal["spec", "status"]) -> Manifest:
    """`spec` or `status`; empty where that is missing, or is no object. Its fields may be anything."""
    found = manifest.get(part)
    return found if isinstance(found, dict) else {}


def texts_in(value: Any) -> list[str]:
    """The texts of a list; of anything else none."""
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


class PrinterColumn(WireModel):
    """A printer column of `kubectl get`. Priority 1 shows with `-o wide` only."""

    name: str
    type: Literal["string", "integer", "date", "boolean", "number"]
    json_path: Annotated[str, Field(alias="jsonPath")]
    priority: int = 0
    description: str = ""


AGE = PrinterColumn(name="Age", type="date", json_path=".metadata.creationTimestamp")


def rfc3339(moment: datetime) -> str:
    """Whole seconds, UTC, `Z`: how Kubernetes writes times."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def with_condition(conditions: list[Condition], new: Condition, now: datetime) -> list[Condition]:
    """The list with `new` in place of the one of its type; the transition time moves only with the status."""
    old = next((c for c in conditions if c.type == new.type), None)
    since = old.last_transition_time if old and old.status == new.status else None
    message = new.message if len(new.message) <= CONDITION_LIMIT else new.message[: CONDITION_LIMIT - 1] + "…"
    kept = new.model_copy(update={"last_transition_time": since or rfc3339(now), "message": message})
    return [kept if c.type == new.type else c for c in conditions] if old else [*conditions, kept]
